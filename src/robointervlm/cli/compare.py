"""The command `compare`, and what scored runs that stand beside each other are called."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from robointervlm.core.errors import RecipeError
from robointervlm.report.scored import ScoredRun, read_scored


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
    from robointervlm.runs.files import write_atomically

    files = None if out is None else _files(out)
    sides = [comparing.Side(name, run.report, run.samples) for name, run in named_runs([first, second])]
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


def named_runs(folders: list[Path]) -> list[tuple[str, ScoredRun]]:
    """The scored runs, each under its model's name, with the folder where two models share one.

    Raises `DataError` for a folder without a scored run.
    """
    from robointervlm.runs.settings import use_recorded_plugins

    for folder in folders:
        use_recorded_plugins(folder)
    found = [read_scored(folder) for folder in folders]
    names = [run.model_name for run in found]
    return [
        (f"{name} ({folder})" if names.count(name) > 1 else name, run)
        for name, folder, run in zip(names, folders, found, strict=True)
    ]
