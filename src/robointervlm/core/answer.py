"""What a question can be answered with. Coordinates are pixels of the stored image, floats, not clipped to it.

An answer type is a subclass of `Answer`: it says all there is to know of answers of its kind. What this layer cannot
know is given to the types that come with the package where it is known: `read` in `core.reading`, `metrics` in
`metrics.standard`. A type of your own defines both itself (docs/plugins.md).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robointervlm.core.coordinates import ImageSize, Point, Space
from robointervlm.core.errors import DataError, RecipeError
from robointervlm.core.shapes import Dots, Label, Path, Rectangle, Shape

if TYPE_CHECKING:
    from robointervlm.core.metric import Metric
    from robointervlm.core.reading.text import Reading

Move = Callable[[Point], Point]
Count = tuple[str, Hashable]
"""What is counted of an answer: the name of a histogram, and where in it the answer is."""

# Cells of the map of box centres, across and down; classes of box sizes.
GRID = (16, 16)
SIZE_CLASSES = 20
# How many places are named in words.
_PLACES_IN_WORDS = 12

_TYPES: dict[str, type[Answer]] = {}


class Answer:
    """The base of every answer type: a frozen dataclass with a `key` of its own, under which records hold it.

    `read` takes a model's text, the space it writes in and `key=`, the key that the task's answers are written under;
    `metrics` are what a task of this type is measured by that names no others. The methods below say what most answers
    do: they have no place in the image, are not drawn and not counted.
    """

    key: ClassVar[str]
    read: ClassVar[Callable[..., Reading]]
    metrics: ClassVar[tuple[Metric, ...]] = ()

    def __init_subclass__(cls, **keywords: object) -> None:
        super().__init_subclass__(**keywords)
        if "key" not in vars(cls):
            raise RecipeError(f"answer type {cls.__qualname__} has no key of its own, under which records hold it.")
        known = _TYPES.get(cls.key)
        if known is not None and (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
            raise RecipeError(
                f"two answer types have the key '{cls.key}': {known.__module__}.{known.__qualname__} and "
                f"{cls.__module__}.{cls.__qualname__}; rename one."
            )
        _TYPES[cls.key] = cls

    def to_json(self) -> object:
        """The exact value for a record file, pixels as floats."""
        raise NotImplementedError

    @classmethod
    def from_json(cls, value: object) -> Self:
        """The answer that `to_json` wrote; `ValueError`, `TypeError`, `KeyError` or `DataError` for anything else."""
        raise NotImplementedError

    def written(self, space: Space | None, key: str) -> str:
        """The answer as the published data writes it: places in `space`, and under `key` if there is one."""
        raise NotImplementedError

    @property
    def in_words(self) -> str:
        """A short form for people; places in whole pixels."""
        return str(next(iter(vars(self).values())))

    @property
    def places(self) -> tuple[Point, ...]:
        """The places of the answer, in pixels; none if it has none."""
        return ()

    def moved(self, move: Move) -> Answer:
        """The answer with each of its places moved, as an augmented image moves them."""
        return self

    def shapes(self, image: ImageSize | None) -> tuple[Shape, ...]:
        """What is drawn over an image of this size, in its pixels; None is an image of a size that is not known."""
        return ()

    def counted(self, image: ImageSize | None) -> Iterable[Count]:
        """What `data stats` counts of it; a histogram of labels, in their order."""
        return ()


def answer_type(key: str) -> type[Answer] | None:
    """The answer type of a key; None if none that is loaded has it."""
    return _TYPES.get(key)


def keyed(key: str, written: str) -> str:
    """A written answer under a key, as the JSON that the published data has; bare without one."""
    return f'{{"{key}": {written}}}' if key else written


def written_places(points: Iterable[Point], space: Space | None) -> str:
    """Places as a JSON list in `space`, rounded as its format is; `DataError` where there is no image to measure in."""
    if space is None:
        raise DataError(
            "an answer with coordinates is written in the space of its image, and this sample has no image."
        )
    written = (f"[{space.number(x)}, {space.number(y)}]" for x, y in space.from_pixels(points))
    return f"[{', '.join(written)}]"


def json_list(value: object, length: int | None = None) -> Sequence[object]:
    """The value, a list of so many entries; else `ValueError`."""
    if not isinstance(value, list | tuple) or (length is not None and len(value) != length):
        raise ValueError
    return value


def json_number(value: object, what: str = "coordinate") -> float:
    """The value, a finite number; else `DataError` that says it is no `what`."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise DataError(f"{str(value)[:200]} is not a {what}.")
    return float(value)


