"""Reads and measures the recorded answers of a run: no model, no dataset, no torch, and as often as wanted.

Strict rules. Everything requested is in the denominator. A failure is charged the worst value of a bounded metric.
A metric without an upper bound is shown over the readable answers, beside the share that is not readable, and once more
with each failure charged the metric's penalty.
"""

from __future__ import annotations

import json
import logging
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from robointervlm.core.answer import Answer, Unparsed
from robointervlm.core.coordinates import ImageSize
from robointervlm.core.reading import Reading, answer_from_json
from robointervlm.core.writing import answer_to_json
from robointervlm.evaluate.records import (
    RECORDS,
    SCHEMA,
    STATUSES,
    Requested,
    RequestedList,
    Status,
    read_requested,
    space_of,
)
from robointervlm.metrics.penalty import charged
from robointervlm.metrics.summary import cluster_interval, mean
from robointervlm.runs.files import write_atomically
from robointervlm.runs.journal import Entry, read_journal
from robointervlm.tasks import Metric, Task, task_named

logger = logging.getLogger(__name__)

SAMPLES = "samples.jsonl"
REPORT = "report.json"
PERFORMANCE = "performance.json"

# Of the bootstrap: the same answers give the same interval.
_SEED = 0


@dataclass(frozen=True)
class Scored:
    """One requested question with what became of it; `values` holds each metric of a readable answer."""

    requested: Requested
    record: Entry
    status: Status
    reason: str
    reading: Reading | None = None
    values: Mapping[str, float] = field(default_factory=dict)

    @property
    def predicted(self) -> Answer | None:
        """The answer in pixels of the stored picture; None if there is none."""
        answer = None if self.reading is None else self.reading.answer
        return None if isinstance(answer, Unparsed) else answer

    @property
    def image_size(self) -> ImageSize | None:
        size = self.record.get("image_size") or self.requested.image_size
        return ImageSize(*size) if isinstance(size, list | tuple) else None

    @property
    def cluster(self) -> str:
        """What the interval resamples: the episode, or the question itself where none is known."""
        return self.requested.episode or f"question {self.requested.key}"


