"""The curves of a run as one page, `curves.html`, from its `metrics.jsonl` and `validation.jsonl`.

The lines are inline SVG and can be read without JavaScript; `curves.js` in the page zooms them. Nothing is loaded from
anywhere.
"""

from __future__ import annotations

import base64
import hashlib
import importlib
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from robointervlm.core.metric import number, unit_of
from robointervlm.runs.files import write_atomically
from robointervlm.runs.run import is_installed
from robointervlm.tasks import all_tasks
from robointervlm.train.callbacks.validation import VALIDATION

Floats = NDArray[np.float64]

METRICS = "metrics.jsonl"
PAGE, PICTURE = "curves.html", "curves.png"
# More points than the pixels of a large screen say nothing.
_MOST_POINTS = 2000
# The drawing inside the axes, in units of the SVG; `curves.js` has the same numbers.
_WIDTH, _HEIGHT = 640, 220


@dataclass(frozen=True)
class Curve:
    """One line of a panel: values of shape (N,) over steps of shape (N,), and its name in the legend."""

    name: str
    steps: Floats
    values: Floats
    faint: bool = False


@dataclass(frozen=True)
class Panel:
    """One diagram; `left_out` is how many values were no finite numbers."""

    title: str
    curves: Sequence[Curve]
    left_out: int = 0


def write_curves(run: Path) -> None:
    """Draw the curves of a run's folder; nothing where it has no step yet.

    Reads the whole log each time: about 4 seconds of processor time for 100,000 steps, measured on a slow and busy
    machine of two cores; the page has 0.3 MB. `curves.png` is drawn, too, where matplotlib is installed.
    """
    records, validated = read_records(run / METRICS), read_records(run / VALIDATION)
    if not records:
        return
    diagrams, scores = panels(records), validation_panels(validated)
    write_atomically(run / PAGE, page(run.resolve().name, records, validated, diagrams, scores))
    if is_installed("matplotlib"):
        write_atomically(run / PICTURE, picture([*diagrams, *scores]))


def read_records(path: Path) -> list[dict[str, Any]]:
    """The lines that are whole records of a step, in order; of a step that was repeated after a kill, the last."""
    records: dict[int, dict[str, Any]] = {}
    for line in path.read_text(encoding="utf-8", errors="replace").split("\n") if path.is_file() else ():
        try:
            record = json.loads(line)
        except ValueError:
            continue  # the torn last line of a killed run
        if isinstance(record, dict) and isinstance(step := record.get("step"), int):
            records[step] = record
    return [records[step] for step in sorted(records)]


def panels(records: Sequence[Mapping[str, Any]]) -> list[Panel]:
    """The diagrams of `metrics.jsonl`: loss, learning rate, gradient norm, throughput and memory."""
    rates = [{"step": record["step"], **rate} for record in records if isinstance(rate := record.get("lr"), dict)]
    parts = dict.fromkeys(part for rate in rates for part in rate if part != "step")
    return [
        _with_mean("Loss per supervised token (nats)", records, "loss"),
        Panel("Learning rate", [_curve(part, rates, part) for part in parts]),
        _with_mean("Gradient norm before clipping", records, "grad_norm"),
        _with_mean("Throughput (tokens per second, padding included)", records, "tokens_per_second"),
        Panel("Highest memory so far (GiB, rank 0)", [_curve("", records, "memory_gib")]),
    ]


def validation_panels(validated: Sequence[Mapping[str, Any]]) -> list[Panel]:
    """The diagrams of `validation.jsonl`: of each task its shares together, every other metric by itself."""
    found: list[Panel] = []
    for task, lines in _by_task(validated).items():
        readable = [{"step": line["step"], "readable": line["readable"] / line["questions"]} for line in lines]
        shares = [_curve("readable ↑", readable, "readable")]
        others = []
        for name, (unit, arrow) in _metrics_of(task, lines).items():
            values = [{"step": line["step"], **line["metrics"].get(name, {})} for line in lines]
            if unit == "share":
                shares.insert(-1, _curve(f"{name} {arrow}".strip(), values, "mean"))
                continue
            curves = [_curve("readable answers", values, "mean"), _curve("failures charged", values, "charged")]
            title = " ".join(filter(None, (f"{task}:", name, arrow, f"({unit})" if unit else "")))
            others.append(Panel(title, curves))
        found += [Panel(f"{task} (share)", shares), *others]
    return found


