"""The published scorer of boxes, trajectories, letters and yes or no: one record at a time, as it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robointervlm.core.coordinates import CoordinateFormat, ImageSize, Space
from robointervlm.evaluate.paper.parsing import published_box, published_numbers, published_path, published_resize
from robointervlm.metrics.curves import dtw
from robointervlm.metrics.overlap import iou

Record = Mapping[str, Any]
"""`id`, `pred`, `gt` and perhaps `image_size` (width, height), as the published output files hold them."""

# Trap 8: what stands before the last hundred characters is not seen.
_LOOKED_AT = 100


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
    extent = _extent(image, source)
    if extent is None:
        return
    for axis in (0, 1):
        numbers[axis::2] = numbers[axis::2] * image[axis] / extent[axis]


def _extent(image: tuple[int, int], source: str) -> tuple[int, int] | None:
    """The width and height that the source is taken to count in; None for pixels."""
    if source in ("qwen", "api"):
        # Trap 12: width and height are handed over the wrong way round, which changes nothing.
        return published_resize(*image)
    return {"llava": (1, 1), "intern": (1000, 1000)}.get(source)


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
