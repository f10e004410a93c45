"""What a question can be answered with. Coordinates are pixels of the stored image, floats, not clipped to it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robointervlm.core.coordinates import Point


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


Answer = Box | Points | Trajectory | Choice | YesNo | Text