def score(folder: Path) -> dict[str, object]:
    """Scores the run in a folder and writes `report.json`, `samples.jsonl` and `performance.json` there; the report.

    The report and the samples hold no times: the same answers give the same bytes, however often the run was killed.
    """
    requested = read_requested(folder)
    content = read_journal(folder / RECORDS)
    if content.bad_lines or content.torn_tail:
        logger.warning("%s has damaged lines; they count as missing until predict is rerun.", folder / RECORDS)
    records = {str(entry["key"]): entry for entry in content.entries}
    scored = [score_one(question, records.get(question.key)) for question in requested.questions]
    report = report_of(requested, scored)
    write_atomically(folder / SAMPLES, "".join(_json_line(sample_entry(each)) for each in scored))
    write_atomically(folder / PERFORMANCE, json.dumps(performance(scored), indent=2) + "\n")
    write_atomically(folder / REPORT, json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    return report


def score_one(requested: Requested, record: Entry | None) -> Scored:
    """The question with its answer read anew and measured; without a record it is `missing`."""
    if record is None:
        return Scored(requested, {}, "missing", "the run has not come to it")
    status, reason = _status(record), str(record.get("reason", ""))
    if status not in ("ok", "unparsable"):
        return Scored(requested, record, status, reason)
    task = task_named(requested.task)
    reading = task.reading(str(record["reply"]), space_of(record))
    if isinstance(reading.answer, Unparsed):
        return Scored(requested, record, "unparsable", reading.answer.reason, reading)
    scored = Scored(requested, record, "ok", "", reading)
    return replace(scored, values=_measured(task, scored))


def _status(record: Entry) -> Status:
    found = record.get("status")
    return next((status for status in STATUSES if status == found), "model_error")


def _measured(task: Task, scored: Scored) -> dict[str, float]:
    assert scored.predicted is not None
    if scored.requested.answer is None:
        return {}
    reference = answer_from_json(scored.requested.answer)
    return {metric.name: metric.measure(scored.predicted, reference, scored.image_size) for metric in task.metrics}


def report_of(requested: RequestedList, scored: Sequence[Scored]) -> dict[str, object]:
    """The whole report: statuses, then each task over all its datasets, then each dataset of each task."""
    tasks = dict.fromkeys(each.requested.task for each in scored)
    pairs = dict.fromkeys((each.requested.task, each.requested.dataset) for each in scored)
    return {
        "schema": SCHEMA,
        "model": dict(requested.model),
        "decoding": dict(requested.decoding),
        "style": requested.style,
        "requested": len(scored),
        "complete": all(each.status != "missing" for each in scored),
        "statuses": _counts(scored),
        "tasks": [_group(task, None, [each for each in scored if each.requested.task == task]) for task in tasks],
        "datasets": [
            _group(
                task,
                dataset,
                [each for each in scored if (each.requested.task, each.requested.dataset) == (task, dataset)],
            )
            for task, dataset in pairs
        ],
    }


def _counts(scored: Iterable[Scored]) -> dict[str, int]:
    counts = Counter(each.status for each in scored)
    return {status: counts[status] for status in STATUSES}


def _group(task_name: str, dataset: str | None, scored: Sequence[Scored]) -> dict[str, object]:
    task = task_named(task_name)
    readable = sum(each.status == "ok" for each in scored)
    return {
        "task": task_name,
        "dataset": dataset,
        "n": len(scored),
        "readable": readable,
        "unparsed": len(scored) - readable,
        "unparsed_share": (len(scored) - readable) / len(scored),
        "cut_short": sum(each.record.get("finish_reason") == "length" for each in scored),
        "clusters": len({each.cluster for each in scored}),
        "statuses": _counts(scored),
        "metrics": [_summary(metric, scored) for metric in task.metrics],
    }


def _summary(metric: Metric, scored: Sequence[Scored]) -> dict[str, object]:
    readable = [(each.values[metric.name], each.cluster) for each in scored if metric.name in each.values]
    if metric.worst is not None:
        headline = [(each.values.get(metric.name, metric.worst), each.cluster) for each in scored]
        return _described(metric, headline) | {"over": "requested", "readable": _interval(readable), "charged": None}
    return _described(metric, readable) | {
        "over": "readable",
        "readable": _interval(readable),
        "charged": _interval(_charged(metric, scored)),
    }


def _described(metric: Metric, values: Sequence[tuple[float, str]]) -> dict[str, object]:
    return {"name": metric.name, "better": metric.better, "bounded": metric.worst is not None, **_interval(values)}


def _charged(metric: Metric, scored: Sequence[Scored]) -> list[tuple[float, str]]:
    """Every answer's value, a failure's being the metric's penalty; without a reference there is nothing to charge."""
    values: list[tuple[float, str]] = []
    for each in scored:
        if metric.penalty is None or each.requested.answer is None or each.image_size is None:
            continue
        penalty = metric.penalty(answer_from_json(each.requested.answer), each.image_size)
        values.append((charged(each.values.get(metric.name), penalty), each.cluster))
    return values


def _interval(values: Sequence[tuple[float, str]]) -> dict[str, object]:
    """Mean and 95 % interval of (value, cluster) pairs; null where there is nothing to average."""
    finite = [(value, cluster) for value, cluster in values if math.isfinite(value)]
    if len(finite) < len(values):
        raise ValueError("a metric gave a value that is not a finite number; this is a bug of the metric")
    if not finite:
        return {"mean": None, "low": None, "high": None, "n": 0}
    numbers = [value for value, _ in finite]
    found = cluster_interval(numbers, [cluster for _, cluster in finite], _SEED)
    known = math.isfinite(found.low)
    return {
        "mean": mean(numbers),
        "low": found.low if known else None,
        "high": found.high if known else None,
        "n": len(finite),
    }


def sample_entry(scored: Scored) -> dict[str, object]:
    """One line of `samples.jsonl`: all there is to look at one answer, without times."""
    return {
        **asdict(scored.requested),
        "image_size": scored.image_size,
        "status": scored.status,
        "reason": scored.reason,
        "prompt": scored.record.get("prompt"),
        "reply": scored.record.get("reply"),
        "finish_reason": scored.record.get("finish_reason"),
        "tier": None if scored.reading is None else scored.reading.tier,
        "notes": [] if scored.reading is None else list(scored.reading.notes),
        "predicted": None if scored.predicted is None else answer_to_json(scored.predicted),
        "strict": dict(scored.values),
    }


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


def _json_line(entry: Mapping[str, object]) -> str:
    text = json.dumps(entry, ensure_ascii=False, allow_nan=False)
    # A lone surrogate of a model's answer has no UTF-8; the escaped form says the same.
    return (text if text.isascii() or _is_utf8(text) else json.dumps(entry, allow_nan=False)) + "\n"


def _is_utf8(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
