"""The documented log `{model_name}_{task_type}.log`: a result per sample, the aggregate metrics, the performance."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from robointervlm.report.scored import ScoredRun
from robointervlm.report.tables import aligned
from robointervlm.runs.files import in_file_name, write_atomically


def write_logs(
    run: ScoredRun, folder: Path, *, model_name: str | None = None, task_type: str | None = None
) -> list[Path]:
    """One log per task of the run, or one of all its tasks if `task_type` names it; the files written."""
    name = model_name or run.model_name
    groups = list(run.report["tasks"])
    if task_type is not None:
        return [_write(run, groups, folder / _file_name(name, task_type))]
    return [_write(run, [group], folder / _file_name(name, group["task"])) for group in groups]


def _file_name(model_name: str, task_type: str) -> str:
    """The documented name; what a file name cannot hold becomes an underscore."""
    return f"{in_file_name(model_name)}_{in_file_name(task_type)}.log"


def _write(run: ScoredRun, groups: list[Mapping[str, Any]], path: Path) -> Path:
    write_atomically(path, log_text(run, groups))
    return path


def log_text(run: ScoredRun, groups: Sequence[Mapping[str, Any]], about: Mapping[str, str] | None = None) -> str:
    """The log of these groups of a run; `about` are more lines for its head."""
    tasks = {group["task"] for group in groups}
    samples = [sample for sample in run.samples if sample["task"] in tasks]
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
        *(f"{group['task']} statuses: {_statuses(group)}" for group in groups),
        "",
        "== Performance statistics (whole run) ==",
        *(f"{name}: {_shown(value)}" for name, value in run.performance.items()),
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


def _statuses(group: Mapping[str, Any]) -> str:
    return ", ".join(f"{count} {status}" for status, count in group["statuses"].items())


def _shown(value: object) -> str:
    return "–" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
