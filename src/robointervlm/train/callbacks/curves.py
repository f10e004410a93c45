"""The curves of a run as a picture: loss, learning rates, gradient norm and speed, from its `metrics.jsonl`.

Drawn with Pillow alone, twice as large as shown and then halved, which smooths every line.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from robointervlm.runs.files import write_atomically
from robointervlm.train.callbacks.progress import short

Floats = NDArray[np.float64]

PANEL = (800, 460)
_SCALE = 2
_LEFT, _RIGHT, _TOP, _BOTTOM = 84, 24, 52, 52
_INK, _GREY, _GRID, _PAPER = "#1f2937", "#6b7280", "#e5e7eb", "#ffffff"
# Told apart by people who do not see red and green alike (Okabe and Ito).
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9")
_FAINT = "#b7d3e8"
# More points than pixels say nothing.
_MOST_POINTS = 1400


@dataclass(frozen=True)
class Curve:
    """One line of a panel: values of shape (N,) over steps of shape (N,), and its name in the legend."""

    name: str
    steps: Floats
    values: Floats
    colour: str


@dataclass(frozen=True)
class Panel:
    """One diagram."""

    title: str
    curves: Sequence[Curve]


def write_curves(metrics: Path, picture: Path) -> None:
    """Draw the metrics of a run; nothing where there are fewer than two steps."""
    records = read_metrics(metrics)
    if len(records) < 2:
        return
    buffer = io.BytesIO()
    drawn(panels(records)).save(buffer, "PNG")
    write_atomically(picture, buffer.getvalue())


def read_metrics(path: Path) -> list[dict[str, object]]:
    """The lines that are whole records of a step."""
    records = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            record = json.loads(line)
        except ValueError:
            continue  # the torn last line of a killed run
        if isinstance(record, dict) and "step" in record:
            records.append(record)
    return records


def panels(records: Sequence[Mapping[str, object]]) -> list[Panel]:
    """The four diagrams of a run."""
    rates = [{"step": record["step"], **rate} for record in records if isinstance(rate := record.get("lr"), dict)]
    parts = list(dict.fromkeys(part for rate in rates for part in rate if part != "step"))
    rates_drawn = [
        Curve(part, *_series(rates, part), _COLOURS[place % len(_COLOURS)]) for place, part in enumerate(parts)
    ]
    return [
        Panel("Loss per supervised token (nats)", _with_mean(*_series(records, "loss"))),
        Panel("Learning rate", rates_drawn),
        Panel("Gradient norm before clipping", _with_mean(*_series(records, "grad_norm"))),
        Panel("Tokens per second, padding included", _with_mean(*_series(records, "tokens_per_second"))),
    ]


def _with_mean(steps: Floats, values: Floats) -> list[Curve]:
    """The values of each step, faint, and their mean over the last steps where that is of more than one."""
    window = _window(len(values))
    if window == 1:
        return [Curve("", steps, values, _COLOURS[0])]
    mean = Curve(f"mean of {window} steps", steps, smoothed(values), _COLOURS[0])
    return [Curve("each step", steps, values, _FAINT), mean]


def smoothed(values: Floats) -> Floats:
    """The mean of the last steps, fewer at the beginning: of about a thirtieth of the run, at most 100."""
    window = _window(len(values))
    sums = np.concatenate([[0.0], np.cumsum(values)])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(0, ends - window)
    means: Floats = (sums[ends] - sums[starts]) / (ends - starts)
    return means


def _window(count: int) -> int:
    return max(1, min(100, count // 30))


def _series(records: Sequence[Mapping[str, object]], name: str) -> tuple[Floats, Floats]:
    pairs = [(_number(record["step"]), _number(record[name])) for record in records if record.get(name) is not None]
    finite = np.array([pair for pair in pairs if math.isfinite(pair[1])], dtype=np.float64).reshape(-1, 2)
    return finite[:, 0], finite[:, 1]


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else math.nan


def drawn(diagrams: Sequence[Panel]) -> Image.Image:
    """The diagrams in two columns."""
    rows = math.ceil(len(diagrams) / 2)
    sheet = Image.new("RGB", (2 * PANEL[0] * _SCALE, rows * PANEL[1] * _SCALE), _PAPER)
    for place, panel in enumerate(diagrams):
        row, column = divmod(place, 2)
        sheet.paste(_panel(panel), (column * PANEL[0] * _SCALE, row * PANEL[1] * _SCALE))
    return sheet.resize((2 * PANEL[0], rows * PANEL[1]), Image.Resampling.LANCZOS)


def _panel(panel: Panel) -> Image.Image:
    image = Image.new("RGB", (PANEL[0] * _SCALE, PANEL[1] * _SCALE), _PAPER)
    pen = _Pen(ImageDraw.Draw(image))
    pen.text((_LEFT, 16), panel.title, size=17, colour=_INK)
    curves = [curve for curve in panel.curves if len(curve.values)]
    if not curves:
        pen.text((PANEL[0] / 2, PANEL[1] / 2), "no values", anchor="mm")
        return image
    across = _Axis.over(np.concatenate([curve.steps for curve in curves]), _LEFT, PANEL[0] - _RIGHT, whole=True)
    up = _Axis.over(
        np.concatenate([_without_outliers(curve.values) for curve in curves]), PANEL[1] - _BOTTOM, _TOP, whole=False
    )
    _frame(pen, across, up)
    for curve in curves:
        chosen = outline(curve.values)
        values = np.clip(curve.values[chosen], up.low, up.high)
        points = [(across.place(x), up.place(y)) for x, y in zip(curve.steps[chosen], values, strict=True)]
        pen.line(points, curve.colour, width=1.2 if curve.colour == _FAINT else 2.2)
    _legend(pen, [curve for curve in curves if curve.name])
    return image


def outline(values: Floats) -> NDArray[np.int64]:
    """The places of the points that are drawn: of many, the lowest and the highest of each short stretch."""
    if len(values) <= _MOST_POINTS:
        return np.arange(len(values))
    ends = np.linspace(0, len(values), _MOST_POINTS // 2 + 1).astype(int)
    stretches = [(start, values[start:end]) for start, end in zip(ends, ends[1:], strict=False)]
    extremes = [start + place for start, part in stretches for place in (int(part.argmin()), int(part.argmax()))]
    return np.unique([0, *extremes, len(values) - 1])


def _without_outliers(values: Floats) -> Floats:
    """The values an axis has to show: a single spike many times as high as all others would flatten them."""
    high = np.quantile(values, 0.98)
    middle = float(np.median(values))
    return np.minimum(values, high + 2 * (high - middle)) if len(values) >= 50 else values


def _frame(pen: _Pen, across: _Axis, up: _Axis) -> None:
    for value in up.ticks:
        pen.line([(_LEFT, up.place(value)), (PANEL[0] - _RIGHT, up.place(value))], _GRID, width=1)
        pen.text((_LEFT - 10, up.place(value)), _label(value, up.step), anchor="rm")
    for value in across.ticks:
        pen.line([(across.place(value), PANEL[1] - _BOTTOM), (across.place(value), PANEL[1] - _BOTTOM + 5)], _GREY, 1)
        pen.text((across.place(value), PANEL[1] - _BOTTOM + 10), f"{value:,.0f}", anchor="ma")
    bottom = PANEL[1] - _BOTTOM
    pen.line([(_LEFT, _TOP), (_LEFT, bottom), (PANEL[0] - _RIGHT, bottom)], _GREY, width=1)
    pen.text((PANEL[0] - _RIGHT, PANEL[1] - 6), "step", anchor="rd")


def _legend(pen: _Pen, curves: Sequence[Curve]) -> None:
    right = float(PANEL[0] - _RIGHT)
    for curve in reversed(curves):
        width = pen.width(curve.name)
        pen.text((right - width, 20), curve.name)
        pen.line([(right - width - 30, 28), (right - width - 8, 28)], curve.colour, width=3)
        right -= width + 48


def _label(value: float, step: float) -> str:
    """A tick's number: 0.25, 1,500, 12k, 3e-06; as many digits as its neighbours need."""
    if value == 0:
        return "0"
    if abs(value) >= 10_000:
        return short(value)
    if abs(step) < 1e-3:
        return f"{value:.2g}"
    return f"{value:,.{max(0, -math.floor(math.log10(step) + 1e-9))}f}"


