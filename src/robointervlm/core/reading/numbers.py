"""The numbers of a text that may be coordinates: those in brackets, labelled ones, and rows of bare ones.

One pass, one regular expression without backtracking (every quantifier is possessive), one stack of bounded depth: the
time is linear in the text. Numbers in words (`x1`, `bbox_2d`, `Step 1`), list numbering, keys, percentages and angles
are not collected.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from itertools import islice

# No picture is a million pixels wide.
LARGEST = 1e6
_DEEPEST = 64
# What is read of a text at most: about 64 KB of English, or 5,000 points. What comes after is left unread.
_MOST_TOKENS = 12_288
_MOST_NUMBERS = 5_120

NUMBER = r"[-+]?+(?:[0-9]++(?:\.[0-9]*+)?+|\.[0-9]++)(?:[eE][-+]?+[0-9]++)?+"
_TOKEN = re.compile(
    rf"""
      (?P<numbering>^[ \t]*+[0-9]{{1,3}}+[.):](?=[ \t\[(]))
    | (?P<flat>[\[(]\s*+{NUMBER}(?:\s*+,\s*+{NUMBER})++\s*+[\])])
    | (?P<open>[\[({{])
    | (?P<close>[\])}}])
    | (?P<string>(?:"[^"\[\](){{}}\n]*+"|'[^'"\[\](){{}}\n]*+')(?P<key>\s*+[:=])?+)
    | (?P<number>(?P<value>{NUMBER})(?P<tail>[A-Za-z0-9_.]*+)(?P<unit>\s?+[%°])?+(?P<colon>["']?+\s*+:)?+)
    | (?P<word>(?P<name>[A-Za-z_][A-Za-z0-9_]*+)(?P<word_key>\s*+[:=])?+)
    """,
    re.VERBOSE | re.MULTILINE,
)
_ONE_NUMBER = re.compile(NUMBER)
_THOUSANDS = re.compile(r"[0-9],0[0-9][0-9]")
# Not "|": the cells of a table number their lines, too.
_SEPARATORS = re.compile(r"[\s,;]*+")
_CLOSES = {"]": "[", ")": "(", "}": "{"}
_NOT_FINITE = frozenset({"nan", "inf", "infinity", "null", "none"})
_UNITS = frozenset({"px", "pixel", "pixels"})
# Signs that follow a number that counts or measures something.
_COUNTERS = frozenset("个步次秒度米厘毫号张件帧种只条名倍")

# (axis, which of them) of the names that coordinates go by.
Slot = tuple[str, int]
_NAMED_SLOTS: dict[str, Slot] = {
    **dict.fromkeys(("x", "xmin", "x_min", "left"), ("x", 1)),
    **dict.fromkeys(("y", "ymin", "y_min", "top"), ("y", 1)),
    **dict.fromkeys(("xmax", "x_max", "right"), ("x", 2)),
    **dict.fromkeys(("ymax", "y_max", "bottom"), ("y", 2)),
    **dict.fromkeys(("w", "width"), ("w", 0)),
    **dict.fromkeys(("h", "height"), ("h", 0)),
}
_NUMBERED_SLOT = re.compile(r"([xy])_?([0-9]{1,3})")


@dataclass(slots=True)
class NumberList:
    """Numbers that stand together in one bracket, or one after another with labels.

    `key` is the nearest dictionary key around them; `parent` and `root` are the positions of the next and the outermost
    bracket around theirs, -1 if there is none. `problem` says why they are not coordinates, if they are not.
    """

    start: int
    opening: str
    key: str = ""
    parent: int = -1
    root: int = -1
    end: int = -1
    closed: bool = True
    cut: bool = False
    problem: str = ""
    note: str = ""
    numbers: list[float] = field(default_factory=list)
    slots: list[Slot | None] = field(default_factory=list)


@dataclass(frozen=True)
class FoundNumbers:
    """`lists` in order of their place in the text; `rows` are bare numbers with nothing but separators between them."""

    lists: list[NumberList]
    rows: list[list[float]]
    unclosed: frozenset[int]

    def truncated(self, item: NumberList) -> bool:
        """Whether the text ended before the brackets around these numbers did."""
        return not item.closed or item.root in self.unclosed


def found_numbers(text: str) -> FoundNumbers:
    """Every number of the text that may be a coordinate."""
    if not re.search("[0-9]", text):
        return FoundNumbers([], [], frozenset())
    return _Scan(text).run()


def slot_named(name: str) -> Slot | None:
    """Which coordinate a label means: `x`, `y2`, `x_min`, `left`, `width`; None if it means none."""
    name = name.lower()
    if name in _NAMED_SLOTS:
        return _NAMED_SLOTS[name]
    match = _NUMBERED_SLOT.fullmatch(name)
    return (match[1], int(match[2])) if match else None


class _Scan:
    """One pass over a text."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.stack: list[NumberList] = []
        self.open_counts = {"[": 0, "(": 0, "{": 0}
        self.too_deep = 0
        self.lists: list[NumberList] = []
        self.rows: list[list[float]] = []
        self.row_end = -1
        self.loose: NumberList | None = None  # labelled numbers outside of brackets
        self.label = ""  # the last key or coordinate name, until its value comes

    def run(self) -> FoundNumbers:
        handlers = {
            "numbering": self._numbering,
            "flat": self._flat,
            "open": self._open,
            "close": self._close,
            "string": self._string,
            "number": self._number,
            "word": self._word,
        }
        numbers = 0
        for match in islice(_TOKEN.finditer(self.text), _MOST_TOKENS):
            kind = match.lastgroup or ""
            numbers += kind != "word"
            if numbers > _MOST_NUMBERS:
                break
            handlers[kind](match)
        self._flush_loose()
        unclosed = frozenset(node.start for node in self.stack)
        while self.stack:
            node = self.stack.pop()
            node.closed = False
            node.end = len(self.text)
            self._keep(node)
        self.lists.sort(key=lambda item: item.start)
        return FoundNumbers(self.lists, self.rows, unclosed)

    def _numbering(self, match: re.Match[str]) -> None:
        if self._continues_row(match.start()):
            self.row_end = match.end()

    def _flat(self, match: re.Match[str]) -> None:
        """The common case at once: a closed list of nothing but numbers."""
        node = self._child(match.start())
        written = match[0]
        node.numbers = [float(number) for number in written[1:-1].split(",")]
        node.end = match.end()
        if written.count("0") > 1 and _THOUSANDS.search(written):
            node.problem = "numbers with thousands separators cannot be told from lists"
        self._keep(node)

    def _child(self, start: int) -> NumberList:
        """A new bracket inside the current one, under the key that stands before it."""
        parent = self.stack[-1] if self.stack else None
        key, self.label = self.label.lower(), ""
        if parent is None:
            self._flush_loose()
            return NumberList(start, self.text[start], key)
        root = parent.start if parent.root < 0 else parent.root
        return NumberList(start, self.text[start], key or parent.key, parent.start, root)

    def _open(self, match: re.Match[str]) -> None:
        if len(self.stack) >= _DEEPEST:
            self.too_deep += 1
            return
        node = self._child(match.start())
        self.stack.append(node)
        self.open_counts[node.opening] += 1

    def _close(self, match: re.Match[str]) -> None:
        if self.too_deep:
            self.too_deep -= 1
            return
        opening = _CLOSES[match[0]]
        if not self.open_counts[opening]:
            return
        self.label = ""
        while True:
            node = self.stack.pop()
            self.open_counts[node.opening] -= 1
            node.end = match.end()
            self._keep(node)
            if node.opening == opening:
                return

    def _keep(self, node: NumberList) -> None:
        if not node.numbers:
            return
        if any(node.slots):
            _put_in_order(node)
        if not node.problem and not all(abs(value) <= LARGEST for value in node.numbers):
            node.problem = "a number is not finite, or too large for any picture"
        self.lists.append(node)

    def _string(self, match: re.Match[str]) -> None:
        key = match["key"]
        content = match[0].removesuffix(key or "").strip("\"' \t")
        if key:
            self.label = "" if _ONE_NUMBER.fullmatch(content) else content
        elif _ONE_NUMBER.fullmatch(content):
            self._take(float(content), match)
        else:
            self.label = ""

    def _word(self, match: re.Match[str]) -> None:
        name, key = match.group("name", "word_key")
        word = name.lower()
        if slot_named(word):
            self.label = word
        elif key:
            # In running text "point:" is a word before a colon; `current_bbox:` is a key.
            self.label = word if self.stack or "_" in word or word in {"bbox", "box"} else ""
        # In a bracket `null` is a missing number, `px` a unit, and anything else makes it running text.
        elif self.stack and word in _NOT_FINITE:
            self._take(math.nan, match)
        elif self.stack and word not in _UNITS and not self.stack[-1].problem:
            self.stack[-1].problem = "the numbers stand between words"

    def _number(self, match: re.Match[str]) -> None:
        value, tail, unit, colon = match.group("value", "tail", "unit", "colon")
        tail = tail.strip(".").lower()
        before = self.text[match.start() - 1] if match.start() else ""
        glued = value[0] in "+-" and (before.isalnum() or before in ("]", ")"))
        if colon:
            self.label = ""
        elif (tail and tail not in _UNITS) or glued or unit:
            self._not_a_coordinate("a number with a unit or in a name is not a coordinate")
        elif before == "第" or self.text[match.end() : match.end() + 1] in _COUNTERS:
            self._not_a_coordinate("a number that counts is not a coordinate")
        else:
            self._take(float(value), match)

    def _not_a_coordinate(self, problem: str) -> None:
        self.label = ""
        if self.stack:
            node = self.stack[-1]
            node.problem = node.problem or problem
            node.numbers.append(math.nan)
            node.slots.append(None)

    def _take(self, value: float, match: re.Match[str]) -> None:
        """A number, given to the bracket it stands in, or to the labels or the row outside of brackets."""
        label, self.label = self.label, ""
        slot = slot_named(label) if label else None
        if not self.stack:
            self._take_loose(value, slot, match)
            return
        node = self.stack[-1]
        if node.opening == "{" and not slot:
            return  # {"confidence": 0.9}
        if label and not slot and not node.problem:
            node.problem = f"'{label[:20]}' is not a coordinate"
        node.numbers.append(value)
        node.slots.append(slot)
        node.cut = match.end() == len(self.text)

    def _take_loose(self, value: float, slot: Slot | None, match: re.Match[str]) -> None:
        if slot is None:
            if self._continues_row(match.start()):
                self.rows[-1].append(value)
            else:
                self.rows.append([value])
            self.row_end = match.end()
            return
        if self.loose and slot in self.loose.slots:
            self._flush_loose()
        if self.loose is None:
            if slot[0] in "wh":
                return  # the size of something, before any place was named
            self.loose = NumberList(match.start(), "")
        self.loose.numbers.append(value)
        self.loose.slots.append(slot)
        self.loose.end = match.end()

    def _flush_loose(self) -> None:
        if self.loose is not None and len(self.loose.numbers) > 1:  # a single one is no place
            self._keep(self.loose)
        self.loose = None

    def _continues_row(self, start: int) -> bool:
        if self.row_end < 0:
            return False
        return _SEPARATORS.fullmatch(self.text, self.row_end, start) is not None


def _put_in_order(node: NumberList) -> None:
    """Labelled numbers as x1, y1, x2, y2 …; a corner with width and height as two corners."""
    places = dict(zip(node.slots, node.numbers, strict=True))
    if None in places or len(places) != len(node.numbers):
        node.problem = node.problem or "only some of the numbers are labelled"
        return
    by_axis: dict[str, dict[int, float]] = {"x": {}, "y": {}, "w": {}, "h": {}}
    for slot, value in places.items():
        assert slot is not None  # looked for above
        by_axis[slot[0]][slot[1]] = value
    xs, ys = by_axis["x"], by_axis["y"]
    extents = (*by_axis["w"].values(), *by_axis["h"].values())
    if not xs or xs.keys() != ys.keys() or (extents and (len(extents) != 2 or len(xs) != 1)):
        node.problem = node.problem or "the labels do not make up places"
        return
    node.numbers = [value for index in sorted(xs) for value in (xs[index], ys[index])]
    if extents:
        node.numbers += [node.numbers[0] + extents[0], node.numbers[1] + extents[1]]
        node.note = "width and height"