def _json_length(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise DataError(f"{str(value)[:200]} is not a number of pixels.")
    return value


def _places_in_words(points: Sequence[Point]) -> str:
    shown = " ".join(f"({x:.0f}, {y:.0f})" for x, y in points[:_PLACES_IN_WORDS])
    return shown + (" …" if len(points) > _PLACES_IN_WORDS else "") + " px"


@dataclass(frozen=True)
class Box(Answer):
    """An axis-aligned box with x1 <= x2 and y1 <= y2; it may lie partly outside the image."""

    key: ClassVar[str] = "box"

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

    def to_json(self) -> object:
        return [self.x1, self.y1, self.x2, self.y2]

    @classmethod
    def from_json(cls, value: object) -> Self:
        return cls(*map(json_number, json_list(value, 4)))

    def written(self, space: Space | None, key: str) -> str:
        return keyed(key, written_places(self.corners, space))

    @property
    def in_words(self) -> str:
        return _places_in_words(self.corners)

    @property
    def places(self) -> tuple[Point, ...]:
        return self.corners

    def moved(self, move: Move) -> Answer:
        first, second = self.corners
        return Box.spanning(move(first), move(second))

    def shapes(self, image: ImageSize | None) -> tuple[Shape, ...]:
        return (Rectangle(*self.corners),)

    def counted(self, image: ImageSize | None) -> Iterable[Count]:
        """Where the centre is, as (row, column) of `GRID`, and the square root of its share of the image's area."""
        if image is None:
            return
        columns, rows = GRID
        column = int((self.x1 + self.x2) / 2 / image.width * columns)
        row = int((self.y1 + self.y2) / 2 / image.height * rows)
        # A centre outside the image counts in the cell at its edge.
        yield "positions", (min(max(row, 0), rows - 1), min(max(column, 0), columns - 1))
        side = (self.area / (image.width * image.height)) ** 0.5
        yield "sizes", min(int(side * SIZE_CLASSES), SIZE_CLASSES - 1)


@dataclass(frozen=True)
class _Places:
    """What `Points` and `Trajectory` have in common."""

    points: tuple[Point, ...]

    @property
    def array(self) -> NDArray[np.float64]:
        """Shape (N, 2) as x, y."""
        return np.array(self.points, dtype=np.float64).reshape(-1, 2)

    def to_json(self) -> object:
        return [list(point) for point in self.points]

    @classmethod
    def from_json(cls, value: object) -> Self:
        found = []
        for point in json_list(value):
            if not isinstance(point, list | tuple) or len(point) != 2:
                raise DataError(f"{str(point)[:200]} is not a point [x, y].")
            found.append((json_number(point[0]), json_number(point[1])))
        return cls(tuple(found))

    def written(self, space: Space | None, key: str) -> str:
        return keyed(key, written_places(self.points, space))

    @property
    def in_words(self) -> str:
        return _places_in_words(self.points)

    @property
    def places(self) -> tuple[Point, ...]:
        return self.points

    def moved(self, move: Move) -> Self:
        return replace(self, points=tuple(move(point) for point in self.points))


@dataclass(frozen=True)
class Points(_Places, Answer):
    """A few places without an order in time, such as the two fingertips of a grasp."""

    key: ClassVar[str] = "points"

    def shapes(self, image: ImageSize | None) -> tuple[Shape, ...]:
        return (Dots(self.points),)


@dataclass(frozen=True)
class Trajectory(_Places, Answer):
    """A path through the image, in order of time."""

    key: ClassVar[str] = "trajectory"

    def shapes(self, image: ImageSize | None) -> tuple[Shape, ...]:
        return (Path(self.points),)

    def counted(self, image: ImageSize | None) -> Iterable[Count]:
        yield "waypoints", len(self.points)


@dataclass(frozen=True)
class Region(Answer):
    """The places of an image that count as right, of any shape: the reference of a question answered by points.

    `runs` are lengths along the rows from the upper left, outside and inside in turn, beginning with outside (0 if the
    first pixel is inside); together they are all pixels of `size`. A point belongs to the pixel it lies in.
    """

    key: ClassVar[str] = "region"
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

    def to_json(self) -> object:
        return {"size": list(self.size), "runs": list(self.runs)}

    @classmethod
    def from_json(cls, value: object) -> Self:
        if not isinstance(value, dict) or set(value) != {"size", "runs"}:
            raise ValueError
        width, height = json_list(value["size"], 2)
        runs = tuple(_json_length(run) for run in json_list(value["runs"]))
        return cls(ImageSize(_json_length(width), _json_length(height)), runs)

    def written(self, space: Space | None, key: str) -> str:
        """As one point inside it."""
        return keyed(key, written_places([self.inner_point], space))

    @property
    def in_words(self) -> str:
        return f"a region of {self.area} px"


@dataclass(frozen=True)
class Choice(Answer):
    """One of several lettered options; the letter is upper case."""

    key: ClassVar[str] = "choice"
    letter: str

    def to_json(self) -> object:
        return self.letter

    @classmethod
    def from_json(cls, value: object) -> Self:
        return cls(_json_text(value))

    def written(self, space: Space | None, key: str) -> str:
        return self.letter

    def counted(self, image: ImageSize | None) -> Iterable[Count]:
        yield "answers", self.letter


@dataclass(frozen=True)
class YesNo(Answer):
    key: ClassVar[str] = "yes_no"
    yes: bool

    def to_json(self) -> object:
        return self.yes

    @classmethod
    def from_json(cls, value: object) -> Self:
        if not isinstance(value, bool):
            raise ValueError
        return cls(value)

    def written(self, space: Space | None, key: str) -> str:
        return "Yes" if self.yes else "No"

    def counted(self, image: ImageSize | None) -> Iterable[Count]:
        yield "answers", "yes" if self.yes else "no"


@dataclass(frozen=True)
class Text(Answer):
    key: ClassVar[str] = "text"
    text: str

    def to_json(self) -> object:
        return self.text

    @classmethod
    def from_json(cls, value: object) -> Self:
        return cls(_json_text(value))

    def written(self, space: Space | None, key: str) -> str:
        return self.text


@dataclass(frozen=True)
class Number(Answer):
    """A value with its unit, such as 30 deg; it is no place, and no image's size changes it."""

    key: ClassVar[str] = "number"
    value: float
    unit: str = ""

    def to_json(self) -> object:
        return {"value": self.value, "unit": self.unit}

    @classmethod
    def from_json(cls, value: object) -> Self:
        if not isinstance(value, dict) or set(value) != {"value", "unit"}:
            raise ValueError
        return cls(json_number(value["value"], "number"), _json_text(value["unit"]))

    def written(self, space: Space | None, key: str) -> str:
        """Under a key the value alone, else with its unit; six digits."""
        return keyed(key, f"{self.value:.6g}") if key else self.in_words

    @property
    def in_words(self) -> str:
        return f"{self.value:.6g} {self.unit}".rstrip()

    def shapes(self, image: ImageSize | None) -> tuple[Shape, ...]:
        return (Label(self.in_words),)

    def counted(self, image: ImageSize | None) -> Iterable[Count]:
        """The value to two digits."""
        yield f"values in {self.unit}" if self.unit else "values", float(f"{self.value:.2g}")


def _json_text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError
    return value


@dataclass(frozen=True)
class Unparsed:
    """A text in which no answer could be read, and why. Never a value, never scored as one."""

    text: str
    reason: str