@dataclass(frozen=True)
class _Axis:
    """Maps values to pixels, with ticks at round numbers."""

    low: float
    high: float
    step: float
    start: float
    end: float

    @classmethod
    def over(cls, values: Floats, start: float, end: float, *, whole: bool) -> _Axis:
        low, high = float(values.min()), float(values.max())
        if not whole:
            low = min(low, 0.0) if low > 0 and low < 0.6 * high else low
        if high <= low:
            high = low + (abs(low) or 1.0)
        step = _round_step((high - low) / 6)
        if whole:
            return cls(low, high, max(1.0, step), start, end)
        return cls(math.floor(low / step) * step, math.ceil(high / step - 1e-9) * step, step, start, end)

    @property
    def ticks(self) -> list[float]:
        first = math.ceil(self.low / self.step - 1e-9)
        last = math.floor(self.high / self.step + 1e-9)
        return [number * self.step for number in range(first, last + 1)]

    def place(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def _round_step(rough: float) -> float:
    """The smallest of 1, 2 and 5 times a power of ten that is no smaller."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))


@dataclass(frozen=True)
class _Pen:
    """Draws in the coordinates of the finished panel."""

    draw: ImageDraw.ImageDraw

    def line(self, points: Sequence[tuple[float, float]], colour: str, width: float) -> None:
        scaled = [(x * _SCALE, y * _SCALE) for x, y in points]
        self.draw.line(scaled, fill=colour, width=max(1, round(width * _SCALE)), joint="curve")

    def text(
        self, place: tuple[float, float], text: str, *, size: int = 14, colour: str = _GREY, anchor: str = "la"
    ) -> None:
        at = (place[0] * _SCALE, place[1] * _SCALE)
        self.draw.text(at, text, fill=colour, font=_font(size * _SCALE), anchor=anchor)

    def width(self, text: str) -> float:
        return self.draw.textlength(text, font=_font(14 * _SCALE)) / _SCALE


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own font, which needs no file of the system."""
    return ImageFont.load_default(size)
