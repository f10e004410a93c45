"""The paper column of one record and of a file of records, for our tasks."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from robointervlm.evaluate.paper.answers import Record, contained, score_record
from robointervlm.evaluate.paper.plans import score_planning
from robointervlm.evaluate.paper.quirks import STOPPED, box_quirks, contained_quirks, path_quirks, plan_quirks
from robointervlm.metrics.overlap import acc_at
from robointervlm.metrics.summary import mean
from robointervlm.tasks import task_named


@dataclass(frozen=True)
class PaperScore:
    """What the published scorer makes of one record.

    `values` are named like the strict metrics; a task that the release does not score has none. `counted` is False
    where the published aggregate leaves the record out. `quirks` names, by the keys of `QUIRKS`, each fault that
    changed this record's result. `error` is the class of the exception that the published scorer ends with here, or
    empty.
    """

    values: Mapping[str, float] = field(default_factory=dict)
    counted: bool = False
    quirks: tuple[str, ...] = ()
    error: str = ""


@dataclass(frozen=True)
class PaperAggregate:
    """The published aggregates: `tasks` maps each task to its means, without those that have nothing to average.

    `average` is the published "Average Score" of the generation and understanding tasks: the plain mean of IoU, DTW and
    accuracy, whatever their units (trap 14). `errors` counts the records that raise; the release prints nothing for
    the file of such a record, and the means here are over the others.
    """

    tasks: Mapping[str, Mapping[str, float]]
    average: float | None
    errors: Mapping[str, int]


_NOT_SCORED = PaperScore()
# What the published scorers may raise for one record.
_RAISED = (TypeError, AttributeError, IndexError, ValueError, OverflowError, RecursionError)
_BOXES = ("contact_box", "current_box", "final_box", "gripper_det", "any_box")
_PATHS = ("traj", "traj_wo_init_pos", "any_traj")
_LETTERS = (
    "any_choice",
    "any_decide",
    "contact_decide",
    "grasppose_choice",
    "grounding_choice",
    "traj_choice",
    "traj_direction_choice",
    "traj_direction_choice_with_traj",
    "trajlang_choice",
    "trajlang_sub_choice",
)
_PLANS = ("planning", "planning_choice", "planning_decide")


def paper_score(task: str, record: Record, source: str) -> PaperScore:
    """The published result of one record of a task, with the quirks that changed it.

    `record` is as for `score_record`, its numbers in the units of `source`. A planning record is scored by the type
    that its id names, as published, whatever the task.
    """
    scorer = _SCORERS.get(task)
    if scorer is None:
        return _NOT_SCORED
    try:
        scored = scorer(task, record, source)
    except _RAISED as error:
        return PaperScore(quirks=(STOPPED,), error=type(error).__name__)
    if not all(map(math.isfinite, scored.values.values())):
        # A coordinate of more than 308 digits: the published mean is then no number either.
        return PaperScore(quirks=(STOPPED,), error="OverflowError")
    return scored


def _box(task: str, record: Record, source: str) -> PaperScore:
    overlap = score_record(record, "box", source)
    assert overlap is not None
    values = {"IoU": overlap, "ACC@IoU>0.1": acc_at(overlap, 0.1)}
    return PaperScore(values, counted=True, quirks=box_quirks(task_named(task), record, source, overlap))


def _path(task: str, record: Record, source: str) -> PaperScore:
    distance = score_record(record, "traj", source)
    assert distance is not None
    quirks = path_quirks(task_named(task), record, source, distance)
    return PaperScore({"DTW": distance}, counted=distance != 0, quirks=quirks)  # trap 9


def _letter(task: str, record: Record, _source: str) -> PaperScore:
    value = contained(record)
    return PaperScore({"Accuracy": value}, counted=True, quirks=contained_quirks(task_named(task), record, value))


def _plan(_task: str, record: Record, _source: str) -> PaperScore:
    kind, value, bleu = score_planning(record)
    values = {"Accuracy": value}
    if bleu is not None:
        values = {"BLEU": value} | {f"BLEU-{order}": bleu[f"bleu{order}"] for order in (1, 2, 3, 4)}
    return PaperScore(values, counted=True, quirks=plan_quirks(kind, record, value))


_SCORERS: dict[str, Callable[[str, Record, str], PaperScore]] = {
    **dict.fromkeys(_BOXES, _box),
    **dict.fromkeys(_PATHS, _path),
    **dict.fromkeys(_LETTERS, _letter),
    **dict.fromkeys(_PLANS, _plan),
}


def paper_aggregate(scores: Mapping[str, Sequence[PaperScore]]) -> PaperAggregate:
    """The published aggregates of the records of each task: means over those that are counted (no DTW of 0)."""
    tasks = {task: means for task, scored in scores.items() if (means := _means(scored))}
    averaged = [
        means[name]
        for task, means in tasks.items()
        if task not in _PLANS
        for name in ("IoU", "DTW", "Accuracy")
        if name in means
    ]
    errors = {task: sum(bool(score.error) for score in scored) for task, scored in scores.items()}
    return PaperAggregate(tasks, mean(averaged) if averaged else None, errors)


def _means(scored: Sequence[PaperScore]) -> dict[str, float]:
    counted = [score.values for score in scored if score.counted]
    names = dict.fromkeys(name for values in counted for name in values)
    return {name: mean([values[name] for values in counted if name in values]) for name in names}
