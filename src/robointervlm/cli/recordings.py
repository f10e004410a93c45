"""`robointer data build --source lerobot`: what the command does with recordings."""

from __future__ import annotations

from pathlib import Path

import typer
from rich.console import Console
from rich.table import Table

from robointervlm.core.errors import ExitCode, RecipeError
from robointervlm.episodes.lerobot.build import PROBLEMS_FILE, LeRobotConfig, LeRobotReport, build_lerobot
from robointervlm.episodes.lerobot.mapping import ROBOINTER, read_mapping

_SHOWN = 20


def build_recordings(  # noqa: PLR0913 - one per option
    folder: Path | None,
    out: Path,
    *,
    mapping: Path | None,
    camera: str | None,
    frames: int,
    val_share: float,
    workers: int | None,
) -> None:
    """Builds the dataset, prints what was made and what is wrong; exit code 3 if episodes had to be left out."""
    if folder is None:
        raise RecipeError("--source lerobot needs --from FOLDER, the folder of a LeRobot dataset.")
    config = LeRobotConfig(folder, read_mapping(mapping or ROBOINTER), camera, frames, val_share)
    report = build_lerobot(config, out, workers=workers, console=_console(stderr=True))
    _print(report)
    if report.errors:
        raise typer.Exit(ExitCode.BAD_INPUT)


def _print(report: LeRobotReport) -> None:
    console = _console()
    title = f"{report.made} episodes made, {report.reused} found ready, {report.errors} left out"
    table = Table("split", "task", "records", title=title)
    for split, counts in report.records.items():
        for task, count in counts.items():
            table.add_row(split, task, str(count))
    console.print(table)
    for problem in report.problems[:_SHOWN]:
        colour = "red" if problem.severity == "error" else "yellow"
        line = f"{problem.severity}: episode {problem.episode}: {problem.reason}"
        console.print(line, style=colour, markup=False, highlight=False, soft_wrap=True)
    if report.problems:
        console.print(
            f"All {len(report.problems)} are in {report.root / PROBLEMS_FILE}.", highlight=False, soft_wrap=True
        )
    console.print(f"Use them with --catalog {report.root}.", highlight=False, soft_wrap=True)


def _console(*, stderr: bool = False) -> Console:
    """The terminal; where the output is not one, lines are long enough to be searched."""
    console = Console(stderr=stderr)
    return console if console.is_terminal else Console(stderr=stderr, width=200)
