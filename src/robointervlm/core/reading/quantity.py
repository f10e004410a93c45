"""A number with its unit out of what a model wrote, such as an angle in degrees."""

from __future__ import annotations

import math
import re

from robointervlm.core.answer import Number
from robointervlm.core.coordinates import Space
from robointervlm.core.reading.numbers import NUMBER
from robointervlm.core.reading.text import Reading, Tier, answer_part, in_ascii, unread

# The other ways of writing a unit.
_WRITTEN = {
    "deg": ("deg", "degs", "degree", "degrees", "°", "º", "度"),
    "rad": ("rad", "rads", "radian", "radians"),
    "mm": ("mm", "millimeter", "millimeters", "millimetre", "millimetres"),
    "cm": ("cm", "centimeter", "centimeters", "centimetre", "centimetres"),
    "m": ("m", "meter", "meters", "metre", "metres"),
    "s": ("s", "sec", "second", "seconds"),
    "N": ("n", "newton", "newtons"),
    "px": ("px", "pixel", "pixels"),
    "%": ("%", "percent"),
}
_UNITS = {written: unit for unit, ways in _WRITTEN.items() for written in ways}
# What is read of a text at most.
_LONGEST = 65_536
# A sign after a digit is no sign: "30-40" is a range.
_FOUND = re.compile(rf"(?<![\w.])(?:(?<!\d)|(?=[0-9.]))({NUMBER})\s*+([°º度%]|[^\W\d_]++)?+")
_RANGE = re.compile(rf"{NUMBER}\s*+(?:[°º]|deg(?:rees)?+)?+\s*+(?:-|–|to|or|and)\s*+(?={NUMBER})")


def read_number(text: str, _space: Space | None = None, *, key: str = "", unit: str = "") -> Reading:
    """The one number of a text: under `key`, alone, with the unit, or the only one there is.

    A number in another unit is not converted, and of several different ones none is chosen: nothing is read then.
    """
    part = answer_part(text)
    body = in_ascii(part.text)[:_LONGEST]
    if not body:
        return unread(text, part.empty)
    if key and (under := re.findall(rf"{re.escape(key)}[\"']?\s*[:=]\s*[\"']?(?=[-+.0-9])([^,}}\n]{{1,60}})", body)):
        return _reading(text, under[-1], unit, "json" if body.lstrip()[:1] in "{[" else "labels", part.notes)
    return _reading(text, body, unit, "mention", part.notes)


def _reading(text: str, body: str, unit: str, tier: Tier, notes: tuple[str, ...]) -> Reading:
    plain: list[float] = []
    ours: list[float] = []
    others: list[str] = []
    for match in _FOUND.finditer(body):
        number, word = match[1], match[2] or ""
        named = _UNITS.get(word.lower(), word if word == unit else "")
        if word and not named:
            continue  # of something else, or a part of a word: 3 boxes, 2D
        if named and named != unit:
            others.append(f"{number} is in {named}")
        else:
            (ours if named else plain).append(float(number))
        if tier == "mention" and match[0].strip() == body.strip().rstrip("."):
            tier = "alone"
    if _RANGE.search(body):
        return unread(text, "a range of numbers is no answer")
    if others and not ours:
        return unread(text, f"{others[0]}, {unit or 'no unit'} is asked for")
    values = set(ours or plain)
    if not values:
        return unread(text, "there is no number")
    if len(values) > 1:
        return unread(text, f"{len(values)} different numbers")
    value = values.pop()
    if not math.isfinite(value):
        return unread(text, "the number is too large")
    return Reading(Number(value, unit), tier, notes)
