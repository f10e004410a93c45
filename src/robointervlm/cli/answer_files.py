"""What the command line says of a prediction file of another tool, for `score` and `data coordinates`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, cast

from robointervlm.core.coordinates import MAX_PIXELS, MIN_PIXELS, CoordinateFormat, ImageSize
from robointervlm.core.errors import DataError, RecipeError
from robointervlm.evaluate.interop.answer_files import Declared
from robointervlm.evaluate.interop.answer_records import BoxMeaning, FieldNames


def declared(  # noqa: PLR0913 - one per flag
    kind: str,
    *,
    coordinates: str | None = None,
    gt_coordinates: str | None = None,
    image_size: str | None = None,
    image_dir: Path | None = None,
    resize_limits: str | None = None,
    fields: tuple[str, str, str | None] = ("", "", None),
) -> Declared:
    """The flags as one declaration; `fields` are those of the prediction and the reference, and xywh or xyxy.

    Raises `RecipeError` for a flag that means nothing.
    """
    if image_dir is not None and not image_dir.is_dir():
        raise DataError(f"--image-dir {image_dir} is no folder.")
    return Declared(
        kind=kind,
        coordinates=None if coordinates is None else CoordinateFormat.named(coordinates),
        reference_coordinates=None if gt_coordinates is None else CoordinateFormat.named(gt_coordinates),
        image_size=_image_size(image_size),
        image_dir=image_dir,
        resize_limits=_limits(resize_limits),
        names=FieldNames(fields[0], fields[1], _box(fields[2])),
    )


def _image_size(text: str | None) -> ImageSize | Literal["published"] | None:
    if text is None:
        return None
    if text == "published":
        return "published"
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise RecipeError(f"--image-size {text} is not a size; write it as 640x480, or published.")
    return ImageSize(int(width), int(height))


def _limits(text: str | None) -> tuple[int, int]:
    if text is None:
        return MIN_PIXELS, MAX_PIXELS
    least, _, most = text.partition(",")
    if not (least.isdecimal() and most.isdecimal() and 0 < int(least) <= int(most)):
        raise RecipeError(f"--resize-limits {text} is not two numbers of pixels; write them as 3136,1003520.")
    return int(least), int(most)


def _box(text: str | None) -> BoxMeaning | None:
    if text not in (None, "xywh", "xyxy"):
        raise RecipeError(f"--gt-box {text} is not known; xywh or xyxy is.")
    return cast("BoxMeaning | None", text)
