"""The tables of the paper as Markdown, LaTeX, CSV and HTML."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Sequence
from typing import Literal

from robointervlm.core.errors import RecipeError
from robointervlm.report.benchmark import BenchmarkTable, Cell, Column
from robointervlm.report.tables import cell_text, markdown_table
from robointervlm.report.templates import rendered

Format = Literal["md", "latex", "csv", "html"]

LEGEND = (
    "Shares in percent. Published rows are the authors' figures; measured ones are ours, with n and the unparsed among "
    "them in brackets: strict counts every question asked and charges failures, paper is the published arithmetic."
)


def written(tables: Sequence[BenchmarkTable], layout: Format) -> str:
    """The tables in a format. CSV holds one table a file: `RecipeError` for more."""
    formats: dict[Format, Callable[[Sequence[BenchmarkTable]], str]] = {
        "md": _markdown,
        "latex": _latex,
        "csv": _csv,
        "html": _html,
    }
    return formats[layout](tables)


def _arrow(column: Column) -> str:
    return "↑" if column.better == "higher" else "↓"


def _counts(cell: Cell) -> str:
    return "" if cell.n is None else f"({cell.n}, {cell.unparsed})"


def _markdown(tables: Sequence[BenchmarkTable]) -> str:
    parts = []
    for table in tables:
        headings = ["model", "figures", *(f"{each.heading} {_arrow(each)}" for each in table.columns)]
        lines = [[line.model, line.kind, *map(_markdown_cell, line.cells)] for line in table.lines]
        notes = "\n".join(f"{number}. {cell_text(text)}" for number, text in enumerate(table.notes, start=1))
        source = f"Source: {table.source}. {table.units}"
        parts += [f"## {table.title}", source, markdown_table([headings, *lines], texts=(0, 1))]
        parts += [notes] if notes else []
    return "\n\n".join([*parts, LEGEND]) + "\n"


def _markdown_cell(cell: Cell) -> str:
    notes = "".join(f" [{number}]" for number in cell.notes)
    return f"{cell.shown} {_counts(cell)}".rstrip() + notes


def _latex(tables: Sequence[BenchmarkTable]) -> str:
    head = "% \\usepackage{booktabs,graphicx,amssymb}\n"
    return head + "\n".join(_latex_one(table) for table in tables)


def _latex_one(table: BenchmarkTable) -> str:
    arrows = {"higher": "$\\uparrow$", "lower": "$\\downarrow$"}
    headings = ["Model", "Figures", *(f"{_tex(each.heading)} {arrows[each.better]}" for each in table.columns)]
    rows = [" & ".join([_tex(line.model), _tex(line.kind), *map(_latex_cell, line.cells)]) for line in table.lines]
    rule = next((place for place, line in enumerate(table.lines) if line.kind != "published"), 0)
    if rule:
        rows[rule] = "\\midrule\n" + rows[rule]
    notes = "".join(
        f"\\\\ \\footnotesize $^{{{number}}}$ {_tex(text)}\n" for number, text in enumerate(table.notes, start=1)
    )
    return (
        "\\begin{table}\n\\centering\n"
        f"\\caption{{{_tex(table.title)}. Source: {_tex(table.source)}. {_tex(table.units)} {_tex(LEGEND)}}}\n"
        f"\\resizebox{{\\textwidth}}{{!}}{{%\n\\begin{{tabular}}{{ll{'r' * len(table.columns)}}}\n\\toprule\n"
        + " & ".join(headings)
        + " \\\\\n\\midrule\n"
        + "".join(f"{row} \\\\\n" for row in rows)
        + "\\bottomrule\n\\end{tabular}}\n"
        + notes
        + "\\end{table}\n"
    )


def _latex_cell(cell: Cell) -> str:
    shown = "--" if cell.value is None else cell.shown
    counts = f" {{\\scriptsize {_counts(cell)}}}" if cell.n is not None else ""
    return shown + counts + (f"$^{{{','.join(map(str, cell.notes))}}}$" if cell.notes else "")


# In one pass, so that what stands for a backslash is not escaped again.
_TEX = {
    "\\": "\\textbackslash{}",
    "~": "\\textasciitilde{}",
    "^": "\\textasciicircum{}",
    "<": "\\textless{}",
    ">": "\\textgreater{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
}


def _tex(text: str) -> str:
    return re.sub(r"[\\~^<>&%$#_{}]", lambda match: _TEX[match[0]], " ".join(text.split()))


def _csv(tables: Sequence[BenchmarkTable]) -> str:
    if len(tables) > 1:
        raise RecipeError("a CSV file holds one table: --table manipulation or --table third-party.")
    [table] = tables
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    extra = ("n", "unparsed", "notes")
    headings = [name for each in table.columns for name in (each.heading, *(f"{each.heading} {one}" for one in extra))]
    writer.writerow(["model", "figures", *headings])
    for line in table.lines:
        cells = [_csv_cell(cell, table.notes) for cell in line.cells]
        writer.writerow([_plain(line.model), line.kind, *(part for cell in cells for part in cell)])
    return text.getvalue()


def _csv_cell(cell: Cell, notes: Sequence[str]) -> tuple[str, str, str, str]:
    value = "" if cell.value is None else f"{cell.value:.4f}".rstrip("0").rstrip(".")
    counts = ("", "") if cell.n is None else (str(cell.n), str(cell.unparsed))
    return (value, *counts, _plain(" ".join(notes[number - 1] for number in cell.notes)))


def _plain(text: str) -> str:
    """Text that no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text


def _html(tables: Sequence[BenchmarkTable]) -> str:
    return rendered("benchmark.html.j2", {"tables": tables, "legend": LEGEND}, filters={"arrow": _arrow})
