"""Boxes, points and trajectories out of a text.

The rules where a text leaves a choice:

- Of several boxes or lists the first is the answer, and the note "first of N" says so; a list under the asked key goes
  before all others.
- Two points are the corners of a box in any order; four are one box if they are the corners of an upright rectangle,
  and two boxes otherwise; more are a path and no box.
- A list under a key of another kind (`future_traj` where a box was asked) is no answer.
- A truncated text is read as far as it goes: a half-written point is left out, and so is a point whose last number may
  have been cut. A box needs all four numbers; that the last may have
  been cut is what "truncated" warns of.
- Points are pairs: a list with a triple or a single number among its points is refused rather than repaired.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from robointervlm.core.answer import Box, Points, Trajectory
from robointervlm.core.coordinates import Point, Space, pairs
from robointervlm.core.errors import DataError
from robointervlm.core.reading.numbers import LARGEST, NUMBER, FoundNumbers, NumberList, found_numbers
from robointervlm.core.reading.text import Reading, Tier, answer_part, in_ascii, regions, unread

Kind = Literal["box", "points", "trajectory"]

_BOX_TAG = re.compile(r"<(?:\|box_start\||box|bbox)>([^<]*+)")
_POINT_TAG = re.compile(r"<(?:\|point_start\||points?)>([^<]*+)")
_ACCEPTED: dict[Kind, frozenset[str]] = {
    "box": frozenset({"", "box"}),
    "points": frozenset({"", "points"}),
    "trajectory": frozenset({"", "trajectory", "points"}),
}
_TWO_NUMBERS = re.compile(rf"\s*+{NUMBER}(?:\s*+,\s*+|\s++){NUMBER}\s*+")
# More points than this side by side are not a description of corners.
_MOST_CORNERS = 16
# Lists looked at when one with the wanted number of points is searched.
_MOST_LISTS = 100
_BOXED = re.compile(r"\\boxed\s*+\{([^{}\n]++)\}")
_FIRST_CORNER = re.compile(r"(?:top|upper)[\s_-]*+left|左上")
_LAST_CORNER = re.compile(r"(?:bottom|lower)[\s_-]*+right|右下")
_CORNER_IN_WORDS = re.compile(
    rf"[^0-9+\-\n]{{0,40}}?({NUMBER})(?:\s*+,\s*+|\s++)({NUMBER})(?![0-9A-Za-z_.%°]*+[A-Za-z_%°])"
)
_NO_CORNER = re.compile(r"cent(?:er|re)|middle|size|resolution|中心")


@dataclass(frozen=True)
class _Found:
    """Coordinates as they were written, flat x, y, x, y …"""

    numbers: list[float]
    tier: Tier
    notes: tuple[str, ...] = ()


_Finder = Callable[[FoundNumbers, str], _Found | str]
"""Takes the numbers of a text and the text; gives what it found, or why it found nothing."""


def read_box(text: str, space: Space | None, key: str = "") -> Reading:
    """The box that a text answers with, in pixels. `key` is the dictionary key that was asked for, if there was one."""
    known = _needed(space)
    found = _published_form(text, "box", 2) or _first_found(
        text, _BOX_TAG, lambda numbers, region: _box_in(numbers, region, key)
    )
    if isinstance(found, str):
        return unread(text, found)
    first, second = known.to_pixels(pairs(found.numbers))
    swapped = first[0] > second[0] or first[1] > second[1]
    return Reading(Box.spanning(first, second), found.tier, (*found.notes, *(("corners swapped",) if swapped else ())))


def read_points(text: str, space: Space | None, key: str = "", count: int | None = None) -> Reading:
    """The points that a text answers with, in pixels; another number of them than `count`, if given, is no answer."""
    known = _needed(space)
    found = _published_form(text, "points", count) or _first_found(
        text, _POINT_TAG, lambda numbers, part: _path_in(numbers, part, "points", key, count)
    )
    if isinstance(found, str):
        return unread(text, found)
    return Reading(Points(known.to_pixels(pairs(found.numbers))), found.tier, found.notes)


def read_trajectory(text: str, space: Space | None, key: str = "") -> Reading:
    """The trajectory that a text answers with, in pixels; one point is the least."""
    known = _needed(space)
    found = _published_form(text, "trajectory", None) or _first_found(
        text, _POINT_TAG, lambda numbers, part: _path_in(numbers, part, "trajectory", key, None)
    )
    if isinstance(found, str):
        return unread(text, found)
    return Reading(Trajectory(known.to_pixels(pairs(found.numbers))), found.tier, found.notes)


def _needed(space: Space | None) -> Space:
    if space is None:
        raise DataError("a text with coordinates is read in the space of its image, and this sample has no image.")
    return space


def _published_form(text: str, kind: Kind, count: int | None) -> _Found | None:
    """The numbers of `{"key": [[x, y], …]}` and nothing else, which most answers are: a parser reads it far faster.

    None for anything else, whatever it is; then the search decides, which would find the same here.
    """
    key, colon, _ = text[2:64].partition('": [[')
    if not colon or text[:2] != '{"' or text[-3:] != "]]}" or not key.isidentifier() or text.count('"') != 2:
        return None
    if _kind_of(key.lower()) not in _ACCEPTED[kind]:
        return None
    try:
        [points] = json.loads(text).values()
    except (ValueError, RecursionError):
        return None
    flat: list[float] = []
    for point in points:
        if type(point) is not list or len(point) != 2:
            return None
        for value in point:
            if type(value) not in (int, float) or not abs(value) <= LARGEST:
                return None
            flat.append(float(value))
    return _Found(flat, "json") if len(points) == (count or len(points)) else None


def _first_found(text: str, tag: re.Pattern[str], finder: _Finder) -> _Found | str:
    """What the finder finds in the most telling region of the text that holds an answer."""
    answer = answer_part(text)
    if not answer.text:
        return answer.empty
    part = _BOXED.sub(r"\1", in_ascii(answer.text))
    found: _Found | str = ""
    for region in regions(part, tag, one_each=tag is _BOX_TAG):
        found = finder(found_numbers(region.text), region.text)
        if isinstance(found, _Found):
            return _Found(found.numbers, region.tier or found.tier, (*answer.notes, *found.notes))
    return found


# --- boxes -----------------------------------------------------------------------------------------------------------


def _box_in(numbers: FoundNumbers, text: str, key: str) -> _Found | str:
    usable = _usable(numbers, "box", key)
    boxes: list[tuple[list[float], NumberList, tuple[str, ...]]] = []
    position = 0
    while position < len(usable):
        item = usable[position]
        if len(item.numbers) == 2:
            end = position  # the points from here on that stand in the same bracket
            while end < len(usable) and len(usable[end].numbers) == 2 and usable[end].parent == item.parent:
                end += 1
            run = usable[position:end]
            boxes += [(corners, item, notes) for corners, notes in _boxes_of_pairs(run, text)]
            position += len(run)
            continue
        boxes += [(corners, item, notes) for corners, notes in _boxes_of_list(item)]
        position += 1
    if boxes:
        corners, item, notes = boxes[0]
        several = (f"first of {len(boxes)}",) if len(boxes) > 1 else ()
        return _Found(corners, _tier_at(item), (*_own_notes(numbers, item), *notes, *several))
    # "top-left corner: 205, 34; bottom-right corner: 305, 134", which has no brackets
    lower = text.lower()
    corner_names = [pattern.search(lower) for pattern in (_FIRST_CORNER, _LAST_CORNER)]
    if all(corner_names):
        in_words = [_CORNER_IN_WORDS.match(text, name.end()) for name in corner_names if name]
        values = [float(match[number]) for match in in_words if match for number in (1, 2)]
        if len(values) == 4 and all(abs(value) <= LARGEST for value in values):
            return _Found(values, "labels")
    row = next((row for row in numbers.rows if len(row) == 4), None)
    if row and all(abs(value) <= LARGEST for value in row):
        return _Found(row, "bare")
    return _why_nothing(numbers, "box", "a box has two corners")


def _boxes_of_list(item: NumberList) -> list[tuple[list[float], tuple[str, ...]]]:
    match len(item.numbers):
        case 4:
            return [(item.numbers, ())]
        case 5:  # a detector's [x1, y1, x2, y2, score]
            return [(item.numbers[:4], ("extra numbers",))]
        case 8:
            return _boxes_of_four(pairs(item.numbers))
        case _:
            return []


def _boxes_of_pairs(run: Sequence[NumberList], text: str) -> list[tuple[list[float], tuple[str, ...]]]:
    """The boxes that points standing together are the corners of."""
    if 2 < len(run) <= _MOST_CORNERS:
        named = _named_corners(run, text)
        if len(named) == 2:
            return [([*named[0].numbers, *named[1].numbers], ())]
        run = named
    match len(run):
        case 2 | 3:
            notes = ("extra numbers",) if len(run) == 3 else ()
            return [([*run[0].numbers, *run[1].numbers], notes)]
        case 4:
            return _boxes_of_four([(item.numbers[0], item.numbers[1]) for item in run])
        case _:
            return []


def _named_corners(run: Sequence[NumberList], text: str) -> list[NumberList]:
    """The two points called top left and bottom right; otherwise all that are not called a centre or a size."""
    first = last = None
    others, end = [], 0
    for item in run:
        before = text[max(end, item.start - 40) : item.start].lower()
        end = item.end
        first = first or (item if _FIRST_CORNER.search(before) else None)
        last = last or (item if _LAST_CORNER.search(before) else None)
        if not _NO_CORNER.search(before):
            others.append(item)
    return [first, last] if first and last else others


def _boxes_of_four(points: Sequence[Point]) -> list[tuple[list[float], tuple[str, ...]]]:
    xs, ys = {x for x, _ in points}, {y for _, y in points}
    if len(xs) == len(ys) == 2 and len(set(points)) == 4:
        return [([min(xs), min(ys), max(xs), max(ys)], ("four corners",))]
    return [([*points[0], *points[1]], ()), ([*points[2], *points[3]], ())]


# --- points and trajectories -----------------------------------------------------------------------------------------


def _path_in(numbers: FoundNumbers, text: str, kind: Kind, key: str, count: int | None) -> _Found | str:
    """The first list of the wanted number of points; without a wanted number, of two or more, else of one."""
    reason = ""
    readable: list[_Found] = []
    for sequence in _sequences(_usable(numbers, kind, key, with_problems=True))[:_MOST_LISTS]:
        found = _points_of(sequence, numbers)
        if isinstance(found, _Found):
            readable.append(found)
        else:
            reason = reason or found
    # As a last resort four numbers or more in a row; two could be anything, unless there is nothing but them.
    least = 2 if _TWO_NUMBERS.fullmatch(text) else 4
    bare = [row for row in numbers.rows if len(row) >= least and len(row) % 2 == 0]
    rows = [_Found(row, "bare") for row in bare] if not readable else []
    readable += [row for row in rows if all(abs(value) <= LARGEST for value in row.numbers)]
    points = [len(found.numbers) // 2 for found in readable]
    wanted = [found for found, n in zip(readable, points, strict=True) if (n >= 2 if count is None else n == count)]
    if not wanted and count is None:
        wanted = readable
    if wanted:
        several = (f"first of {len(wanted)}",) if len(wanted) > 1 else ()
        return _Found(wanted[0].numbers, wanted[0].tier, (*wanted[0].notes, *several))
    if readable:
        return f"{points[0]} points instead of {count}"
    if any(len(row) >= 4 for row in numbers.rows) and not reason:
        reason = "an odd number of numbers does not make points"
    return reason or _why_nothing(numbers, kind, "a point has two coordinates")


def _sequences(items: Iterable[NumberList]) -> list[list[NumberList]]:
    """Number lists by the outermost bracket they share and the kind of key they have; lists by themselves are one each.

    Points that stand outside of any list follow one another, and whatever else is there is left aside.
    """
    grouped: dict[tuple[int, str], list[NumberList]] = {}
    for item in items:
        if item.root >= 0:
            grouped.setdefault((item.root, _kind_of(item.key)), []).append(item)
        elif len(item.numbers) >= 3:
            grouped[item.start, ""] = [item]
        elif len(item.numbers) == 2 and not item.problem:
            grouped.setdefault((-1, ""), []).append(item)
        elif item.problem and item.opening == "[":
            grouped[item.start, ""] = [item]
    return list(grouped.values())


def _points_of(sequence: Sequence[NumberList], numbers: FoundNumbers) -> _Found | str:
    problem = next((item.problem for item in sequence if item.problem), "")
    if problem:
        return problem
    first, last = sequence[0], sequence[-1]
    notes = tuple(dict.fromkeys(note for item in sequence for note in _own_notes(numbers, item)))
    flat: list[float] = []
    if len(sequence) == 1 and len(first.numbers) > 3:
        flat = list(first.numbers)
        if len(flat) % 2 and first.closed:
            return f"{len(flat)} numbers do not make points"
        keep = len(flat) - len(flat) % 2
        if first.cut and len(flat) % 2 == 0 and keep > 2:
            keep -= 2
        return _Found(flat[:keep], _tier_at(first), notes)
    for item in sequence:
        if len(item.numbers) == 2 and not (item.cut and item is last and len(sequence) > 1):
            flat += item.numbers
        elif not (item is last and not item.closed and len(item.numbers) <= 2):
            return f"a point of {len(item.numbers)} numbers"
    return _Found(flat, _tier_at(first), notes) if flat else "the text ends before the first point does"


# --- what both use ---------------------------------------------------------------------------------------------------


def _usable(numbers: FoundNumbers, kind: Kind, key: str, *, with_problems: bool = False) -> list[NumberList]:
    """The lists that may be this kind of answer; only those under the asked key if there are any."""
    accepted = [
        item for item in numbers.lists if (with_problems or not item.problem) and _kind_of(item.key) in _ACCEPTED[kind]
    ]
    asked = [item for item in accepted if key and item.key == key]
    return asked or accepted


def _kind_of(key: str) -> str:
    """The kind of answer that a dictionary key announces; "" if it says nothing."""
    if not key:
        return ""
    if "box" in key:
        return "box"
    if "traj" in key or "path" in key or "waypoint" in key:
        return "trajectory"
    return "points" if "point" in key else ""


def _tier_at(item: NumberList) -> Tier:
    if not item.opening:
        return "labels"
    start = item.root if item.root >= 0 else item.start
    return "json" if start == 0 and (item.root >= 0 or item.opening != "(") else "brackets"


def _own_notes(numbers: FoundNumbers, item: NumberList) -> tuple[str, ...]:
    truncated = ("truncated",) if numbers.truncated(item) else ()
    return (*truncated, *((item.note,) if item.note else ()))


def _why_nothing(numbers: FoundNumbers, kind: Kind, need: str) -> str:
    """Why these numbers are no answer, in the order of what a reader would say first."""
    foreign = next((item.key for item in numbers.lists if _kind_of(item.key) not in _ACCEPTED[kind]), None)
    if foreign:
        return f"the answer is given as '{foreign[:40]}'"
    problem = next((item.problem for item in numbers.lists if item.problem), "")
    if problem:
        return problem
    if numbers.lists:
        counts = ", ".join(str(len(item.numbers)) for item in numbers.lists[:5])
        return f"lists of {counts} numbers, and {need}"
    if numbers.rows:
        return f"no list and no row of enough numbers, and {need}"
    return "no coordinates"
