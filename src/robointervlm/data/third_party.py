"""Records of other projects' benchmarks in the words of ours: a catalog entry declares which field is what.

`fields: {question: [sent, question], box: bbox}` with `box: xywh` makes a RefCOCO record one with a question and an
answer; `mask: masks/{image}` names the picture of a mask, whose white part is the reference. Nothing is guessed: what
the entry does not declare is not read.
"""

from __future__ import annotations

import json
import string
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from robointervlm.core.answer import Region
from robointervlm.core.coordinates import ImageSize
from robointervlm.core.errors import DataError
from robointervlm.core.sample import ImageRef
from robointervlm.data import images
from robointervlm.data.annotations import FieldError, is_finite_number
from robointervlm.data.spec import DatasetSpec

MASK = "reference_mask"
"""The field of a renamed record that holds its mask: a path, polygons, or uncompressed run lengths."""

# What our own records call the things that an entry can declare.
_ANSWERS = ("ground_truth", "gt")
_OURS = {
    "image": ("image", "images", "image_path"),
    "box": _ANSWERS,
    "mask": _ANSWERS,
    "answer": _ANSWERS,
    "width": ("w", "width"),
    "height": ("h", "height"),
}

# Masks are published as JPEG, too, whose white is not quite 255 and whose edges are grey.
_WHITE = 127


def renamed(record: Mapping[str, Any], spec: DatasetSpec) -> dict[str, Any]:
    """The record with the fields the catalog entry declares under our names; the others stay as they are.

    Raises `FieldError` where a declared field is missing (width, height and id may be) or no box.
    """
    found = {name: _value(record, name, declared) for name, declared in spec.fields.items()}
    used = {field for declared in spec.fields.values() for field in _alternatives(declared)}
    # A field of their own that has one of our names means something else where another is declared for it.
    used |= {field for name in spec.fields for field in _OURS.get(name, ())}
    result = {key: value for key, value in record.items() if key not in used}
    for name, ours in (("id", "id"), ("image", "images"), ("question", "question"), ("width", "w"), ("height", "h")):
        if found.get(name) is not None:
            result[ours] = found[name]
    if "images" in result:
        result["images"] = _slashed(result["images"])
    if "box" in found:
        corners = corners_of(found["box"], spec.box)
        if corners is None:
            named = " or ".join(_alternatives(spec.fields["box"]))
            raise FieldError(named, f"is {found['box']!r:.80}; four numbers are a box")
        result["ground_truth"] = json.dumps([list(corners[:2]), list(corners[2:])])
    elif "mask" in found:
        # What stands for a mask where the annotation's own text is shown.
        described = found["mask"] if isinstance(found["mask"], str) else "a mask"
        result[MASK], result["ground_truth"] = found["mask"], described
    elif "answer" in found:
        result["ground_truth"] = found["answer"]
    return result


def _alternatives(declared: str | tuple[str, ...]) -> tuple[str, ...]:
    return (declared,) if isinstance(declared, str) else declared


def _value(record: Mapping[str, Any], name: str, declared: str | tuple[str, ...]) -> Any:
    """The value of the first alternative that the record has."""
    for field in _alternatives(declared):
        if "{" in field:
            return _filled(record, field)
        if record.get(field) is not None:
            return record[field]
    if name in ("id", "width", "height"):
        return None
    raise FieldError(" or ".join(_alternatives(declared)), f"is missing; the catalog entry reads it as the {name}")


def _filled(record: Mapping[str, Any], template: str) -> str:
    """A template such as `masks/{image}` with the record's fields put in; only names stand in its braces."""
    parts = []
    for text, field, _, _ in string.Formatter().parse(template):
        parts.append(text)
        if field is not None:
            value = record.get(field)
            if not isinstance(value, str | int):
                raise FieldError(field, f"is {value!r:.40}; the catalog entry makes '{template}' of it")
            parts.append(str(value))
    return "".join(parts)


