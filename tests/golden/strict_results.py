"""The strict result of a golden row: its texts through our tasks, as a record of a run is scored."""

from typing import NamedTuple

from robointervlm.core.answer import Unparsed
from robointervlm.core.coordinates import CoordinateFormat, ImageSize, Space, smart_resize
from robointervlm.core.errors import DataError
from robointervlm.tasks import task_named
from robointervlm.tasks.planning import planning_kind

BOXES = {"contact_bbox": "contact_box", "final_bbox": "final_box", "gripper_det_bbox": "gripper_det"}


class Strict(NamedTuple):
    """`ok` with the value of the headline the published scorer has, or why there is none."""

    status: str
    value: float | None
    reason: str = ""


def task_of(row):
    """The task that a row of generation_eval asks, by its kind and its reference."""
    kind, reference = row["args"]["task_type"], row["args"]["s"]["gt"]
    if kind == "box":
        return next((task for key, task in BOXES.items() if key in reference), "current_box")
    if kind == "traj":
        return "traj"
    return "contact_decide" if reference in ("Yes", "No") else "traj_choice"


def image_of(record):
    """The size the published scorer assumes: the record's, or one of two by the id."""
    if record.get("image_size"):
        return ImageSize(*record["image_size"])
    return ImageSize(640, 480) if "RH20T" in (record["id"] or "") else ImageSize(320, 180)


def spaces_of(row):
    """The spaces it takes prediction and reference to be in, from the name of the source."""
    image, source = image_of(row["args"]["s"]), row["args"]["source"]
    formats = {"llava": CoordinateFormat.UNIT, "intern": CoordinateFormat.PER_MILLE, "unknown": CoordinateFormat.PIXEL}
    if source in formats:
        return (Space(formats[source], image),) * 2
    resized = Space(CoordinateFormat.RESIZED, image, smart_resize(image, max_pixels=1_003_520))
    return (Space.pixels(image) if source == "api" else resized), resized


def scored(task, texts, spaces, metric=None):
    """What an answer and a reference (`texts`) score in a metric of a task, the headline by default."""
    predicted, reference = texts
    measure = next(each for each in task.metrics if metric in (None, each.name))
    wanted = task.read(reference, spaces[1])
    if isinstance(wanted, Unparsed):
        return Strict("input_error", None, wanted.reason)
    if predicted is None:
        return Strict("model_error", measure.worst)
    answer = task.read(predicted, spaces[0])
    if isinstance(answer, Unparsed):
        return Strict("unparsable", measure.worst, answer.reason)
    return Strict("ok", measure.measure(answer, wanted, spaces[0].image if spaces[0] else None))


def strict_generation(row):
    task = task_named(task_of(row))
    try:
        spaces = spaces_of(row)
    except DataError as error:
        return Strict("input_error", None, str(error))
    metric = {"box": "IoU", "traj": "DTW"}.get(row["args"]["task_type"], "Accuracy")
    return scored(task, (row["args"]["s"]["pred"], row["args"]["s"]["gt"]), spaces, metric)


def strict_planning(row):
    kind = planning_kind(row["id"])
    if kind is None:
        return Strict("input_error", None, "the id names no kind of planning question")
    return scored(task_named(kind.family), (row["pred"], row["gt"]), (None, None))
