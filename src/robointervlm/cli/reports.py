"""The commands `report` and `compare`: what scored runs say, alone and beside each other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from robointervlm.core.errors import RecipeError
from robointervlm.report.benchmark import NamedRun, TableName, benchmark_tables
from robointervlm.report.benchmark_formats import Format, written
from robointervlm.report.scored import read_scored
from robointervlm.runs.files import write_atomically


def report(  # noqa: PLR0913 - one per flag
    runs: Annotated[list[Path], typer.Argument(metavar="RUN…", help="Folders that were scored.")],
    *,
    examples: Annotated[int, typer.Option(min=0, help="Number of worst, best and random samples per task.")] = 6,
    table: Annotated[
        TableName | None,
        typer.Option(help="Print the paper's table with these runs in it: 3 is manipulation, 2 is third-party."),
    ] = None,
    layout: Annotated[Format, typer.Option("--format", help="The format of that table.")] = "md",
    out: Annotated[Path | None, typer.Option(help="Write that table into this file instead.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Also take runs whose questions or protocol differ.")] = False,
) -> None:
    """Write report.md, report.html and the logs of scored runs; with --table, the benchmark table instead.

    report.html is one file with the pictures in it; open it in a browser, or send it to somebody.

    For example:

      robointer report runs/eval --examples 12

      robointer report runs/ours runs/base --table paper --format html --out table.html
    """
    from robointervlm.report.write import write_report
    from robointervlm.runs.settings import use_recorded_plugins

    if table is not None:
        text = written(benchmark_tables(_named_runs(runs), table, force=force), layout)
        if out is None:
            typer.echo(text, nl=False)
        else:
            write_atomically(out, text)
            typer.echo(f"{out}")
        return
    if out is not None or force or layout != "md":
        raise RecipeError("--format, --out and --force are about the benchmark table: add --table paper.")
    for folder in runs:
        use_recorded_plugins(folder)
        typer.echo(write_report(folder, examples=examples).summary)
        typer.echo(f"{folder / 'report.html'} shows the pictures.")


def compare(  # noqa: PLR0913 - one per flag
    first: Annotated[Path, typer.Argument(metavar="A", help="A scored run.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="Another one, of the same questions.")],
    *,
    metric: Annotated[list[str] | None, typer.Option(help="Only this metric; may be given again.")] = None,
    task: Annotated[list[str] | None, typer.Option(help="Only this task; may be given again.")] = None,
    see: Annotated[
        float | None, typer.Option(min=0, help="A difference to plan for: how many questions would show it.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Where compare.md and compare.json go: a folder, or x.md.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Compare even if something else was asked.")] = False,
) -> None:
    """Tell whether one scored run is better than another, question by question, and how sure that is.

    Exit code 0: compared, whoever is better. 2: the runs were not asked or scored alike (--force compares them all the
    same), or a task or metric is in neither. 3: a folder holds no scored run.

    Example: robointer compare runs/demo/trained runs/demo/untrained --metric "ACC@IoU>0.1"
    """
    from robointervlm.evaluate import compare as comparing
    from robointervlm.report.comparison import comparison_markdown, comparison_summary

    files = None if out is None else _files(out)
    sides = [comparing.Side(each.name, each.run.report, each.run.samples) for each in _named_runs([first, second])]
    wanted = comparing.Wanted(tuple(task or ()), tuple(metric or ()), see)
    comparison = comparing.compare(sides[0], sides[1], wanted, force=force)
    typer.echo(comparison_summary(comparison))
    if files is not None:
        markdown, data = files
        write_atomically(markdown, comparison_markdown(comparison))
        write_atomically(data, json.dumps(comparison, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
        typer.echo(f"\n{markdown}\n{data}")


def _files(out: Path) -> tuple[Path, Path]:
    """The two files of `--out`: `compare.md` and `compare.json` in a folder, or the given name with both endings."""
    if out.suffix in (".md", ".json"):
        return out.with_suffix(".md"), out.with_suffix(".json")
    if out.suffix and not out.is_dir():
        raise RecipeError(f"--out {out}: a folder, or a file that ends in .md or .json, is expected.")
    return out / "compare.md", out / "compare.json"


def _named_runs(folders: list[Path]) -> list[NamedRun]:
    """The runs under their models' names, with the folder where two models share one."""
    from robointervlm.runs.settings import use_recorded_plugins

    for folder in folders:
        use_recorded_plugins(folder)
    found = [read_scored(folder) for folder in folders]
    names = [run.model_name for run in found]
    return [
        NamedRun(f"{run.model_name} ({folder})" if names.count(run.model_name) > 1 else run.model_name, run)
        for folder, run in zip(folders, found, strict=True)
    ]