def _by_task(validated: Sequence[Mapping[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """The entries of each task over the run, with their step."""
    tasks: dict[str, list[dict[str, Any]]] = {}
    for record in validated:
        for entry in record.get("tasks", ()):
            tasks.setdefault(entry["task"], []).append({**entry, "step": record["step"]})
    return tasks


def _metrics_of(task: str, lines: Sequence[Mapping[str, Any]]) -> dict[str, tuple[str, str]]:
    """Unit and direction of each metric; a task that is no longer known has no direction."""
    known = all_tasks().get(task)
    arrows = {metric.name: "↑" if metric.better == "higher" else "↓" for metric in known.metrics} if known else {}
    return {
        name: (unit_of({"bounded": values["over"] == "questions", **values}), arrows.get(name, ""))
        for line in lines
        for name, values in line["metrics"].items()
    }


def _with_mean(title: str, records: Sequence[Mapping[str, Any]], name: str) -> Panel:
    """The values of each step, faint, and their mean over the last steps where that is of more than one."""
    each = _curve("each step", records, name, faint=True)
    left_out = sum(record.get(name) is not None for record in records) - len(each.values)
    window = _window(len(each.values))
    if window == 1:
        return Panel(title, [Curve("", each.steps, each.values)], left_out)
    return Panel(title, [each, Curve(f"mean of {window} steps", each.steps, smoothed(each.values))], left_out)


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


def _curve(label: str, records: Sequence[Mapping[str, Any]], key: str, *, faint: bool = False) -> Curve:
    """The finite values under this key."""
    steps = np.array([record["step"] for record in records], dtype=np.float64)
    values = np.array([record.get(key) for record in records], dtype=np.float64)  # None becomes NaN
    finite = np.isfinite(values)
    return Curve(label, steps[finite], values[finite], faint)


def outline(values: Floats) -> NDArray[np.int64]:
    """The places of the points that are drawn: of many, the lowest and the highest of each short stretch."""
    if len(values) <= _MOST_POINTS:
        return np.arange(len(values))
    ends = np.linspace(0, len(values), _MOST_POINTS // 2 + 1).astype(int)
    stretches = [(start, values[start:end]) for start, end in zip(ends, ends[1:], strict=False)]
    extremes = [start + place for start, part in stretches for place in (int(part.argmin()), int(part.argmax()))]
    return np.unique([0, *extremes, len(values) - 1])


def page(
    name: str,
    records: Sequence[Mapping[str, Any]],
    validated: Sequence[Mapping[str, Any]],
    diagrams: Sequence[Panel],
    scores: Sequence[Panel],
) -> str:
    """The whole page; what the run wrote is escaped, and the browser runs no other script than `curves.js`."""
    folder = Path(__file__).parent
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script = (folder / "curves.js").read_text(encoding="utf-8")
    steps = [record["step"] for record in [*records, *validated]]
    first, last = (min(steps), max(steps)) if min(steps) < max(steps) else (steps[0] - 1, steps[0] + 1)
    across = Axis(first, last, max(1.0, _round_step((last - first) / 6)))
    return environment.get_template("curves.html.j2").render(
        name=name,
        last=records[-1],
        logged=len(records),
        questions=validated[-1]["questions"] if validated else 0,
        most=_MOST_POINTS,
        sections=[("Training", [_drawn(each, across) for each in diagrams])]
        + ([("Validation", [_drawn(each, across) for each in scores])] if scores else []),
        rows=_score_rows(validated),
        script=Markup(script),  # noqa: S704 - a file of ours
        digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def _score_rows(validated: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """The first and the latest value of every metric, as a report writes them."""
    rows = []
    for task, lines in _by_task(validated).items():
        for name, (unit, arrow) in _metrics_of(task, lines).items():
            first, last = (line["metrics"].get(name, {}).get("mean") for line in (lines[0], lines[-1]))
            of = f"{lines[-1]['readable']} of {lines[-1]['questions']}"
            rows.append(
                {"task": task, "metric": name, "arrow": arrow, "readable": of}
                | {"first": _with_unit(first, unit), "last": _with_unit(last, unit)}
            )
    return rows


def _with_unit(value: float | None, unit: str) -> str:
    return number(value, unit) + (" px" if unit == "px" and value is not None else "")


@dataclass(frozen=True)
class Axis:
    """A range of values with ticks at round numbers."""

    low: float
    high: float
    step: float

    @classmethod
    def over(cls, values: Floats) -> Axis:
        """From a round number to a round number; from zero where that is not far below."""
        low, high = float(values.min()), float(values.max())
        low = 0.0 if 0 < low < 0.6 * high else low
        if high - low <= 1e-9 * abs(high):
            low, high = low - (abs(low) or 1.0), high + (abs(high) or 1.0)
        step = _round_step((high - low) / 5)
        return cls(math.floor(low / step) * step, math.ceil(high / step - 1e-9) * step, step)

    @property
    def ticks(self) -> list[float]:
        first, last = math.ceil(self.low / self.step - 1e-9), math.floor(self.high / self.step + 1e-9)
        return [place * self.step for place in range(first, last + 1)]

    def share(self, value: Any) -> Any:
        """Where a value, or an array of them, lies between the ends: 0 to 1."""
        return (value - self.low) / (self.high - self.low)


def _round_step(rough: float) -> float:
    """The smallest of 1, 2 and 5 times a power of ten that is no smaller."""
    power = 10.0 ** math.floor(math.log10(rough or 1.0))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))


def _without_outliers(values: Floats) -> Floats:
    """The values an axis has to show: a single spike many times as high as all others would flatten them."""
    high = np.quantile(values, 0.98)
    middle = float(np.median(values))
    return np.minimum(values, high + 2 * (high - middle)) if len(values) >= 50 else values


def _drawn(panel: Panel, across: Axis) -> dict[str, Any]:
    """What the template writes of a panel: places in the drawing's units, three decimals of them."""
    curves = [curve for curve in panel.curves if len(curve.values)]
    if not curves:
        return {"title": panel.title, "curves": [], "left_out": panel.left_out}
    up = Axis.over(np.concatenate([_without_outliers(curve.values) for curve in curves]))
    lines = []
    for curve in curves:
        chosen = outline(curve.values)
        x, y = across.share(curve.steps[chosen]) * _WIDTH, (1 - up.share(curve.values[chosen])) * _HEIGHT
        points = [f"{a:.3f},{b:.3f}" for a, b in zip(x.tolist(), y.tolist(), strict=True)]
        # A few values are seen one by one; the zero-length strokes stay round however the drawing is stretched.
        dots = "".join(f"M{point}h0" for point in points) if len(points) <= 60 else ""
        lines.append({"name": curve.name, "faint": curve.faint, "points": " ".join(points), "dots": dots})
    return {
        "title": panel.title,
        "left_out": panel.left_out,
        "curves": lines,
        "ends": [across.low, across.high, up.low, up.high],
        "across": [(across.share(tick) * _WIDTH, f"{tick:,.0f}") for tick in across.ticks],
        "up": [((1 - up.share(tick)) * _HEIGHT, f"{tick:,.6g}") for tick in up.ticks],
    }


def picture(diagrams: Sequence[Panel]) -> bytes:
    """The diagrams as a PNG, by matplotlib, which has to be installed."""
    figure = importlib.import_module("matplotlib.figure").Figure(
        figsize=(16, 4.6 * math.ceil(len(diagrams) / 2)), layout="constrained"
    )
    for place, panel in enumerate(diagrams, 1):
        axes = figure.add_subplot(math.ceil(len(diagrams) / 2), 2, place)
        axes.set_title(panel.title.replace("$", r"\$"), loc="left")
        for curve in panel.curves:
            chosen = outline(curve.values)
            look = {"alpha": 0.35 if curve.faint else 1.0, "marker": "." if len(chosen) <= 60 else ""}
            axes.plot(curve.steps[chosen], curve.values[chosen], label=curve.name.replace("$", r"\$"), **look)
        if any(curve.name for curve in panel.curves):
            axes.legend()
    written = io.BytesIO()
    figure.savefig(written, format="png")
    return written.getvalue()
