"""The part of a model's output that is its answer, and what a reading of it is."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import islice
from typing import Literal, NamedTuple

from robointervlm.core.answer import Answer, Unparsed

Tier = Literal[
    "",  # nothing was read
    "json",  # the text is a list or dictionary, or begins with one
    "fenced",  # a list or dictionary in a ``` block
    "tags",  # <box>, <point>, <|box_start|> …
    "brackets",  # brackets within other text
    "labels",  # x: 10, y: 20
    "bare",  # four numbers in a row, nothing else to go by
    "alone",  # a letter, yes or no, and nothing else
    "statement",  # "the answer is B"
    "leading",  # an answer, then its explanation
    "mention",  # the only option that the text names
    "option",  # the words of an option instead of its letter
    "text",
]


@dataclass(frozen=True)
class Reading:
    """What was read in a text, in which form it was found there, and what a reader should know about it.

    Notes are short and countable: "truncated", "corners swapped", "first of 3", "extra numbers", "four corners",
    "width and height".
    """

    answer: Answer | Unparsed
    tier: Tier
    notes: tuple[str, ...] = ()


def unread(text: str, reason: str) -> Reading:
    """A reading of nothing."""
    return Reading(Unparsed(text, reason), "")


# Full-width forms of ASCII, the signs Chinese text puts around numbers, and the typographic minus.
_ASCII_FORMS: dict[int, str] = {code: chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)} | {
    0x3000: " ",
    0x3001: ",",
    0x3002: "\n",
    0x3010: "[",
    0x3011: "]",
    0x2212: "-",
}
_MOST_TAGS = 1000
_CHAT_START = re.compile(r"\s*+(?:<\|im_start\|>)?(?:system|user)[ \t]*+\n")
_ASSISTANT = re.compile(r"(?:\n|<\|im_start\|>)assistant[ \t]*+(?:\n|$)")


def in_ascii(text: str) -> str:
    """The text with full-width digits and signs as ordinary ones."""
    return text if text.isascii() else text.translate(_ASCII_FORMS)


def answer_part(text: str) -> str:
    """The text without an echoed chat in front of it, without thinking, and only what is in <answer> if that exists."""
    text = _without_thinking(_after_the_prompt(text))
    start = text.rfind("<answer>")
    if start >= 0:
        inside = text[start + len("<answer>") :].partition("</answer>")[0]
        text = inside if inside.strip() else text
    return text.strip()


def _after_the_prompt(text: str) -> str:
    """A decoded chat (lines "user", …, "assistant", …) without everything before the last answer."""
    if not _CHAT_START.match(text):
        return text
    ends = [match.end() for match in _ASSISTANT.finditer(text)]
    return text[ends[-1] :] if ends else text


def _without_thinking(text: str) -> str:
    """Thinking that never ended is dropped to the end of the text; one that began in the prompt, up to its end."""
    text = text.replace("<thinking>", "<think>").replace("</thinking>", "</think>")
    kept, position = [], 0
    while (start := text.find("<think>", position)) >= 0:
        kept.append(text[position:start])
        end = text.find("</think>", start)
        position = len(text) if end < 0 else end + len("</think>")
    kept.append(text[position:])
    return "".join(kept).rpartition("</think>")[2]


class Region(NamedTuple):
    """A stretch of the text to read first, and the tier that an answer found in it has (None: as it stands there)."""

    text: str
    tier: Tier | None


def regions(text: str, tag: re.Pattern[str], *, one_each: bool) -> list[Region]:
    """Where to look for places, most telling first: inside the tags, inside ``` fences, everywhere.

    With `one_each` every tag holds an answer of its own, otherwise all of them hold parts of one.
    """
    found = []
    inside = [match[1] for match in islice(tag.finditer(text), _MOST_TAGS)]
    if inside:
        if one_each:
            inside = [f"[{content}]" for content in inside]
            if text.endswith(inside[-1][1:-1]):  # the last tag was never closed
                inside[-1] = inside[-1].removesuffix("]")
        found.append(Region("\n".join(inside), "tags"))
    fenced = text.split("```")[1::2]
    if fenced:
        found.append(Region("\n".join(fenced), "fenced"))
    return [*found, Region(text, None)]
