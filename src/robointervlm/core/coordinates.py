"""The four ways of writing a place in an image, and the only conversions between them.

Inside the package a coordinate is in pixels of the stored image: x to the right, y down, continuous, so that the image
covers [0, width] x [0, height]. A `CoordinateFormat` says which size an image is *taken to have* when somebody else
writes coordinates: its own (`pixel`), one by one (`unit`), a thousand by a thousand (`per_mille`), or the size a
Qwen2.5-VL processor resized it to (`resized`). A `Space` is a format together with the two sizes of one image.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cache
from typing import NamedTuple

from robointervlm.core.errors import DataError, RecipeError

Point = tuple[float, float]

# Qwen2.5-VL: patches of 14 pixels, merged two by two.
RESIZE_FACTOR = 28
# The defaults of the documented training script and of the hub's preprocessor_config.json.
MIN_PIXELS = 3136
MAX_PIXELS = 12845056
# Qwen's own limit; longer pictures have no meaningful resize.
MAX_ASPECT = 200


class ImageSize(NamedTuple):
    """The size of an image in pixels, always (width, height)."""

    width: int
    height: int


class CoordinateFormat(Enum):
    """How a dataset or a model writes coordinates. The values are the names used in recipes and on the command line."""

    PIXEL = "pixel"
    UNIT = "unit"
    PER_MILLE = "per_mille"
    RESIZED = "resized"

    @classmethod
    @cache
    def named(cls, name: str) -> CoordinateFormat:
        """The format of this name: ours, or the one under which RoboInter-VQA publishes it."""
        try:
            return cls(_PUBLISHED_NAMES.get(name, name))
        except ValueError:
            known = ", ".join([*(member.value for member in cls), *_PUBLISHED_NAMES])
            raise RecipeError(f"coordinate format '{name}' is not known; one of: {known}.") from None

    @property
    def decimals(self) -> int:
        """How many decimals an answer in this format is written with."""
        # Two decimals is how the published unit answers are written; on a 320-pixel-wide image one step is 3.2 pixels.
        return 2 if self is CoordinateFormat.UNIT else 0


_PUBLISHED_NAMES = {"origin_format": "pixel", "llava_format": "unit", "smart_resize_format": "resized"}


@dataclass(frozen=True)
class Space:
    """The coordinates one party uses for one image: a format, the stored size, and the size a processor resized it to.

    `processed` is needed by the `resized` format only; leaving it out there is an error, never a guess.
    """

    format: CoordinateFormat
    image: ImageSize
    processed: ImageSize | None = None

    def __post_init__(self) -> None:
        if min(self.image) < 1:
            raise DataError(f"image size {tuple(self.image)} is empty; width and height are at least 1 pixel.")
        if self.format is CoordinateFormat.RESIZED and (self.processed is None or min(self.processed) < 1):
            raise DataError(
                f"coordinates in 'resized' format need the size the processor made of the {tuple(self.image)} image, "
                f"got {self.processed}; records give it as new_w and new_h."
            )

    @property
    def extent(self) -> tuple[float, float]:
        """The width and height the image is taken to have in this format."""
        match self.format:
            case CoordinateFormat.PIXEL:
                return self.image
            case CoordinateFormat.UNIT:
                return (1.0, 1.0)
            case CoordinateFormat.PER_MILLE:
                return (1000.0, 1000.0)
            case CoordinateFormat.RESIZED:
                assert self.processed is not None  # __post_init__ refused it
                return self.processed

    def to_pixels(self, points: Iterable[Point]) -> tuple[Point, ...]:
        """These points, written in this space, in pixels of the stored image."""
        width, height = self.extent
        return tuple((x * self.image.width / width, y * self.image.height / height) for x, y in points)

    def from_pixels(self, points: Iterable[Point]) -> tuple[Point, ...]:
        """Pixels of the stored image in this space, not rounded."""
        width, height = self.extent
        return tuple((x * width / self.image.width, y * height / self.image.height) for x, y in points)

    def number(self, value: float) -> str:
        """A coordinate of this space as an answer writes it: rounded to nearest, half to even, as numpy rounds."""
        # Not round(value, decimals), which gives 0.23 for 72 / 320 where numpy and the published files have 0.22.
        scale = 10**self.format.decimals
        rounded = round(value * scale)
        return f"{rounded / scale:g}" if self.format.decimals else str(rounded)

    @classmethod
    def pixels(cls, image: ImageSize) -> Space:
        """The package's own space for an image of this size."""
        return cls(CoordinateFormat.PIXEL, image)


def floored(value: float) -> int:
    """A coordinate as the published `smart_resize_format` files write it: truncated (192 * 308 / 320 = 184.8 -> 184).

    The tolerance keeps a value that was an integer before two conversions on that integer.
    """
    return math.floor(value + 1e-6)


def smart_resize(
    image: ImageSize, *, min_pixels: int = MIN_PIXELS, max_pixels: int = MAX_PIXELS, factor: int = RESIZE_FACTOR
) -> ImageSize:
    """The size Qwen2.5-VL's processor resizes an image to: multiples of 28 with an area between the two limits.

    `factor` is 32 for Qwen3-VL, whose patches are of 16 pixels.

    Raises `DataError` for an aspect ratio over 200, as the processor does.
    Source: `smart_resize` of transformers' Qwen2-VL image processor; Python's round, half to even, included.
    """
    width, height = image
    if min(image) < 1 or max(image) / min(image) > MAX_ASPECT:
        raise DataError(
            f"an image of {width}x{height} cannot be resized: the longer side may be {MAX_ASPECT}x the other."
        )
    new_width = round(width / factor) * factor
    new_height = round(height / factor) * factor
    if new_width * new_height > max_pixels:
        beta = math.sqrt(width * height / max_pixels)
        new_width = max(factor, math.floor(width / beta / factor) * factor)
        new_height = max(factor, math.floor(height / beta / factor) * factor)
    elif new_width * new_height < min_pixels:
        beta = math.sqrt(min_pixels / (width * height))
        new_width = math.ceil(width * beta / factor) * factor
        new_height = math.ceil(height * beta / factor) * factor
    return ImageSize(new_width, new_height)


def pairs(numbers: Sequence[float]) -> tuple[Point, ...]:
    """A flat x, y, x, y … sequence as points; its length is even."""
    return tuple(zip(numbers[::2], numbers[1::2], strict=True))
