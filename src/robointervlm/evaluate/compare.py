"""Two scored runs of the same questions side by side: is one better, by how much, and how sure is that.

Questions are joined by task and id (the n-th of an id with the n-th). One that only one run was asked is a failure of
the other and charged as such, never left out. Distances are compared with failures charged, so that a model gains
nothing by not answering. Every difference is first minus second.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from robointervlm.core.answer import Answer
from robointervlm.core.coordinates import ImageSize
from robointervlm.core.errors import DataError, RecipeError
from robointervlm.core.metric import amount, unit_of
from robointervlm.core.reading import answer_from_json
from robointervlm.evaluate.aggregate import SEED
from robointervlm.evaluate.scored import cluster_of
from robointervlm.metrics.paired import (
    ALPHA,
    design_effect,
    holm,
    mcnemar,
    paired_permutation,
    pairs_for_accuracy,
    pairs_for_distance,
)
from robointervlm.metrics.summary import Interval, cluster_intervals
from robointervlm.runs.protocol import differences as protocol_differences
from robointervlm.tasks import Metric, task_named

Sample = Mapping[str, Any]
Floats = NDArray[np.float64]


class Side(NamedTuple):
    """One of the two runs: what it is called, its `report.json`, and the entries of its `samples.jsonl`."""

    name: str
    report: Mapping[str, Any]
    samples: Sequence[Sample]


@dataclass(frozen=True)
class Wanted:
    """What to compare: only these tasks and metrics, all if empty; `see` is a difference to plan for."""

    tasks: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    see: float | None = None


class _Pair(NamedTuple):
    """One question as both runs have it; None in a run that was not asked it."""

    name: str
    first: Sample | None
    second: Sample | None

    @property
    def known(self) -> Sample:
        sample = self.first or self.second
        assert sample is not None  # it is the question of one of them
        return sample

    @property
    def cluster(self) -> str:
        return cluster_of(str(self.known["episode"]), self.name)

    @property
    def reference(self) -> Answer | None:
        return None if self.known["answer"] is None else answer_from_json(self.known["answer"])

    @property
    def image_size(self) -> ImageSize | None:
        sizes = [sample["image_size"] for sample in (self.first, self.second) if sample and sample["image_size"]]
        return ImageSize(*sizes[0]) if sizes else None


def compare(first: Side, second: Side, wanted: Wanted | None = None, *, force: bool = False) -> dict[str, object]:
    """The comparison as `compare.json` holds it: a row per task and metric, p values adjusted over all rows by Holm.

    Raises `RecipeError` for runs of different protocols unless `force`d, and for a task or metric that neither has;
    `DataError` for a run scored before there were protocols.
    """
    wanted = wanted or Wanted()
    asked = list(dict.fromkeys(str(sample["task"]) for side in (first, second) for sample in side.samples))
    _known(wanted.tasks, asked, "task")
    tasks = [task for task in asked if not wanted.tasks or task in wanted.tasks]
    differing = _protocol_differences(first, second, wanted.tasks or None)
    if differing and not force:
        raise RecipeError(
            f"{first.name} and {second.name} were not asked or scored alike ({'; '.join(differing)}), so that their "
            "numbers say nothing about each other. --task compares some tasks only, --force compares all the same."
        )
    joined: dict[str, list[_Pair]] = {}
    for task in tasks:
        left, right = (_by_name(side.samples, task) for side in (first, second))
        joined[task] = [_Pair(name, left.get(name), right.get(name)) for name in dict.fromkeys([*left, *right])]
    rows = [
        _row(task, metric, pairs, wanted.see)
        for task, pairs in joined.items()
        for metric in _metrics(task, wanted.metrics, tasks)
    ]
    tested = [row for row in rows if "p" in row]
    for row, adjusted in zip(tested, holm([row["p"] for row in tested]), strict=True):
        row["p_holm"] = adjusted
    for row in rows:
        row["verdict"] = verdict(row, first.name, second.name)
    return {
        "schema": 1,
        "first": {"name": first.name, "protocol": first.report["protocol"]["hash"]},
        "second": {"name": second.name, "protocol": second.report["protocol"]["hash"]},
        "protocol_differences": differing,
        "joined": [_join_counts(task, pairs) for task, pairs in joined.items()],
        "rows": rows,
    }


def _metrics(task: str, wanted: Collection[str], tasks: Collection[str]) -> list[Metric]:
    _known(wanted, [metric.name for name in tasks for metric in task_named(name).metrics], "metric")
    return [metric for metric in task_named(task).metrics if not wanted or metric.name in wanted]


def _known(wanted: Collection[str], there: Sequence[str], what: str) -> None:
    for name in wanted:
        if name not in there:
            near = ", ".join(difflib.get_close_matches(name, there, n=3)) or ", ".join(dict.fromkeys(there))
            raise RecipeError(f"{what} '{name}' is in neither of the two runs; nearest: {near}.")


def _protocol_differences(first: Side, second: Side, tasks: Collection[str] | None) -> list[str]:
    for side in (first, second):
        if "protocol" not in side.report:
            raise DataError(
                f"{side.name} was scored by an older version, without a protocol: robointer score it again."
            )
    return protocol_differences(first.report["protocol"], second.report["protocol"], tasks)


def _by_name(samples: Sequence[Sample], task: str) -> dict[str, Sample]:
    named: dict[str, Sample] = {}
    seen: dict[str, int] = {}
    for sample in samples:
        if sample["task"] == task:
            number = seen[sample["id"]] = seen.get(sample["id"], 0) + 1
            named[f"{sample['id']}#{number}"] = sample
    return named


def _join_counts(task: str, pairs: Sequence[_Pair]) -> dict[str, object]:
    """How many questions were joined, how many only one run has, and how many have another reference in the other."""
    both = [(pair.first, pair.second) for pair in pairs if pair.first and pair.second]
    return {
        "task": task,
        "both": len(both),
        "only_first": sum(pair.second is None for pair in pairs),
        "only_second": sum(pair.first is None for pair in pairs),
        "other_reference": sum(one["answer"] != other["answer"] for one, other in both),
    }


def _row(task: str, metric: Metric, pairs: Sequence[_Pair], see: float | None) -> dict[str, Any]:
    """One metric of one task; its adjusted p value and its verdict are still to come."""
    charged = [(_value(metric, pair.first, pair), _value(metric, pair.second, pair), pair.cluster) for pair in pairs]
    usable = [each for each in charged if not (math.isnan(each[0]) or math.isnan(each[1]))]
    head = {
        "task": task,
        "metric": metric.name,
        "better": metric.better,
        "bounded": metric.worst is not None,
        **metric.in_report,
        "n": len(usable),
        "not_charged": len(charged) - len(usable),
        "clusters": len({cluster for *_, cluster in usable}),
        "first_unparsed": sum(_failed(pair.first) for pair in pairs),
        "second_unparsed": sum(_failed(pair.second) for pair in pairs),
    }
    if not usable:
        return head
    values = np.array([each[:2] for each in usable], dtype=np.float64)
    return head | _numbers(metric, values, [cluster for *_, cluster in usable], see)


def _value(metric: Metric, sample: Sample | None, pair: _Pair) -> float:
    value = None if sample is None else sample["strict"].get(metric.name)
    return metric.charge(value, pair.reference, pair.image_size)


def _failed(sample: Sample | None) -> bool:
    return sample is None or sample["status"] != "ok"


def _numbers(metric: Metric, values: Floats, clusters: Sequence[str], see: float | None) -> dict[str, Any]:
    """Everything there is to say about values of shape (questions, 2): those of the first run and of the second."""
    first, second = values.T
    gaps = first - second
    intervals = cluster_intervals([first.tolist(), second.tolist(), gaps.tolist()], clusters, SEED)
    better = gaps if metric.better == "higher" else -gaps
    binary = bool(np.isin(values, (0.0, 1.0)).all())
    return {
        "first": _mean(first, intervals[0]),
        "second": _mean(second, intervals[1]),
        "difference": _mean(gaps, intervals[2]),
        "wins": int((better > 0).sum()),
        "ties": int((gaps == 0).sum()),
        "losses": int((better < 0).sum()),
        **_test(better, clusters, binary=binary),
        "needed": _needed(gaps, clusters, abs(float(gaps.mean())), binary=binary),
        "needed_to_see": None if see is None else _needed(gaps, clusters, abs(see), binary=binary),
    }


def _mean(values: Floats, interval: Interval) -> dict[str, float | None]:
    known = math.isfinite(interval.low)
    return {
        "mean": float(values.mean()),
        "low": interval.low if known else None,
        "high": interval.high if known else None,
    }


def _test(better: Floats, clusters: Sequence[str], *, binary: bool) -> dict[str, Any]:
    """The p value and the test's name.

    McNemar where right and wrong are all there is and no two questions are of one episode; else a permutation by
    episode, whose questions McNemar would take for independent.
    """
    exact = mcnemar(int((better > 0).sum()), int((better < 0).sum())) if binary else None
    if exact is not None and len(set(clusters)) == len(clusters):
        return {"test": "McNemar, exact", "p": exact, "mcnemar_p": exact}
    found = paired_permutation(better.tolist(), clusters, SEED)
    how = "exact" if found.exact else f"{found.patterns:,} draws"
    return {"test": f"permutation by episode, {how}", "p": found.p, "mcnemar_p": exact}


def _needed(gaps: Floats, clusters: Sequence[str], difference: float, *, binary: bool) -> dict[str, Any] | None:
    """How many questions would show this difference, as many about each episode as here; None if none would."""
    if len(gaps) < 2 or difference == 0:
        return None
    effect = design_effect(gaps.tolist(), clusters)
    if not binary:
        alone = pairs_for_distance(float(gaps.var(ddof=1)), difference)
    elif difference <= 1:
        alone = pairs_for_accuracy(float((gaps != 0).mean()), difference)
    else:
        return None
    return {"difference": difference, "questions": math.ceil(alone * effect), "design_effect": effect}


def verdict(row: Mapping[str, Any], first: str, second: str) -> str:
    """The row in one plain sentence; who is better is said only where the adjusted p value is below 0.05."""
    if "p_holm" not in row:
        return "Nothing to compare: no question can be charged."
    n, gap = row["n"], row["difference"]["mean"]
    if row["p_holm"] < ALPHA:
        ahead = first if (gap > 0) == (row["better"] == "higher") else second
        return f"{ahead} is better by {amount(abs(gap), unit_of(row))}."
    if row["ties"] == n:
        return f"No difference in any of these {n} questions."
    apart = f"Cannot be told apart with these {n} questions"
    needed = row["needed_to_see"] or row["needed"]
    if needed is None:
        return f"{apart}."
    seen = amount(needed["difference"], unit_of(row))
    if (count := needed["questions"]) > n:
        # To two digits, upwards: more would be a precision there is not.
        step = 10 ** max(0, len(str(count)) - 2)
        return f"{apart}; about {math.ceil(count / step) * step:,} would be needed to see {seen}."
    return f"{apart}; they would do to see {seen} four times of five if this were the only comparison."
