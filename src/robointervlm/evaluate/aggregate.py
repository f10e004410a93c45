"""The numbers of a report: statuses, means and intervals of each task, dataset and slice.

Strict rules. Everything requested is in the denominator. A failure is charged the worst value of a bounded metric.
A metric without an upper bound is shown over the readable answers, beside the share that is not readable, and once more
with each failure charged the metric's penalty.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from robointervlm.core.answer import Box
from robointervlm.evaluate.paper.scores import paper_summary, quirk_counts
from robointervlm.evaluate.records import SCHEMA, RequestedList
from robointervlm.evaluate.scored import Scored
from robointervlm.inference.judging import STATUSES
from robointervlm.metrics.summary import Interval, cluster_intervals, mean
from robointervlm.runs.protocol import AskedQuestion, protocol_of
from robointervlm.tasks import task_named

Group = dict[str, object]
Floats = NDArray[np.float64]

# Of the bootstrap: the same answers give the same interval.
SEED = 0

# Shares of the picture. Of 196 x 112 pixels, 1 % is a square of 15 pixels and 5 % one of 33; of 640 x 480, one of 55
# and one of 124. COCO's limits are pixels, 32 and 96 squared, and mean another thing in a picture of another size.
SMALL, LARGE = 0.01, 0.05


class Slice(NamedTuple):
    """What scores are shown by, besides task and dataset.

    `value_of` says in which slice a question is, empty if in none; `order` is that of the values, else by name.
    """

    value_of: Callable[[Scored], str]
    order: tuple[str, ...] = ()


def box_size(scored: Scored) -> str:
    """Whether the reference box is small, medium or large: under 1 % of the picture's area, under 5 %, or more."""
    if not isinstance(scored.reference, Box) or scored.image_size is None:
        return ""
    share = scored.reference.area / (scored.image_size.width * scored.image_size.height)
    return "small" if share < SMALL else "medium" if share < LARGE else "large"


def skill(scored: Scored) -> str:
    """What the robot does in the episode, where the record said so."""
    return scored.requested.skill


SLICES: dict[str, Slice] = {
    "box size": Slice(box_size, ("small", "medium", "large")),
    "skill": Slice(skill),
}


def report_of(requested: RequestedList, scored: Sequence[Scored]) -> dict[str, object]:
    """The whole report: statuses, then each task over all its datasets, each dataset of each task, and the slices."""
    by_task: dict[str, list[Scored]] = {}
    for each in scored:
        by_task.setdefault(each.requested.task, []).append(each)
    tasks = [_TaskResults(task, mine) for task, mine in by_task.items()]
    metrics = {task.name: [metric.name for metric in task.metrics] for task in tasks}
    questions = (each.requested for each in scored)
    asked = (AskedQuestion(one.task, one.id, one.answer, one.image_size) for one in questions)
    return {
        "schema": SCHEMA,
        "model": dict(requested.model),
        "decoding": dict(requested.decoding),
        "style": requested.style,
        "protocol": protocol_of(asked, metrics, style=requested.style, decoding=requested.decoding),
        "requested": len(scored),
        "complete": all(each.status != "missing" for each in scored),
        "statuses": _counts(scored),
        "tasks": [task.whole for task in tasks],
        "datasets": [group for task in tasks for group in task.datasets()],
        "slices": [group for task in tasks for group in task.slices()],
    }


class _TaskResults:
    """The answers to one task with all their values, from which each group takes its rows."""

    def __init__(self, name: str, scored: Sequence[Scored]) -> None:
        self.name = name
        self.metrics = task_named(name).metrics
        self.scored = scored
        values = [[each.values.get(metric.name) for each in scored] for metric in self.metrics]
        # Both of shape (metrics, questions). NaN is a question without a readable answer, or in `charged` one without
        # anything to charge it by: a distance of a question without a reference or a picture.
        self.readable = np.array([[math.nan if one is None else one for one in row] for row in values], np.float64)
        if np.isinf(self.readable).any() or np.isnan(self.readable).sum() != sum(row.count(None) for row in values):
            raise ValueError("a metric gave a value that is not a finite number; this is a bug of the metric")
        self.charged = np.array(
            [
                [metric.charge(one, each.reference, each.image_size) for one, each in zip(row, scored, strict=True)]
                for metric, row in zip(self.metrics, values, strict=True)
            ]
        )

    @cached_property
    def whole(self) -> Group:
        return self._group(None, range(len(self.scored)))

    def datasets(self) -> list[Group]:
        places = _places([each.requested.dataset for each in self.scored])
        return [self._group(dataset, rows) for dataset, rows in places.items()]

    def slices(self) -> list[Group]:
        """The task by every attribute that any of its questions has; those without it are `unknown`."""
        found = []
        for by, (value_of, order) in SLICES.items():
            values = [value_of(each) for each in self.scored]
            if not any(values):
                continue
            places = _places([value or "unknown" for value in values])
            for value in sorted(
                places, key=lambda value: (order.index(value) if value in order else len(order), value)
            ):
                found.append({"by": by, "value": value, **self._group(None, places[value])})
        return found

    def _group(self, dataset: str | None, rows: Sequence[int]) -> Group:
        if dataset is not None and len(rows) == len(self.scored):
            return {**self.whole, "dataset": dataset}
        mine = [self.scored[row] for row in rows]
        readable = sum(each.status == "ok" for each in mine)
        return {
            "task": self.name,
            "dataset": dataset,
            "n": len(mine),
            "readable": readable,
            "unparsed": len(mine) - readable,
            "unparsed_share": (len(mine) - readable) / len(mine),
            "cut_short": sum(each.record.get("finish_reason") == "length" for each in mine),
            "clusters": len({each.cluster for each in mine}),
            "statuses": _counts(mine),
            "quirks": quirk_counts([each.paper for each in mine]),
            "metrics": self._summaries(rows, mine),
        }

    def _summaries(self, rows: Sequence[int], mine: Sequence[Scored]) -> list[dict[str, object]]:
        columns = np.concatenate([self.readable[:, rows], self.charged[:, rows]])
        intervals = cluster_intervals(list(columns), [each.cluster for each in mine], SEED)
        published = [each.paper for each in mine]
        described = [_described(column, interval) for column, interval in zip(columns, intervals, strict=True)]
        found: list[dict[str, object]] = []
        for place, metric in enumerate(self.metrics):
            readable, charged = described[place], described[place + len(self.metrics)]
            bounded = metric.worst is not None
            found.append(
                {
                    "name": metric.name,
                    "better": metric.better,
                    "bounded": bounded,
                    **metric.in_report,
                    **(charged if bounded else readable),
                    "over": "requested" if bounded else "readable",
                    "readable": readable,
                    "charged": None if bounded else charged,
                    "paper": paper_summary(metric.name, published),
                }
            )
        return found


def _places(values: Sequence[str]) -> dict[str, list[int]]:
    """Where each of the values is, in the order they first come in."""
    places: dict[str, list[int]] = {}
    for place, value in enumerate(values):
        places.setdefault(value, []).append(place)
    return places


def _described(column: Floats, interval: Interval) -> dict[str, object]:
    """Mean and 95 % interval of what is no NaN; null where there is nothing to average."""
    values = column[~np.isnan(column)]
    if not len(values):
        return {"mean": None, "low": None, "high": None, "n": 0}
    known = math.isfinite(interval.low)
    return {
        "mean": mean(values),
        "low": interval.low if known else None,
        "high": interval.high if known else None,
        "n": len(values),
    }


def _counts(scored: Iterable[Scored]) -> dict[str, int]:
    counts = Counter(each.status for each in scored)
    return {status: counts[status] for status in STATUSES}
