"""Cells of a recording's tables as boxes, points and words."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from robointervlm.core.answer import Box
from robointervlm.core.coordinates import CoordinateFormat, ImageSize, Point, Space
from robointervlm.core.errors import DataError
from robointervlm.data.pickles import read_pickle
from robointervlm.episodes.lerobot.mapping import Column, Detections, Places

Row = Mapping[str, Any]
# Pixels; what is further away is a slip, an infinity or no coordinate at all.
_LARGEST = 1e6
_MAX_TEXT = 10_000


class Seen(NamedTuple):
    """A box, and the share of the thing that is not hidden; 1 if nobody says."""

    box: Box
    visible_share: float


def value(row: Row, wanted: Column, accepted: Iterable[str] = ()) -> Any:
    """What a cell holds; None if it is empty, or its quality is known and none of the accepted ones."""
    cell = row[wanted.column]
    if wanted.quality is not None and row[wanted.quality] not in accepted:
        return None
    if isinstance(cell, np.ndarray):
        cell = cell.tolist()
    if cell is None or (isinstance(cell, str | bytes | list) and not cell):
        return None
    if wanted.stored == "json" and isinstance(cell, str):
        try:
            return json.loads(cell)
        except (ValueError, RecursionError):
            raise _wrong(wanted, cell, "JSON") from None
    if wanted.stored == "pickle":
        if not isinstance(cell, bytes):
            raise _wrong(wanted, cell, "a pickle")
        read = read_pickle(cell, f"column '{wanted.column}'")
        return read.tolist() if isinstance(read, np.ndarray) and read.dtype.names is None else read
    return cell


def text(row: Row, wanted: Column | None, accepted: Iterable[str] = ()) -> str | None:
    """The words of a cell; None if there are none."""
    found = value(row, wanted, accepted) if wanted is not None else None
    if found is None:
        return None
    if not isinstance(found, str) or len(found) > _MAX_TEXT:
        raise _wrong(wanted, found, "a text")
    return " ".join(found.split()) or None


def number(row: Row, wanted: Column, accepted: Iterable[str] = ()) -> float | None:
    """The number of a cell, or the first one of a list; None if it is empty."""
    found = value(row, wanted, accepted)
    if isinstance(found, list):
        found = found[0] if found else None
    if found is None:
        return None
    if isinstance(found, str):
        try:
            found = float(found)
        except ValueError:
            raise _wrong(wanted, found, "a number") from None
    if not isinstance(found, int | float) or not math.isfinite(found):
        raise _wrong(wanted, found, "a number")
    return float(found)


def points(row: Row, wanted: Places | None, size: ImageSize, accepted: Iterable[str] = ()) -> tuple[Point, ...]:
    """The points of a cell, [x, y] or a list of those, in pixels of the picture; empty if there are none."""
    found = value(row, wanted, accepted) if wanted is not None else None
    if wanted is None or not found:
        return ()
    if not isinstance(found, list):
        raise _wrong(wanted, found, "points [x, y]")
    listed = found if isinstance(found[0], list) else [found]
    if any(not isinstance(point, list) or len(point) != 2 for point in listed):
        raise _wrong(wanted, found, "points [x, y]")
    if wanted.use is not None:
        if max(wanted.use) >= len(listed):
            raise _wrong(wanted, found, f"at least {max(wanted.use) + 1} points")
        listed = [listed[place] for place in wanted.use]
    return _to_pixels([_number(item, wanted, found) for point in listed for item in point], wanted, size)


def box(row: Row, wanted: Places | None, size: ImageSize, accepted: Iterable[str] = ()) -> Seen | None:
    """The box of a cell in pixels of the picture, parts outside kept; None if there is none, or it has no area."""
    if isinstance(wanted, Detections):
        return _detected(row, wanted, size, accepted)
    if wanted is None:
        return None
    if wanted.use is not None:
        around = points(row, wanted, size, accepted)
        return _seen([side for point in around for side in point], 1.0) if around else None
    found = value(row, wanted, accepted)
    if found is None:
        return None
    if not isinstance(found, list):
        raise _wrong(wanted, found, "a box [x1, y1, x2, y2]")
    flat = [number for item in found for number in (item if isinstance(item, list) else [item])]
    return _box_of(flat, wanted, size, 1.0)


def _detected(row: Row, wanted: Detections, size: ImageSize, accepted: Iterable[str]) -> Seen | None:
    """The box of the row of a table that has the wanted name."""
    table, names, name = value(row, wanted, accepted), value(row, wanted.names), value(row, wanted.wanted)
    if table is None or names is None or name is None:
        return None
    if not isinstance(names, dict):
        raise _wrong(wanted.names, names, "an object {label: name}")
    if isinstance(table, np.ndarray) and table.ndim == 1:
        fields = table.dtype.names or ()
        table = [dict(zip(fields, line, strict=True)) for line in table.tolist()]
    if not isinstance(table, list) or not all(isinstance(line, dict) for line in table):
        raise _wrong(wanted, table, "a table of boxes")
    for line in table:
        label = line.get(wanted.label)
        found = names.get(str(label), names.get(label) if isinstance(label, int | str) else None)
        if (found.get(wanted.name_field) if isinstance(found, dict) else found) != name:
            continue
        hidden = line.get(wanted.occluded, -1.0) if wanted.occluded else -1.0
        share = 1.0 - hidden if isinstance(hidden, int | float) and 0 <= hidden <= 1 else 1.0
        return _box_of([line.get(field) for field in wanted.box], wanted, size, share)
    return None


def _box_of(flat: list[Any], wanted: Places, size: ImageSize, share: float) -> Seen | None:
    if len(flat) != 4:
        raise _wrong(wanted, flat, "a box of four numbers")
    x1, y1, x2, y2 = (_number(item, wanted, flat) for item in flat)
    if wanted.corners == "xywh":
        x2, y2 = x1 + x2, y1 + y2
    if wanted.inclusive:
        x2, y2 = x2 + 1, y2 + 1
    (ax, ay), (bx, by) = _to_pixels([x1, y1, x2, y2], wanted, size)
    return _seen([ax, ay, bx, by], share)


def _seen(flat: list[float], share: float) -> Seen | None:
    across, down = flat[::2], flat[1::2]
    around = Box(min(across), min(down), max(across), max(down))
    return Seen(around, share) if around.area > 0 else None


def _to_pixels(flat: list[float], wanted: Places, size: ImageSize) -> tuple[Point, ...]:
    """Places as a column writes them, flat, in pixels of the picture."""
    written = Space(CoordinateFormat.named(wanted.coordinates), wanted.size or size)
    across, down = size.width / written.image.width, size.height / written.image.height
    found = written.to_pixels(zip(flat[::2], flat[1::2], strict=True))
    return tuple((x * across, y * down) for x, y in found)


def _number(item: Any, wanted: Column, cell: Any) -> float:
    if isinstance(item, bool) or not isinstance(item, int | float) or not abs(item) <= _LARGEST:
        raise _wrong(wanted, cell, "plain coordinates")
    return float(item)


def _wrong(wanted: Column | None, found: Any, expected: str) -> DataError:
    name = wanted.column if wanted is not None else ""
    return DataError(f"column '{name}': {str(found)[:80]!r} stands where {expected} is expected.")
