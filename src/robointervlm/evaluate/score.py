"""Reads and measures the recorded answers of a run: no model, no dataset, no torch, and as often as wanted.

The rules are those of `evaluate.aggregate`: everything requested is in the denominator, and a failure is never better
than an answer.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from robointervlm.core.answer import Unparsed
from robointervlm.evaluate.aggregate import report_of
from robointervlm.evaluate.records import RECORDS, Requested, read_requested, space_of
from robointervlm.evaluate.scored import Scored, sample_entry
from robointervlm.inference.judging import STATUSES, Status
from robointervlm.runs.files import write_atomically
from robointervlm.runs.journal import Entry, read_journal
from robointervlm.tasks import Case, task_named

__all__ = [
    "PERFORMANCE",
    "REPORT",
    "SAMPLES",
    "SAMPLE_TABLE",
    "Scored",
    "performance",
    "report_of",
    "sample_entry",
    "score",
    "score_all",
    "score_one",
    "write_samples",
    "write_table",
]

logger = logging.getLogger(__name__)

SAMPLES = "samples.jsonl"
SAMPLE_TABLE = "samples.parquet"
REPORT = "report.json"
PERFORMANCE = "performance.json"

# The columns of `samples.parquet` that are texts of an entry as they are.
_TEXTS = ("id", "dataset", "task", "episode", "skill", "status", "reason", "tier")
# Metrics of these names become columns such as `strict.IoU`.
_SCORINGS = ("strict", "paper")


def score(folder: Path) -> dict[str, object]:
    """Scores the run in a folder and writes `report.json`, `samples.jsonl` and `performance.json` there; the report.

    With pyarrow installed also `samples.parquet`. The report and the samples hold no times: the same answers give the
    same bytes, however often the run was killed.
    """
    with _without_garbage_collection():
        requested = read_requested(folder)
        content = read_journal(folder / RECORDS)
        if content.bad_lines or content.torn_tail:
            logger.warning("%s has damaged lines; they count as missing until predict is rerun.", folder / RECORDS)
        records = {str(entry["key"]): entry for entry in content.entries}
        scored = score_all(requested.questions, records)
        report = report_of(requested, scored)
        write_samples(folder, scored)
        write_atomically(folder / PERFORMANCE, json.dumps(performance(scored), indent=2) + "\n")
        write_atomically(folder / REPORT, json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    return report


@contextlib.contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Leaves cyclic garbage uncollected in the block.

    Scoring makes millions of small objects without a cycle among them, and keeps them: looking through all of them
    again and again was a quarter of the time.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def score_all(questions: Iterable[Requested], records: Mapping[str, Entry]) -> list[Scored]:
    """Every question with its answer read anew and measured, in order; `records` are the journal's, by key."""
    scored = [_read(question, records.get(question.key)) for question in questions]
    by_task: dict[str, list[Scored]] = {}
    for each in scored:
        if each.predicted is not None and each.reference is not None:
            by_task.setdefault(each.requested.task, []).append(each)
    for task, readable in by_task.items():
        cases = [
            Case(each.predicted, each.reference, each.image_size)
            for each in readable
            if each.predicted is not None and each.reference is not None
        ]
        for metric in task_named(task).metrics:
            for each, value in zip(readable, metric.measured(cases), strict=True):
                each.values[metric.name] = value
    return scored


def score_one(requested: Requested, record: Entry | None) -> Scored:
    """The question with its answer read anew and measured; without a record it is `missing`."""
    return score_all([requested], {} if record is None else {requested.key: record})[0]


def _read(requested: Requested, record: Entry | None) -> Scored:
    """The question with its answer read, not yet measured."""
    if record is None:
        return Scored(requested, {}, "missing", "the run has not come to it")
    status: Status = next((status for status in STATUSES if status == record.get("status")), "model_error")
    reason = str(record.get("reason", ""))
    if status not in ("ok", "unparsable"):
        return Scored(requested, record, status, reason)
    question = str(record.get("prompt") or "")
    reading = task_named(requested.task).reading_of(str(record["reply"]), space_of(record), question)
    if isinstance(reading.answer, Unparsed):
        return Scored(requested, record, "unparsable", reading.answer.reason, reading)
    return Scored(requested, record, "ok", "", reading)


