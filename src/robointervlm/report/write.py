"""Everything a scored run is shown as, written into its folder: tables, page, and the documented logs.

A log is `{model_name}_{task_type}.log`: a result per sample, the aggregate metrics, the performance.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from robointervlm.report.page import page
from robointervlm.report.scored import ScoredRun, read_scored
from robointervlm.report.tables import aligned, markdown, summary
from robointervlm.runs.files import in_file_name, write_atomically


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


def write_logs(
    run: ScoredRun, folder: Path, *, model_name: str | None = None, task_type: str | None = None
) -> list[Path]:
    """One log per task of the run, or one of all its tasks if `task_type` names it; the files written."""
    groups = list(run.report["tasks"])
    logs = [(task_type, groups)] if task_type is not None else [(group["task"], [group]) for group in groups]
    written = []
    for kind, mine in logs:
        # The documented name; what a file name cannot hold becomes an underscore.
        path = folder / f"{in_file_name(model_name or run.model_name)}_{in_file_name(kind)}.log"
        write_atomically(path, log_text(run, mine))
        written.append(path)
    return written


def log_text(run: ScoredRun, groups: Sequence[Mapping[str, Any]], about: Mapping[str, str] | None = None) -> str:
    """The log of these groups of a run; `about` are more lines for its head."""
    tasks = {group["task"] for group in groups}
    samples = [sample for sample in run.samples if sample["task"] in tasks]
    statuses = [
        f"{group['task']} statuses: {', '.join(f'{count} {status}' for status, count in group['statuses'].items())}"
        for group in groups
    ]
    performance = [
        (name, "–" if value is None else f"{value:.4g}" if isinstance(value, float) else value)
        for name, value in run.performance.items()
    ]
    lines = [
        f"model: {run.model_name}",
        f"tasks: {', '.join(group['task'] for group in groups)}",
        *(f"{name}: {value}" for name, value in (about or {}).items()),
        "",
        "== Inference results ==",
        *(_sample_line(sample) for sample in samples),
        "",
        "== Aggregate metrics ==",
        *aligned(groups),
        *statuses,
        "",
        "== Performance statistics (whole run) ==",
        *(f"{name}: {value}" for name, value in performance),
        "",
    ]
    return "\n".join(lines)


def _sample_line(sample: Mapping[str, Any]) -> str:
    # As JSON, so that a reply with line breaks or terminal codes stays on its line.
    said = {
        "id": sample["id"],
        "status": sample["status"],
        **({"reason": sample["reason"]} if sample["reason"] else {}),
        "prediction": sample["reply"],
        "ground_truth": sample["raw_answer"],
        **{name: round(value, 6) for name, value in sample["strict"].items()},
    }
    return json.dumps(said)
