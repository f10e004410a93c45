"""The comparison of two runs as Markdown and for a terminal. No row without its n and both unparsed counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from robointervlm.core.metric import number, unit_of
from robointervlm.report.tables import columns, markdown_table

HEADINGS = (
    "task",
    "metric",
    "n",
    "unparsed",
    "first",
    "second",
    "difference",
    "95 % interval",
    "wins/ties/losses",
    "p",
    "p (Holm)",
    "test",
    "needed",
)
_TEXTS = (0, 1, 7, 11)


def comparison_summary(comparison: Mapping[str, Any]) -> str:
    """For a terminal: who is compared, the table, and a sentence a row."""
    return "\n".join(
        ["", *_names(comparison), "", *columns([HEADINGS, *_lines(comparison)]), "", *_verdicts(comparison)]
    )


def comparison_markdown(comparison: Mapping[str, Any]) -> str:
    """As a Markdown document."""
    rows = len(comparison["rows"])
    parts = [
        f"# {_name(comparison, 'first')} and {_name(comparison, 'second')}",
        "\n".join(f"* {line}" for line in _names(comparison)),
        markdown_table([HEADINGS, *_lines(comparison)], texts=_TEXTS),
        "\n".join(f"* {line}" for line in _verdicts(comparison)),
        "n counts every question of either run; *unparsed* are those without a readable answer in the first / the "
        "second, including those it was not asked. They are charged: the worst value of a share, the metric's penalty "
        "of a distance. Means have their 95 % intervals in brackets. The difference is first minus second, its "
        "interval by bootstrap over episodes with both answers of a question kept together. p (Holm) is adjusted for "
        f"the {rows} comparisons of this table, and a run is called better only where it is below 0.05. *needed*: so "
        "many questions would show the difference seen here with power 0.8 at 5 %.",
    ]
    return "\n\n".join(parts) + "\n"


def _name(comparison: Mapping[str, Any], side: str) -> str:
    return " ".join(str(comparison[side]["name"]).split()).replace("|", "\\|").replace("<", "&lt;")


def _names(comparison: Mapping[str, Any]) -> list[str]:
    lines = [f"first: {_name(comparison, 'first')}", f"second: {_name(comparison, 'second')}"]
    lines += [f"NOT THE SAME PROTOCOL, compared by --force: {said}" for said in comparison["protocol_differences"]]
    for joined in comparison["joined"]:
        for key, said in (
            ("only_first", "asked of the first run only: failures of the second"),
            ("only_second", "asked of the second run only: failures of the first"),
            ("other_reference", "with another reference in the two runs"),
        ):
            if joined[key]:
                lines.append(f"{joined['task']}: {joined[key]} questions {said}")
    return lines


def _lines(comparison: Mapping[str, Any]) -> list[Sequence[str]]:
    return [_line(row) for row in comparison["rows"]]


def _line(row: Mapping[str, Any]) -> Sequence[str]:
    arrow = "↑" if row["better"] == "higher" else "↓"
    head = [
        row["task"],
        f"{row['metric']} {arrow}",
        str(row["n"]),
        f"{row['first_unparsed']} / {row['second_unparsed']}",
    ]
    if "p" not in row:
        return [*head, *["–"] * (len(HEADINGS) - len(head))]
    unit = unit_of(row)
    gap = row["difference"]
    low, high = (number(gap[end], unit, signed=True) for end in ("low", "high"))
    return [
        *head,
        _with_interval(row["first"], unit),
        _with_interval(row["second"], unit),
        number(gap["mean"], unit, signed=True),
        "–" if gap["low"] is None else f"{low} … {high}",
        f"{row['wins']} / {row['ties']} / {row['losses']}",
        p_value(row["p"]),
        p_value(row["p_holm"]),
        row["test"],
        "–" if row["needed"] is None else f"{row['needed']['questions']:,}",
    ]


def _with_interval(side: Mapping[str, Any], unit: str) -> str:
    shown = number(side["mean"], unit)
    if side["low"] is None:
        return shown
    low, high = (number(side[end], unit) for end in ("low", "high"))
    return f"{shown} ({low} … {high})"


def p_value(p: float) -> str:
    """Three decimals, and no p value of 0."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _verdicts(comparison: Mapping[str, Any]) -> list[str]:
    return [f"{row['task']}, {row['metric']}: {row['verdict']}" for row in comparison["rows"]]
