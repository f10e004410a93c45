"""Which fields of a request an endpoint takes: providers differ, and say so in words of their own."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, Self

_LIMITS = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}
_OPTIONAL = ("temperature", "seed", "detail")

_REFUSED = re.compile(
    r"unsupported|not[ -]support|n't support|unknown|unrecogni[sz]ed|unexpected|extra_forbidden|extra (?:input|field)"
    r"|additional propert|not permitted|not allowed|cannot find field|may only be|only .{1,20} is (?:allowed|supported)"
    # Servers that want greedy decoding asked for by leaving the temperature out.
    r"|strictly positive|greater than 0\b",
    re.IGNORECASE,
)
# A value that is too large for this one question, such as a long prompt's; the field itself is taken.
_TOO_LARGE = re.compile(r"too large|too long|at most|maximum|exceed|context length", re.IGNORECASE)
_SENTENCE = re.compile(r"(?<=[.;])\s+|\n")


@dataclass(frozen=True)
class Fields:
    """How the optional part of a request is written: the name of the length limit, and what is left out."""

    token_limit_key: str = "max_tokens"
    omitted: frozenset[str] = frozenset()
    limit_renamed: bool = False

    def without(self, name: str) -> Self | None:
        """The fields after this one was refused; None where nothing else is left to try."""
        if name == self.token_limit_key and not self.limit_renamed:
            return type(self)(_LIMITS[name], self.omitted, limit_renamed=True)
        if name in _OPTIONAL and name not in self.omitted:
            return type(self)(self.token_limit_key, self.omitted | {name}, self.limit_renamed)
        return None


def refused_fields(status: int, text: str, sent: Collection[str]) -> list[str]:
    """Those of the fields that were sent which an error body refuses by name, in the order in which they were sent."""
    if status not in {400, 422}:
        return []
    said = [part for part in _statements(text) if _REFUSED.search(part) and not _TOO_LARGE.search(part)]
    return [name for name in sent if any(_names(part, name) for part in said)]


def _names(statement: str, field: str) -> bool:
    return re.search(rf"(?<![A-Za-z_]){re.escape(field)}(?![A-Za-z_])", statement) is not None


def _statements(text: str) -> Iterator[str]:
    """The sentences of an error body, and what it lists field by field (`loc`, as FastAPI does)."""
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        yield from _SENTENCE.split(text)
        return
    yield from _of_value(body, depth=0)


def _of_value(value: Any, *, depth: int) -> Iterator[str]:
    if depth > 5:
        return
    if isinstance(value, dict) and "loc" in value:
        yield json.dumps([value["loc"], value.get("type"), value.get("msg")])
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _of_value(inner, depth=depth + 1)
    elif isinstance(value, str):
        yield from _SENTENCE.split(value)
