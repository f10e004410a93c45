"""The tables of the paper with our runs beside the published rows.

Published figures are data (`published.yaml`) and are called published; ours are called measured, with their n and their
unparsed count in every cell, and say which scoring they are: strict (ours) or paper (the published arithmetic).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import yaml

from robointervlm.core.errors import DataError, RecipeError
from robointervlm.core.metric import unit_of
from robointervlm.report.scored import ScoredRun
from robointervlm.runs.protocol import differences
from robointervlm.tasks import all_tasks, task_named

TableName = Literal["paper", "manipulation", "third-party"]
Scoring = Literal["strict", "paper"]

# With fewer questions a 95 % interval of a share is up to 20 points wide.
FEW = 100


class Column(NamedTuple):
    """One column: `name` is what tasks call it, `heading` what the paper does; `unit` what is measured there."""

    name: str
    heading: str
    unit: str
    better: Literal["higher", "lower"] = "higher"


@dataclass(frozen=True)
class Cell:
    """One figure; None where there is none. `n` and `unparsed` are None for a published one. `notes` count from 1."""

    value: float | None
    n: int | None = None
    unparsed: int | None = None
    notes: tuple[int, ...] = ()

    @property
    def shown(self) -> str:
        """The figure as the paper writes it: one decimal, none from 100 on (distances), a dash for none."""
        if self.value is None:
            return "–"
        return f"{self.value:.0f}" if self.value > 100 else f"{self.value:.1f}"


@dataclass(frozen=True)
class Line:
    """One row; `kind` is `published` or says by which scoring it was measured."""

    model: str
    kind: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class BenchmarkTable:
    """One table of the paper; `notes` are its footnotes, the first being number 1."""

    title: str
    source: str
    columns: tuple[Column, ...]
    lines: tuple[Line, ...]
    notes: tuple[str, ...]

    @property
    def units(self) -> str:
        """What is measured in which columns, as one sentence."""
        by_unit: dict[str, list[str]] = {}
        for column in self.columns:
            by_unit.setdefault(column.unit, []).append(column.heading)
        return "; ".join(f"{', '.join(headings)}: {unit}" for unit, headings in by_unit.items()) + "."


@dataclass(frozen=True)
class NamedRun:
    """A scored run under the name it has in the table."""

    name: str
    run: ScoredRun


def benchmark_tables(runs: Sequence[NamedRun], name: TableName, *, force: bool = False) -> list[BenchmarkTable]:
    """The table of this name; `paper` is both, without the third-party one where no run was asked anything of it.

    Raises `RecipeError` if two runs share a column but not the protocol of its tasks, unless `force`d: then a footnote
    says it. `DataError` for a run that was scored before there were protocols.
    """
    for each in runs:
        if "protocol" not in each.run.report:
            raise DataError(
                f"{each.name} was scored by an older version, without a protocol: robointer score it again."
            )
    if name != "paper":
        return [_table(name, runs, force=force)]
    third_party = {column.name for column in _columns("third-party")}
    asked = any(task_named(group["task"]).column in third_party for each in runs for group in each.run.report["tasks"])
    return [_table(which, runs, force=force) for which in ("manipulation", *(("third-party",) if asked else ()))]


@cache
def _layouts() -> Mapping[str, Any]:
    content: Mapping[str, Any] = yaml.safe_load((Path(__file__).parent / "published.yaml").read_text(encoding="utf-8"))
    return content


def _columns(table: str) -> list[Column]:
    return [Column(**column) for column in _layouts()[table]["columns"]]


def _table(name: str, runs: Sequence[NamedRun], *, force: bool) -> BenchmarkTable:
    layout, columns = _layouts()[name], _columns(name)
    notes = _Notes()
    _check_protocols(runs, columns, notes, force=force)
    lines = [
        Line(model, "published", tuple(Cell(float(figure)) for figure in figures))
        for model, figures in layout["published"].items()
    ]
    for each in runs:
        metrics = [metric for group in each.run.report["tasks"] for metric in group["metrics"]]
        scorings: tuple[Scoring, ...] = ("strict", *(("paper",) if any(one.get("paper") for one in metrics) else ()))
        for scoring in scorings:
            cells = tuple(_cell(each.run, column, scoring, layout["validation"], notes) for column in columns)
            if scoring == "strict" or any(cell.value is not None for cell in cells):
                lines.append(Line(each.name, f"measured, {scoring}", cells))
    return BenchmarkTable(layout["title"], layout["source"], tuple(columns), tuple(lines), tuple(notes.texts))


class _Notes:
    """Footnotes, each text once."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def number(self, text: str) -> int:
        if text not in self.texts:
            self.texts.append(text)
        return self.texts.index(text) + 1


