"""Answers out of record files: the exact inverse of `writing.answer_to_json`."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

from robointervlm.core import plugins
from robointervlm.core.answer import Answer, answer_type
from robointervlm.core.errors import DataError


def answer_from_json(record: Mapping[str, object]) -> Answer:
    """The answer that `answer_to_json` wrote, to the last digit. Anything else is a `DataError`."""
    if len(record) == 1:
        [(key, value)] = record.items()
        kind = _type_of(key)
        if kind is not None:
            with contextlib.suppress(ValueError, TypeError, KeyError):
                return kind.from_json(value)
    raise DataError(
        f"{str(dict(record))[:200]} is not an answer as records hold it, such as {{'box': [x1, y1, x2, y2]}}."
    )


def _type_of(key: str) -> type[Answer] | None:
    """The answer type of a key; one that is not known may be of a plugin that nobody has asked for yet."""
    if answer_type(key) is None:
        plugins.load_all("robointervlm.tasks")
    return answer_type(key)
