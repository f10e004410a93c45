"""What datasets hold, as one HTML file: no network, no script, the plots drawn inside as SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from robointervlm.report.templates import rendered

_CELL = 12
_HEIGHT = 120


def statistics_page(datasets: Sequence[Mapping[str, Any]]) -> str:
    """The page of datasets whose counts are `Statistics.as_json()` with `dataset`, `source` and `split` beside them."""
    values = {"datasets": datasets, "heat_map": heat_map, "bars": bars, "size_bars": size_bars}
    return rendered("statistics.html.j2", values)


def heat_map(rows: Sequence[Sequence[int]]) -> Markup:
    """Counts in the cells of a picture, the darker the more; each cell tells its count when pointed at."""
    most = max(1, *(count for row in rows for count in row))
    cell = Markup('<rect x="{}" y="{}" width="{}" height="{}" fill-opacity="{:.3f}"><title>{:,}</title></rect>')
    cells = [
        cell.format(x * _CELL, y * _CELL, _CELL, _CELL, count / most, count)
        for y, row in enumerate(rows)
        for x, count in enumerate(row)
    ]
    return Markup('<svg class="plot" width="{w}" height="{h}" viewBox="0 0 {w} {h}">{cells}</svg>').format(
        w=len(rows[0]) * _CELL, h=len(rows) * _CELL, cells=Markup("").join(cells)
    )


def bars(counts: Mapping[str, int]) -> Markup:
    """A histogram with a label below each bar; at most about 12 labels are written."""
    most, width = max(1, *counts.values(), 1), max(8, min(48, 380 // max(1, len(counts))))
    every = -(-len(counts) // 12)
    bar = Markup('<rect x="{}" y="{:.1f}" width="{}" height="{:.1f}"><title>{}: {:,}</title></rect>')
    label = Markup('<text x="{}" y="{}" text-anchor="middle">{}</text>')
    drawn = []
    for place, (name, count) in enumerate(counts.items()):
        height = _HEIGHT * count / most
        drawn.append(bar.format(place * width + 1, _HEIGHT - height, width - 2, height, name, count))
        if place % every == 0:
            drawn.append(label.format(place * width + width // 2, _HEIGHT + 14, name))
    size = {"w": max(1, len(counts)) * width, "h": _HEIGHT + 20}
    return Markup('<svg class="plot" width="{w}" height="{h}" viewBox="0 0 {w} {h}">{drawn}</svg>').format(
        **size, drawn=Markup("").join(drawn)
    )


def size_bars(sizes: Sequence[int]) -> Markup:
    """Box sizes as a histogram; the labels are where each class begins, of the picture's side."""
    return bars({f"{place / len(sizes):.2g}": count for place, count in enumerate(sizes)})