def _slashed(paths: Any) -> Any:
    """Paths as written on Windows, which some of these files hold, with ordinary slashes."""
    if isinstance(paths, str):
        return paths.replace("\\", "/")
    return [_slashed(path) for path in paths] if isinstance(paths, list) else paths


def corners_of(numbers: object, convention: str) -> tuple[float, float, float, float] | None:
    """x1, y1, x2, y2 of four numbers meant as `xywh` or `xyxy`; None if they are not four finite numbers."""
    flat = _flat(numbers)
    if len(flat) != 4 or not all(is_finite_number(value) for value in flat):
        return None
    first, second, third, fourth = (float(value) for value in flat)
    if convention == "xywh":
        return first, second, first + third, second + fourth
    return first, second, third, fourth


def _flat(numbers: object) -> list[Any]:
    if isinstance(numbers, str):
        try:
            numbers = json.loads(numbers)
        except (ValueError, RecursionError):
            return []
    if not isinstance(numbers, Sequence) or isinstance(numbers, str):
        return []
    return [value for item in numbers for value in (item if isinstance(item, list) else [item])]


def region_of(record: Mapping[str, Any], root: Path, size: ImageSize | None, *, follow_links: bool = False) -> Region:
    """The region of a renamed record's mask, of the size of its picture.

    A mask is the path of a picture (under `root`, as the other pictures), polygons `[[x, y, x, y, …], …]`, or
    `{"size": [height, width], "counts": […]}` with run lengths down the columns, as COCO has them uncompressed.
    """
    if size is None:
        raise FieldError("images", "names no picture, and a mask is a place in one")
    if size.width * size.height > images.MAX_PIXELS:
        raise FieldError(
            "w", f"says {size.width}x{size.height}; the limit is {images.MAX_PIXELS // 10**6} million pixels"
        )
    mask = record[MASK]
    if isinstance(mask, str):
        try:
            picture = images.load(ImageRef(root, _slashed(mask), follow_links=follow_links))
        except DataError as error:
            raise FieldError("mask", str(error)) from error
        region = Region.of_mask(picture.max(axis=2) > _WHITE)
    elif isinstance(mask, list):
        region = _of_polygons(mask, size)
    elif isinstance(mask, dict):
        region = _of_runs(mask)
    else:
        raise FieldError("mask", f"is {mask!r:.40}; a path, polygons or run lengths are expected")
    if region.size != size:
        stated, found = (f"{each.width}x{each.height}" for each in (size, region.size))
        raise FieldError("mask", f"is {found}, but its picture is {stated}")
    if not region.area:
        raise FieldError("mask", "has nothing in it, so that no answer could be right")
    return region


def _of_polygons(polygons: list[Any], size: ImageSize) -> Region:
    image = Image.new("1", size)
    draw = ImageDraw.Draw(image)
    for polygon in polygons if polygons and isinstance(polygons[0], list) else [polygons]:
        flat = _flat(polygon)
        # Pillow walks along every pixel of an edge, also outside the picture.
        places = all(is_finite_number(value) and abs(value) <= 10 * images.MAX_PIXELS for value in flat)
        if len(flat) < 6 or len(flat) % 2 or not places:
            raise FieldError("mask", f"holds {polygon!r:.80}; a polygon is three points x, y or more")
        draw.polygon([float(value) for value in flat], fill=1)
    return Region.of_mask(np.asarray(image))


def _of_runs(mask: dict[str, Any]) -> Region:
    counts, size = mask.get("counts"), mask.get("size")
    if not isinstance(counts, list) or not isinstance(size, list) or len(size) != 2:
        raise FieldError(
            "mask", "holds compressed run lengths or none; give counts as a list, with size [height, width]"
        )
    height, width = size
    lengths = [*counts, height, width]
    whole = all(isinstance(each, int) and not isinstance(each, bool) and each >= 0 for each in lengths)
    if not whole or min(height, width) == 0 or not sum(counts) == height * width <= images.MAX_PIXELS:
        raise FieldError("mask", f"has counts that do not add up to {height} x {width} pixels")
    columns = Region(ImageSize(height, width), tuple(counts))
    return Region.of_mask(columns.mask.T)
