"""The command `report`: pages and logs of scored runs, or the paper's table with them in it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from robointervlm.cli.compare import named_runs
from robointervlm.core.errors import RecipeError
from robointervlm.report.benchmark import NamedRun, TableName, benchmark_tables
from robointervlm.report.benchmark_formats import Format, written
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
        named = [NamedRun(name, run) for name, run in named_runs(runs)]
        text = written(benchmark_tables(named, table, force=force), layout)
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
