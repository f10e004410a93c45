"""The published scorers, as they are, one record at a time: boxes, trajectories, letters, yes or no, and plans.

How they find numbers in an answer, with everything that gets wrong, is at the end. Source of the behaviour: the public
RoboInter release, commit 481acfbf; what it does wrong is deliberate here and named by its trap number (docs/scoring.md
lists them). Only for the paper column.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from robointervlm.core.coordinates import MAX_ASPECT, RESIZE_FACTOR, CoordinateFormat, ImageSize, Space, smart_resize
from robointervlm.metrics.curves import dtw
from robointervlm.metrics.overlap import iou
from robointervlm.metrics.text import Bleu, published_bleu
from robointervlm.tasks.planning import KINDS, Family

Record = Mapping[str, Any]
"""`id`, `pred`, `gt` and perhaps `image_size` (width, height), as the published output files hold them."""

PlanType = Literal["choice", "decide", "planning"]

_FAMILIES: dict[PlanType, Family] = {
    "choice": "planning_choice",
    "decide": "planning_decide",
    "planning": "planning",
}
# In the order of the published scorer, which takes the first that is anywhere in the id, case counting (trap 20).
PUBLISHED_KINDS = {
    kind: tuple(each.name for each in KINDS if each.family == family) for kind, family in _FAMILIES.items()
}

# Trap 8: what stands before the last hundred characters is not seen.
_LOOKED_AT = 100

# Trap 3: no sign, so -5 is 5. Traps 2 and 4: digits anywhere in the text count, those of words and list numbers too.
_UNSIGNED = re.compile(r"\d+\.?\d*|\.\d+")
# Possessive, and no number starts inside another: what the published patterns find, in time linear in the text.
_SIGNED = r"(?:-|(?<!\d))(?:\d++\.?+\d*+|\.\d++)"
_COMMA = r"\s*+,\s*+"
_FLAT = re.compile(rf"(?:\[\s*+)?+{_SIGNED}{_COMMA}{_SIGNED}{_COMMA}{_SIGNED}{_COMMA}{_SIGNED}\s*+\]?+")
# Trap 2: whole numbers only, so [[1.5, 2.0], [3.0, 4.0]] is left to the digits of the whole text.
_WHOLE_PAIR = rf"\[\s*+(\d++){_COMMA}(\d++)\s*+\]"
_NESTED = re.compile(rf"\[\s*+{_WHOLE_PAIR}{_COMMA}{_WHOLE_PAIR}\s*+\]")
# Trap 12: the pixel limit is fixed, whatever the processor used.
_MAX_PIXELS = 1_003_520

Number = int | float


def score_record(record: Record, kind: str, source: str) -> float | None:
    """The published number of one record: IoU (`box`), DTW (`traj`), or 1 and 0 (`decide` and every other kind).

    `source` is `qwen`, `llava`, `intern` or `api` and says which units the scorer takes the numbers to be in; for any
    other name it converts nothing. A DTW of 0 is a perfect answer or an unreadable one (trap 9). Raises the exceptions
    of the published scorer: `TypeError` or `AttributeError` for an answer that is None, `IndexError` for a reference
    box without four numbers, `ValueError` for a picture that cannot be resized (trap 5).
    """
    if kind == "box":
        return box_overlap(record, source)
    if kind == "traj":
        return path_distance(record, source)
    return contained(record)


def box_overlap(record: Record, source: str, *, cut_off: bool = True) -> float:
    """The published IoU. With `cut_off` False, integers are not truncated (what it would be without trap 1)."""
    image = assumed_size(record)
    predicted = np.array(published_box(record["pred"]), dtype=None if cut_off else np.float64)
    numbers = published_numbers(record["gt"])
    reference = np.array([numbers[index] for index in range(4)])
    _convert(predicted, image, "" if source == "api" else source)  # trap 13
    _convert(reference, image, source)
    return iou(predicted, reference)


def path_distance(record: Record, source: str) -> float:
    """The published DTW in pixels; 0 where there is none (trap 9)."""
    image = assumed_size(record)
    predicted, reference = np.array(published_path(record["pred"])), np.array(published_path(record["gt"]))
    _convert(predicted, image, "" if source == "api" else source)  # trap 13
    _convert(reference, image, source)
    if not len(predicted) or not len(reference):
        return 0.0
    with np.errstate(over="ignore", invalid="ignore"):
        distance = dtw(predicted.reshape(-1, 2), reference.reshape(-1, 2))
    return 0.0 if np.isinf(distance) else distance


def contained(record: Record) -> float:
    """1 if the reference is in the answer's end, or the answer in the reference, as texts (traps 6, 7 and 8)."""
    predicted, reference = record["pred"].strip(), record["gt"].strip()
    return float(reference in predicted[-_LOOKED_AT:] or predicted in reference)


def assumed_size(record: Record) -> tuple[int, int]:
    """Width and height: what the record says, or one of two sizes by the id, whatever the picture is (trap 11)."""
    if record.get("image_size"):
        width, height = record["image_size"]
        return width, height
    return (640, 480) if "RH20T" in record["id"] else (320, 180)


