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
    "width and height", "after an echoed prompt", "after the question".
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
_BRACKET = re.compile(r"[\[({]")
# The two ways a decoded chat looks: names on lines of their own (Qwen), or in capitals before a colon (LLaVA).
_CHATS = (
    (
        re.compile(r"\s*+(?:<\|im_start\|>)?(?:system|user)[ \t]*+\n"),
        re.compile(r"(?:\n|<\|im_start\|>)assistant[ \t]*+(?:\n|$)"),
    ),
    (re.compile(r"\s*+(?:A chat between [^\n]{0,300}? )?USER:"), re.compile(r"\bASSISTANT:")),
)


def in_ascii(text: str) -> str:
    """The text with full-width digits and signs as ordinary ones, and the Chinese names of the axes as x and y."""
    if text.isascii():
        return text
    return text.translate(_ASCII_FORMS).replace("横坐标", " x ").replace("纵坐标", " y ")


class Part(NamedTuple):
    """The part of a text that can hold its answer, the notes of a reading of it, and why it is empty if it is."""

    text: str
    notes: tuple[str, ...]
    empty: str


def answer_part(text: str) -> Part:
    """The text without an echoed chat in front of it, without thinking, and only what is in <answer> if that exists.

    An echoed chat that ends before the assistant's turn has no answer: nothing of a prompt is ever one.
    """
    after = None  # what follows the last assistant's turn, if the text is a chat
    for begins, assistant in _CHATS:
        if begins.match(text):
            ends = [match.end() for match in assistant.finditer(text)]
            after = text[ends[-1] :] if ends else ""
            break
    kept = _without_thinking(text if after is None else after)
    start = kept.rfind("<answer>")
    if start >= 0:
        inside = kept[start + len("<answer>") :].partition("</answer>")[0]
        kept = inside if inside.strip() else kept
    if not text.strip():
        empty = "the text is empty"
    elif after is not None and not after.strip():
        empty = "only the prompt is there, without an answer"
    else:
        empty = "nothing is left without the thinking"
    return Part(kept.strip(), () if after is None else ("after an echoed prompt",), empty)


def without_question(text: str, question: str) -> tuple[str, bool]:
    """A reply without the question repeated in front of it, and whether it was there.

    A question of a few letters is none: it could begin any answer.
    """
    wanted = question.replace("<image>", "").strip()
    start = len(text) - len(text.lstrip())
    if len(wanted) < 20 or not text.startswith(wanted, start):
        return text, False
    return text[start + len(wanted) :], True


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
        else:  # <point>205 34</point> needs no bracket: the tag is one
            inside = [content if _BRACKET.search(content) else f"[{content}]" for content in inside]
        found.append(Region("\n".join(inside), "tags"))
    fenced = text.split("```")[1::2]
    if fenced:
        found.append(Region("\n".join(fenced), "fenced"))
    return [*found, Region(text, None)]
