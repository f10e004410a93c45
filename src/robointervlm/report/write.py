"""Everything a scored run is shown as, written into its folder."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from robointervlm.report.log import write_logs
from robointervlm.report.page import page
from robointervlm.report.scored import read_scored
from robointervlm.report.tables import markdown, summary
from robointervlm.runs.files import write_atomically


class Written(NamedTuple):
    """The table for a terminal, and the files."""

    summary: str
    files: tuple[Path, ...]


def write_report(folder: Path, *, examples: int = 6) -> Written:
    """Writes `report.md`, `report.html` and `logs/` of a scored run.

    The first two hold no times: the same answers give the same bytes. Raises `DataError` for a run that was not scored.
    """
    run = read_scored(folder)
    write_atomically(folder / "report.md", markdown(run.report))
    write_atomically(folder / "report.html", page(run, examples=examples).encode("utf-8", "replace"))
    logs = write_logs(run, folder / "logs")
    return Written(summary(run.report), (folder / "report.md", folder / "report.html", *logs))
