"""The aggregate of a report as rows of text. No row without its n and its unparsed count."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from robointervlm.core.metric import number, unit_of

STATUS_MEANING = {
    "ok": "an answer was read",
    "unparsable": "the model answered, but no answer could be read in it",
    "model_error": "the model failed",
    "input_error": "the question or its picture could not be read",
    "refused": "refused: by the model, or a picture that is not trusted",
    "missing": "not asked yet: the run is unfinished",
}


BOX_SIZES = "Box sizes are those of the reference: small is under 1 % of the picture's area, large from 5 % on."


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
    paper: str


HEADINGS = Row(
    "task", "dataset", "n", "unparsed", "metric", "mean", "95 % interval", "over", "failures charged", "paper"
)


def rows(groups: Sequence[Mapping[str, Any]]) -> list[Row]:
    """The rows of these groups, one per metric."""
    return [_row(group, metric) for group in groups for metric in group["metrics"]]


def lines(groups: Sequence[Mapping[str, Any]], *, by: str = "dataset") -> list[Sequence[str]]:
    """The heading and the rows; without the column `paper` where no metric has a value of the published arithmetic.

    `by` names the column in which slices have their value.
    """
    table = [HEADINGS._replace(dataset=by), *rows(groups)]
    return [line if has_paper(groups) else line[:-1] for line in table]


def has_paper(groups: Sequence[Mapping[str, Any]]) -> bool:
    """Whether any of these groups was also scored by the published arithmetic."""
    return any(metric.get("paper") for group in groups for metric in group["metrics"])


def slices_of(report: Mapping[str, Any]) -> dict[str, list[Mapping[str, Any]]]:
    """The groups of a report by what they are slices by: box size, skill."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for group in report.get("slices", ()):
        found.setdefault(group["by"], []).append(group)
    return found


def quirks_of(report: Mapping[str, Any]) -> list[str]:
    """What the published arithmetic did otherwise, by name, and to how many answers; a line a task and quirk."""
    return [
        f"{group['task']}: {name} ({count} {'answer' if count == 1 else 'answers'})"
        for group in report["tasks"]
        for name, count in group.get("quirks", {}).items()
        if count
    ]


def _row(group: Mapping[str, Any], metric: Mapping[str, Any]) -> Row:
    unit = unit_of(metric)
    arrow = "↑" if metric["better"] == "higher" else "↓"
    charged = metric["charged"]
    return Row(
        task=group["task"],
        dataset=group.get("value") or group["dataset"] or "all",
        n=str(group["n"]),
        unparsed=unparsed_text(group),
        metric=f"{metric['name']} {arrow}",
        mean=number(metric["mean"], unit),
        interval=interval(metric),
        over=f"{metric['n']} {metric['over']}",
        charged="included" if metric["bounded"] else number(charged["mean"] if charged else None, unit),
        paper=paper_text(metric),
    )


def paper_text(metric: Mapping[str, Any]) -> str:
    """The value by the published arithmetic, and over how many answers it is; a dash where there is none."""
    paper = metric.get("paper")
    if not paper or paper["mean"] is None:
        return "–"
    return f"{number(paper['mean'], unit_of(metric))} ({paper['n']})"


def unparsed_text(group: Mapping[str, Any]) -> str:
    """How many of a group have no readable answer, and their share."""
    return f"{group['unparsed']} ({group['unparsed_share']:.1%})" if group["unparsed"] else "0"


def interval(metric: Mapping[str, Any]) -> str:
    """The 95 % interval of a metric."""
    if metric["low"] is None:
        return "–"
    low, high = (number(metric[end], unit_of(metric)) for end in ("low", "high"))
    return f"{low} … {high}"


def aligned(groups: Sequence[Mapping[str, Any]]) -> list[str]:
    """The rows of these groups under their headings, in columns of a fixed width."""
    return columns(lines(groups))


def columns(table: Sequence[Sequence[str]]) -> list[str]:
    """Lines of cells in columns as wide as their widest cell."""
    widths = [max(len(line[index]) for line in table) for index in range(len(table[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in table]


def summary(report: Mapping[str, Any]) -> str:
    """The report for a terminal: what became of the questions, and a row per metric."""
    statuses = ", ".join(f"{count} {status}" for status, count in report["statuses"].items() if count)
    unfinished = "" if report["complete"] else " (unfinished)"
    head = f"{report['model']['name']}: {report['requested']} questions{unfinished}: {statuses}"
    return "\n".join(["", head, "", *aligned(report["tasks"]), ""])


def markdown(report: Mapping[str, Any]) -> str:
    """The report as Markdown."""
    statuses = ", ".join(f"{count} {status}" for status, count in report["statuses"].items() if count)
    model = report["model"]
    protocol = f" Protocol: `{report['protocol']['hash']}`." if "protocol" in report else ""
    parts = [
        f"# {cell_text(model['name'])}",
        f"{report['requested']} questions requested: {statuses}."
        + ("" if report["complete"] else " **The run is unfinished: what is missing counts as failed.**"),
        f"Coordinates of the model: `{model['coordinates']}`. Prompt style: `{report['style']}`.{protocol}",
        _markdown_table(report["tasks"]),
    ]
    if len(report["datasets"]) > len(report["tasks"]):
        parts += ["## By dataset", _markdown_table(report["datasets"])]
    for by, groups in slices_of(report).items():
        parts += [f"## By {by}", _markdown_table(groups, by=by)]
    if quirks := quirks_of(report):
        parts += [
            "## Quirks of the published arithmetic",
            "\n".join(f"* {cell_text(quirk)}" for quirk in quirks),
        ]
    parts.append(
        "n counts every requested question; *unparsed* are those without a readable answer, for whatever reason. "
        "A metric over *requested* charges each of them its worst value; one over *readable* (distances, which have no "
        "worst value) leaves them out and is to be read beside their share, or in the column with failures charged. "
        "Intervals: bootstrap over episodes." + _about_columns(report)
    )
    return "\n\n".join(parts) + "\n"


def _about_columns(report: Mapping[str, Any]) -> str:
    parts = []
    if has_paper(report["tasks"]):
        parts.append(
            " *paper* is the published arithmetic, quirks included, and how many answers it counts; the mean before it "
            "is the figure to quote."
        )
    if "box size" in slices_of(report):
        parts.append(f" {BOX_SIZES}")
    return "".join(parts)


def _markdown_table(groups: Sequence[Mapping[str, Any]], *, by: str = "dataset") -> str:
    return markdown_table(lines(groups, by=by), texts=(0, 1, 4))


def markdown_table(table: Sequence[Sequence[str]], *, texts: Collection[int]) -> str:
    """Lines of cells as a Markdown table, the first being its heading; columns in `texts` are aligned to the left."""
    rule = "|" + "|".join(" --- " if index in texts else " ---: " for index in range(len(table[0]))) + "|"
    text = ["| " + " | ".join(cell_text(cell) for cell in line) + " |" for line in table]
    return "\n".join([text[0], rule, *text[1:]])


def cell_text(text: str) -> str:
    """A text in one cell of a Markdown table, without markup of its own."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
