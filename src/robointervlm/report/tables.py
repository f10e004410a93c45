"""The aggregate of a report as rows of text. No row without its n and its unparsed count."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

STATUS_MEANING = {
    "ok": "an answer was read",
    "unparsable": "the model answered, but no answer could be read in it",
    "model_error": "the model failed",
    "input_error": "the question or its picture could not be read",
    "refused": "refused: by the model, or a picture that is not trusted",
    "missing": "not asked yet: the run is unfinished",
}


class Row(NamedTuple):
    """One metric of one group; every field as it is shown."""

    task: str
    dataset: str
    n: str
    unparsed: str
    metric: str
    mean: str
    interval: str
    over: str
    charged: str


HEADINGS = Row("task", "dataset", "n", "unparsed", "metric", "mean", "95 % interval", "over", "failures charged")


def rows(groups: list[Mapping[str, Any]]) -> list[Row]:
    """The rows of these groups, one per metric."""
    return [_row(group, metric) for group in groups for metric in group["metrics"]]


def _row(group: Mapping[str, Any], metric: Mapping[str, Any]) -> Row:
    bounded = metric["bounded"]
    arrow = "↑" if metric["better"] == "higher" else "↓"
    charged = metric["charged"]
    return Row(
        task=group["task"],
        dataset=group["dataset"] or "all",
        n=str(group["n"]),
        unparsed=unparsed_text(group),
        metric=f"{metric['name']} {arrow}",
        mean=number(metric["mean"], bounded=bounded),
        interval=interval(metric),
        over=f"{metric['n']} {metric['over']}",
        charged="included" if bounded else number(charged["mean"] if charged else None, bounded=False),
    )


def unparsed_text(group: Mapping[str, Any]) -> str:
    """How many of a group have no readable answer, and their share."""
    return f"{group['unparsed']} ({group['unparsed_share']:.1%})" if group["unparsed"] else "0"


def number(value: float | None, *, bounded: bool, signed: bool = False) -> str:
    """A mean: three decimals for a share, one for a distance in pixels, a dash where there is none."""
    if value is None:
        return "–"
    sign = "+" if signed else ""
    return f"{value:{sign}.3f}" if bounded else f"{value:{sign}.1f}"


def interval(metric: Mapping[str, Any]) -> str:
    """The 95 % interval of a metric."""
    if metric["low"] is None:
        return "–"
    low, high = (number(metric[end], bounded=metric["bounded"]) for end in ("low", "high"))
    return f"{low} … {high}"


def aligned(table: Sequence[Row]) -> list[str]:
    """The rows under their headings, in columns of a fixed width."""
    return columns([HEADINGS, *table])


def columns(lines: Sequence[Sequence[str]]) -> list[str]:
    """Lines of cells in columns as wide as their widest cell."""
    widths = [max(len(line[index]) for line in lines) for index in range(len(lines[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]


def summary(report: Mapping[str, Any]) -> str:
    """The report for a terminal: what became of the questions, and a row per metric."""
    statuses = ", ".join(f"{count} {status}" for status, count in report["statuses"].items() if count)
    unfinished = "" if report["complete"] else " (unfinished)"
    head = f"{report['model']['name']}: {report['requested']} questions{unfinished}: {statuses}"
    return "\n".join(["", head, "", *aligned(rows(report["tasks"])), ""])


def markdown(report: Mapping[str, Any]) -> str:
    """The report as Markdown."""
    statuses = ", ".join(f"{count} {status}" for status, count in report["statuses"].items() if count)
    model = report["model"]
    parts = [
        f"# {cell_text(model['name'])}",
        f"{report['requested']} questions requested: {statuses}."
        + ("" if report["complete"] else " **The run is unfinished: what is missing counts as failed.**"),
        f"Coordinates of the model: `{model['coordinates']}`. Prompt style: `{report['style']}`.",
        _markdown_table(rows(report["tasks"])),
    ]
    if len(report["datasets"]) > len(report["tasks"]):
        parts += ["## By dataset", _markdown_table(rows(report["datasets"]))]
    parts.append(
        "n counts every requested question; *unparsed* are those without a readable answer, for whatever reason. "
        "A metric over *requested* charges each of them its worst value; one over *readable* (distances, which have no "
        "worst value) leaves them out and is to be read beside their share, or in the column with failures charged. "
        "Intervals: bootstrap over episodes."
    )
    return "\n\n".join(parts) + "\n"


def _markdown_table(table: list[Row]) -> str:
    return markdown_table([HEADINGS, *table], texts=(0, 1, 4))


def markdown_table(lines: Sequence[Sequence[str]], *, texts: Collection[int]) -> str:
    """Lines of cells as a Markdown table, the first being its heading; columns in `texts` are aligned to the left."""
    rule = "|" + "|".join(" --- " if index in texts else " ---: " for index in range(len(lines[0]))) + "|"
    text = ["| " + " | ".join(cell_text(cell) for cell in line) + " |" for line in lines]
    return "\n".join([text[0], rule, *text[1:]])


def cell_text(text: str) -> str:
    """A text in one cell of a Markdown table, without markup of its own."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
