"""What a metric is: a number for one readable answer, its unit, its direction, and what a failure is charged."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from robointervlm.core.answer import Answer
from robointervlm.core.coordinates import ImageSize

Direction = Literal["higher", "lower"]
Penalty = Callable[[Answer, ImageSize | None], float]


class Case(NamedTuple):
    """What a metric measures: an answer, the reference, and the size of the picture both are in pixels of."""

    predicted: Answer
    reference: Answer
    image: ImageSize | None


@dataclass(frozen=True)
class Metric:
    """A number for one readable answer.

    `measure` takes the predicted answer, the reference and the size of the image both are in pixels of. `unit` is what
    the number is in: `share` (of 1), `px`, `deg`, any other name, "" for none. `worst` is what a failure is charged on
    a bounded metric; None says the metric has no upper bound, and then the failures are charged the `penalty` in a
    column of its own (see `charged`): a number, or what `penalty(reference, image)` gives, NaN where there is nothing
    to charge by. `measure_many` gives the same numbers for many answers at once, where that is faster; scoring uses it
    if it is there.
    """

    name: str
    better: Direction
    measure: Callable[[Answer, Answer, ImageSize | None], float]
    unit: str
    worst: float | None = None
    penalty: Penalty | float | None = None
    measure_many: Callable[[Sequence[Case]], Sequence[float]] | None = None

    def measured(self, cases: Sequence[Case]) -> list[float]:
        """The number of every readable answer, of all at once if it can."""
        if not cases:
            return []
        if self.measure_many is None:
            return [self.measure(*case) for case in cases]
        return [float(value) for value in self.measure_many(cases)]

    def charge(self, value: float | None, reference: Answer | None, image: ImageSize | None) -> float:
        """The value of one question with failures charged, None being one; NaN where there is nothing to charge by."""
        if self.worst is not None:
            return self.worst if value is None else value
        if self.penalty is None:
            return math.nan
        if not callable(self.penalty):
            return charged(value, self.penalty, self.better)
        return math.nan if reference is None else charged(value, self.penalty(reference, image), self.better)

    @property
    def in_report(self) -> dict[str, str]:
        """The unit as a report holds it: left out where it follows from the bound, as in reports that had no units."""
        implied = _implied(bounded=self.worst is not None)
        return {} if self.unit == implied else {"unit": self.unit}


def charged(value: float | None, penalty: float, better: Direction = "lower") -> float:
    """The value of one sample in the charged column; None is an unreadable answer, NaN a penalty that nobody knows.

    A readable answer is charged its own value, but never more than the penalty, so that a failure is never better.
    """
    if value is None or math.isnan(penalty):
        return penalty
    return min(value, penalty) if better == "lower" else max(value, penalty)


def unit_of(described: Mapping[str, Any]) -> str:
    """The unit of a metric in a report or in a row of a comparison."""
    return str(described.get("unit", _implied(bounded=bool(described["bounded"]))))


def _implied(*, bounded: bool) -> str:
    return "share" if bounded else "px"


# Decimals of a number in a table; of other units four digits are shown.
_DECIMALS = {"share": 3, "px": 1, "deg": 1}


def number(value: float | None, unit: str, *, signed: bool = False) -> str:
    """A mean in a table; a dash where there is none. The unit stands beside it, but for shares and pixels."""
    if value is None:
        return "–"
    sign = "+" if signed else ""
    shown = f"{value:{sign}.{_DECIMALS[unit]}f}" if unit in _DECIMALS else f"{value:{sign}.4g}"
    return shown if unit in ("share", "px", "") else f"{shown} {unit}"


def amount(value: float, unit: str) -> str:
    """A difference in words: of shares in points, 100 of which are all there is; else with its unit."""
    if unit == "share":
        return f"{value * 100:.1f} points"
    shown = number(value, unit)
    return f"{shown} px" if unit == "px" else shown