def _convert(numbers: NDArray[Any], image: tuple[int, int], source: str) -> None:
    """Turns x, y, x, y … into pixels in place, which cuts off the decimals in an array of integers (trap 1)."""
    extents = {"llava": (1, 1), "intern": (1000, 1000)}
    # Trap 12: width and height are handed over the wrong way round, which changes nothing.
    extent = published_resize(*image) if source in ("qwen", "api") else extents.get(source)
    if extent is None:
        return  # pixels
    for axis in (0, 1):
        numbers[axis::2] = numbers[axis::2] * image[axis] / extent[axis]


def published_source(model: str) -> str:
    """The units the published scorer takes a model to answer in, by a piece of its name (trap 15)."""
    for part, source in (("intern", "intern"), ("qwen25", "qwen"), ("brain", "qwen"), ("llava", "llava")):
        if part in model.lower():
            return source
    return "api"


def assumed_spaces(record: Record, source: str) -> tuple[Space, Space]:
    """The spaces that answer and reference are taken to be in. `ValueError` where `score_record` raises one."""
    image = ImageSize(*assumed_size(record))
    if source in ("qwen", "api"):
        height, width = published_resize(image.height, image.width)
        resized = Space(CoordinateFormat.RESIZED, image, ImageSize(width, height))
        return (Space.pixels(image) if source == "api" else resized), resized
    units = {"llava": CoordinateFormat.UNIT, "intern": CoordinateFormat.PER_MILLE}
    space = Space(units.get(source, CoordinateFormat.PIXEL), image)
    return space, space


def plan_type(identifier: str) -> PlanType:
    """The type of a planning question by its id (`decide_task_type`); `ValueError` for an unknown one (trap 20)."""
    for kind, names in PUBLISHED_KINDS.items():
        if any(name in identifier for name in names):
            return kind
    raise ValueError("Unknown task type")


def score_planning(record: Record) -> tuple[PlanType, float, dict[str, float] | None]:
    """The published type and score of one planning record, and for a plan its BLEU values.

    `ValueError` for an unknown id, `AttributeError` for an answer that is None; both end the scoring of the whole file
    (trap 20).
    """
    kind = plan_type(record["id"])
    predicted = record["pred"].split("\n")[-1].lower()  # trap 17: only the last line, even if it is empty
    reference = record["gt"].lower()
    if kind == "planning":
        bleu = bleu_values(published_bleu(predicted, reference))
        return kind, bleu["score"], bleu
    correct = predicted == reference
    if kind == "choice":
        correct = reference in predicted or predicted in reference  # trap 18
    elif reference in ("yes", "no"):
        # Trap 19: "yesterday" is yes, "unknown" is no, and true and false are neither.
        correct = next((word for word in ("yes", "no") if word in predicted), predicted) == reference
    return kind, float(correct), None


def bleu_values(bleu: Bleu) -> dict[str, float]:
    """BLEU as the published scorers return it: `score` is the mean of the four."""
    return {"score": bleu.mean, **bleu._asdict()}


def published_numbers(text: str) -> list[float]:
    """Every unsigned number of a text (`extract_number`). `TypeError` for None, as published (trap 5)."""
    return [float(number) for number in _UNSIGNED.findall(text)]


def published_path(text: str) -> list[float]:
    """x, y, x, y … of a text (`extract_traj_answer`): all its numbers; an odd one at the end is dropped (trap 10)."""
    numbers = published_numbers(text)
    return numbers[: len(numbers) // 2 * 2]


def published_box(text: str) -> list[Number]:
    """Four numbers out of a text (`extract_bbox_answer`).

    They are integers if the text holds [a, b, c, d] or [[a, b], [c, d]] of them, which is what makes the conversion cut
    them off later (trap 1). Without four numbers they are four zeros, which overlap nothing.
    """
    flat = _FLAT.search(text)
    if flat:
        try:
            read = json.loads(flat[0])
        except ValueError:  # without its brackets, which is every tuple and every row of bare numbers
            read = None
        if isinstance(read, list):
            return read
    nested = _NESTED.search(text)
    if nested:
        return [int(number) for number in nested.groups()]
    numbers = published_numbers(text)
    return [*numbers[:4]] if len(numbers) >= 4 else [0, 0, 0, 0]


def published_resize(height: int, width: int) -> tuple[int, int]:
    """The height and width that the scorer takes the processor to have made (`smart_resize`).

    `ValueError` for a side under 28 pixels or an aspect over 200, which ends the scoring of the whole file (trap 5).
    """
    if min(height, width) < RESIZE_FACTOR:
        raise ValueError(f"height:{height} or width:{width} must be larger than factor:{RESIZE_FACTOR}")
    if max(height, width) / min(height, width) > MAX_ASPECT:
        raise ValueError(f"the aspect ratio of {width}x{height} is over {MAX_ASPECT}")
    resized = smart_resize(ImageSize(width, height), max_pixels=_MAX_PIXELS)
    return resized.height, resized.width
