"""The paper column for our tasks: of one record, of a file of records, and of a run of ours.

The published scorer is handed a model's reply and the reference in the model's own units, as the published output files
hold both, or for imported files the record as it was. An answer that never came has no published number: the release
drops it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from robointervlm.core.answer import Answer
from robointervlm.core.coordinates import CoordinateFormat
from robointervlm.evaluate.paper.answers import Record, contained, score_planning, score_record
from robointervlm.evaluate.paper.quirks import STOPPED, box_quirks, contained_quirks, path_quirks, plan_quirks
from robointervlm.evaluate.records import Requested, space_of
from robointervlm.metrics.overlap import acc_at
from robointervlm.metrics.summary import mean
from robointervlm.runs.journal import Entry
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

# The units the published scorer knows by the kind of model; it converts nothing for other names.
_SOURCES = {
    CoordinateFormat.RESIZED: "qwen",
    CoordinateFormat.UNIT: "llava",
    CoordinateFormat.PER_MILLE: "intern",
    CoordinateFormat.PIXEL: "pixel",
}


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
    tasks: dict[str, dict[str, float]] = {}
    for task, scored in scores.items():
        counted = [score.values for score in scored if score.counted]
        names = dict.fromkeys(name for values in counted for name in values)
        if names:
            tasks[task] = {name: mean([values[name] for values in counted if name in values]) for name in names}
    averaged = [
        means[name]
        for task, means in tasks.items()
        if task not in _PLANS
        for name in ("IoU", "DTW", "Accuracy")
        if name in means
    ]
    errors = {task: sum(bool(score.error) for score in scored) for task, scored in scores.items()}
    return PaperAggregate(tasks, mean(averaged) if averaged else None, errors)


def published_score(requested: Requested, record: Entry, reference: Answer | None) -> PaperScore | None:
    """The published result of one answer; None where there is no answer, no reference, or no published scorer."""
    foreign = record.get("foreign")
    if isinstance(foreign, Mapping):
        # Whatever we make of it: the published scorer has a number for records without a readable reference, too.
        return _scored(requested.task, foreign, _source(record))
    if record.get("status") not in ("ok", "unparsable") or reference is None:
        return None
    space = space_of(record)
    text = requested.raw_answer if space is None else task_named(requested.task).write(reference, space)
    ours = {"id": requested.id, "pred": record.get("reply"), "gt": text, "image_size": requested.image_size}
    return _scored(requested.task, ours, _source(record))


def _scored(task: str, record: Mapping[str, object], source: str) -> PaperScore | None:
    found = paper_score(task, record, source)
    return found if found.values or found.error else None


def _source(record: Entry) -> str:
    answer, reference = record.get("format"), record.get("reference_format")
    if answer == "pixel" and reference == "resized":
        return "api"
    return _SOURCES[CoordinateFormat(answer)] if answer else ""


def paper_summary(name: str, scores: Sequence[PaperScore | None]) -> dict[str, object] | None:
    """The published mean of a metric over the answers it counts, and how many; None if it is not published."""
    values = [score.values[name] for score in scores if score is not None and score.counted and name in score.values]
    return {"mean": sum(values) / len(values), "n": len(values)} if values else None


def quirk_counts(scores: Sequence[PaperScore | None]) -> dict[str, int]:
    """How many answers each published fault changed the result of, the most frequent first."""
    counts: dict[str, int] = {}
    for score in scores:
        for quirk in score.quirks if score is not None else ():
            counts[quirk] = counts.get(quirk, 0) + 1
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
