"""What an answer looks like over its image, in pixels of the stored image: drawn as SVG, or into a PNG."""

from __future__ import annotations

from dataclasses import dataclass

from robointervlm.core.coordinates import Point


@dataclass(frozen=True)
class Rectangle:
    """The outline between two opposite corners, the upper left one first."""

    first: Point
    second: Point


@dataclass(frozen=True)
class Dots:
    """Places without an order."""

    points: tuple[Point, ...]


@dataclass(frozen=True)
class Path:
    """A line through places in their order, each with a dot; it begins at the large one."""

    points: tuple[Point, ...]


@dataclass(frozen=True)
class Line:
    """A line through places in their order, without dots."""

    points: tuple[Point, ...]


@dataclass(frozen=True)
class Label:
    """Words in the upper left corner, for an answer that is no place."""

    text: str


Shape = Rectangle | Dots | Path | Line | Label
