"""What a question can be answered with. Coordinates are pixels of the stored image, floats, not clipped to it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robointervlm.core.coordinates import ImageSize, Point
from robointervlm.core.errors import DataError


@dataclass(frozen=True)
class Box:
    """An axis-aligned box with x1 <= x2 and y1 <= y2; it may lie partly outside the image."""

    x1: float
    y1: float
    x2: float
    y2: float

    @classmethod
    def spanning(cls, first: Point, second: Point) -> Box:
        """The box with these two opposite corners, given in any order."""
        (ax, ay), (bx, by) = first, second
        return cls(min(ax, bx), min(ay, by), max(ax, bx), max(ay, by))

    @property
    def corners(self) -> tuple[Point, Point]:
        return (self.x1, self.y1), (self.x2, self.y2)

    @property
    def area(self) -> float:
        return max(0.0, self.x2 - self.x1) * max(0.0, self.y2 - self.y1)


@dataclass(frozen=True)
class Points:
    """A few places without an order in time, such as the two fingertips of a grasp."""

    points: tuple[Point, ...]

    @property
    def array(self) -> NDArray[np.float64]:
        """Shape (N, 2) as x, y."""
        return np.array(self.points, dtype=np.float64).reshape(-1, 2)


@dataclass(frozen=True)
class Trajectory:
    """A path through the image, in order of time."""

    points: tuple[Point, ...]

    @property
    def array(self) -> NDArray[np.float64]:
        """Shape (N, 2) as x, y."""
        return np.array(self.points, dtype=np.float64).reshape(-1, 2)


@dataclass(frozen=True)
class Region:
    """The places of an image that count as right, of any shape: the reference of a question answered by points.

    `runs` are lengths along the rows from the upper left, outside and inside in turn, beginning with outside (0 if the
    first pixel is inside); together they are all pixels of `size`. A point belongs to the pixel it lies in.
    """

    size: ImageSize
    runs: tuple[int, ...]

    def __post_init__(self) -> None:
        if min(self.size) < 1 or min(self.runs, default=0) < 0 or sum(self.runs) != self.size.width * self.size.height:
            raise DataError(
                f"a region of {self.size.width}x{self.size.height} has runs that add up to all of its pixels; "
                f"these {len(self.runs)} add up to {sum(self.runs)}."
            )

    @classmethod
    def of_mask(cls, mask: ArrayLike) -> Region:
        """The region of a mask, shape (height, width), true where it is right."""
        inside = np.asarray(mask, dtype=np.bool_)
        height, width = inside.shape
        edges = np.flatnonzero(np.diff(inside.ravel(), prepend=np.False_, append=np.False_))
        ends = np.concatenate(([0], edges, [inside.size])) if inside.size else np.zeros(1, dtype=np.int64)
        return cls(ImageSize(width, height), tuple(np.diff(ends).tolist()))

    @cached_property
    def mask(self) -> NDArray[np.bool_]:
        """Shape (height, width), true inside."""
        inside = np.arange(len(self.runs)) % 2 == 1
        return np.repeat(inside, self.runs).reshape(self.size.height, self.size.width)

    @property
    def area(self) -> int:
        """How many pixels it has."""
        return sum(self.runs[1::2])

    def contains(self, point: Point) -> bool:
        """Whether a point lies in it; what lies outside of the image never does."""
        x, y = point
        if not (0 <= x < self.size.width and 0 <= y < self.size.height):
            return False
        return bool(self.mask[math.floor(y), math.floor(x)])

    @property
    def inner_point(self) -> Point:
        """The pixel of the region that is nearest to its centre, by its upper left corner, so that it can be written in
        whole numbers and is still inside; a `DataError` if there is no pixel.
        """
        rows, columns = np.nonzero(self.mask)
        if not len(rows):
            raise DataError("a region without a pixel has no point in it.")
        nearest = int(np.argmin((columns - columns.mean()) ** 2 + (rows - rows.mean()) ** 2))
        return float(columns[nearest]), float(rows[nearest])


@dataclass(frozen=True)
class Choice:
    """One of several lettered options; the letter is upper case."""

    letter: str


@dataclass(frozen=True)
class YesNo:
    yes: bool


@dataclass(frozen=True)
class Text:
    text: str


@dataclass(frozen=True)
class Unparsed:
    """A text in which no answer could be read, and why. Never a value, never scored as one."""

    text: str
    reason: str


Answer = Box | Points | Trajectory | Region | Choice | YesNo | Text