def _check_protocols(runs: Sequence[NamedRun], columns: Sequence[Column], notes: _Notes, *, force: bool) -> None:
    found: dict[str, dict[str, None]] = {}
    for column in columns:
        holders = [each for each in runs if _groups(each.run, column)]
        for other in holders[1:]:
            tasks = {group["task"] for each in (holders[0], other) for group in _groups(each.run, column)}
            protocols = (holders[0].run.report["protocol"], other.run.report["protocol"])
            for said in differences(*protocols, tasks):
                found.setdefault(f"{holders[0].name} / {other.name}", {})[said] = None
    texts = [f"{names}: {'; '.join(said)}" for names, said in found.items()]
    if texts and not force:
        raise RecipeError(
            f"these runs were not asked or scored alike ({' | '.join(texts)}), so that their numbers do not belong in "
            "one column. --force puts them there all the same and says so."
        )
    for text in texts:
        notes.number(f"Not the same protocol: {text}.")


def _groups(run: ScoredRun, column: Column) -> list[Mapping[str, Any]]:
    return [group for group in run.report["tasks"] if task_named(group["task"]).column == column.name]


def _cell(run: ScoredRun, column: Column, scoring: Scoring, validation: Sequence[str], notes: _Notes) -> Cell:
    groups = _groups(run, column)
    figures = [(group, figure) for group in groups if (figure := _figure(group, scoring)) is not None]
    total = sum(figure.n for _, figure in figures)
    if not total:
        return Cell(None)
    value = sum(figure.value * figure.n for _, figure in figures) / total
    return Cell(
        value,
        n=sum(group["n"] for group, _ in figures),
        unparsed=sum(group["unparsed"] for group, _ in figures),
        notes=tuple(
            sorted(notes.number(text) for text in _remarks(run, [group for group, _ in figures], scoring, validation))
        ),
    )


class _Figure(NamedTuple):
    value: float
    n: int


def _figure(group: Mapping[str, Any], scoring: Scoring) -> _Figure | None:
    """The headline of a group: shares in percent, distances in pixels and, in the strict scoring, failures charged."""
    metric = group["metrics"][0]
    found = metric.get("paper") if scoring == "paper" else metric if metric["bounded"] else metric["charged"]
    if not found or found["mean"] is None:
        return None
    return _Figure(found["mean"] * 100 if unit_of(metric) == "share" else found["mean"], found["n"])


def _remarks(
    run: ScoredRun, groups: Sequence[Mapping[str, Any]], scoring: Scoring, validation: Sequence[str]
) -> list[str]:
    """What a reader has to know of a cell."""
    remarks = []
    if sum(group["n"] for group in groups) < FEW:
        remarks.append(f"Fewer than {FEW} questions.")
    tasks = [group["task"] for group in groups]
    remarks += _which_tasks(tasks)
    names = [group["dataset"] for group in run.report["datasets"] if group["task"] in tasks]
    if not all(_is_one_of(name, validation) for name in names):
        remarks.append(_other_data(run, validation))
    said = _over_readable if scoring == "strict" else _left_out
    return remarks + [text for group in groups if (text := said(group))]


def _which_tasks(tasks: Sequence[str]) -> list[str]:
    """Which tasks a figure is of, where the column is for several."""
    column = task_named(tasks[0]).column
    others = [task.name for task in all_tasks().values() if task.column == column and task.name not in tasks]
    if others:
        return [f"Of {', '.join(tasks)} only; the column is also for {', '.join(others)}."]
    return [f"Of {', '.join(tasks)} together, each question counting once."] if len(tasks) > 1 else []


def _is_one_of(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)


def _other_data(run: ScoredRun, validation: Sequence[str]) -> str:
    """One note for all cells of a run, so that a table of simulated data does not have one a column."""
    names = dict.fromkeys(group["dataset"] for group in run.report["datasets"] if task_named(group["task"]).column)
    others = ", ".join(name for name in names if not _is_one_of(name, validation))
    return f"Measured on {others}, by name not the published validation sets: not to be compared with published rows."


def _over_readable(group: Mapping[str, Any]) -> str:
    metric = group["metrics"][0]
    if metric["bounded"] or not group["unparsed"] or metric["mean"] is None:
        return ""
    return f"Failures charged; over the {metric['n']} readable answers of {group['task']} alone {metric['mean']:.1f}."


def _left_out(group: Mapping[str, Any]) -> str:
    counted = group["metrics"][0]["paper"]["n"]
    if counted == group["n"]:
        return ""
    return f"The published arithmetic counts {counted} of the {group['n']} answers of {group['task']}."