def write_samples(folder: Path, scored: Iterable[Scored]) -> None:
    """Writes `samples.jsonl`, and `samples.parquet` where pyarrow is installed."""
    entries = [sample_entry(each) for each in scored]
    lines = []
    for entry in entries:
        text = json.dumps(entry, ensure_ascii=False, allow_nan=False)
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            # A lone surrogate of a model's answer has no UTF-8; the escaped form says the same.
            text = json.dumps(entry, allow_nan=False)
        lines.append(text + "\n")
    write_atomically(folder / SAMPLES, "".join(lines))
    write_table(entries, folder / SAMPLE_TABLE)


def write_table(entries: Sequence[Mapping[str, Any]], path: Path) -> bool:
    """Writes the entries of `samples.jsonl` as Parquet; whether that could be done.

    Columns: `id`, `dataset`, `task`, `episode`, `skill`, `status`, `reason`, `tier`, `reply` (text), `image_width`,
    `image_height` (int32), `predicted`, `reference` (JSON text), and each metric as float64, null where a question has
    no such value. Without pyarrow a note says so, and a table of an earlier scoring is removed rather than left wrong.
    """
    try:
        pyarrow = importlib.import_module("pyarrow")
        parquet = importlib.import_module("pyarrow.parquet")
    except ImportError:
        path.unlink(missing_ok=True)
        logger.info("%s is not written, which needs pyarrow: pip install 'robointervlm[tables]'.", path.name)
        return False
    sink = pyarrow.BufferOutputStream()
    parquet.write_table(_table(entries, pyarrow), sink, compression="zstd")
    write_atomically(path, sink.getvalue().to_pybytes())
    return True


def _table(entries: Sequence[Mapping[str, Any]], pyarrow: Any) -> Any:
    columns: dict[str, Any] = {
        name: pyarrow.array([_text(entry.get(name)) for entry in entries], pyarrow.string()) for name in _TEXTS
    }
    columns["reply"] = pyarrow.array([_text(entry["reply"]) for entry in entries], pyarrow.string())
    for place, name in enumerate(("image_width", "image_height")):
        sizes = [entry["image_size"][place] if entry["image_size"] else None for entry in entries]
        columns[name] = pyarrow.array(sizes, pyarrow.int32())
    for name, key in (("predicted", "predicted"), ("reference", "answer")):
        answers = [None if entry[key] is None else json.dumps(entry[key]) for entry in entries]
        columns[name] = pyarrow.array(answers, pyarrow.string())
    for scoring in _SCORINGS:
        values = [entry.get(scoring) or {} for entry in entries]
        for metric in dict.fromkeys(metric for each in values for metric in each):
            columns[f"{scoring}.{metric}"] = pyarrow.array([each.get(metric) for each in values], pyarrow.float64())
    return pyarrow.table(columns)


def _text(value: object) -> str | None:
    # A model may write half of a surrogate pair, which has no UTF-8; a question mark stands for it here.
    return None if value is None else str(value).encode("utf-8", "replace").decode("utf-8")


def performance(scored: Iterable[Scored]) -> dict[str, object]:
    """How fast the answers came: per question the seconds the model reported, which in a batch are its share."""
    replied = [each.record for each in scored if each.record.get("seconds") is not None]
    seconds = sorted(_number(record, "seconds") for record in replied)
    tokens = sum(_number(record, "output_tokens") for record in replied)
    total = sum(seconds)
    return {
        "answered": len(replied),
        "seconds_total": round(total, 6),
        "samples_per_second": len(replied) / total if total else None,
        "tokens_per_second": tokens / total if total else None,
        "seconds_median": _quantile(seconds, 0.5),
        "seconds_p90": _quantile(seconds, 0.9),
        "input_tokens": sum(_number(record, "input_tokens") for record in replied),
        "output_tokens": tokens,
    }


def _number(record: Mapping[str, object], name: str) -> float:
    value = record.get(name)
    return value if isinstance(value, int | float) else 0.0


def _quantile(ordered: Sequence[float], share: float) -> float | None:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None
