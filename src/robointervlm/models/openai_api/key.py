"""The key of an endpoint, held where no message, record or log can show it."""

from __future__ import annotations

import base64
import logging
from urllib.parse import quote

_MASK = "[key]"
_SHOWN = 400


class Key:
    """A secret text; only `header` gives it away. `place` says where it came from, for messages."""

    __slots__ = ("_forms", "_text", "place")

    def __init__(self, text: str, place: str) -> None:
        self._text = text
        self.place = place
        # What a server may echo: the key itself, or as a URL or base64 writes it.
        self._forms = sorted({text, quote(text, safe=""), base64.b64encode(text.encode()).decode()}, key=len)[::-1]

    def __repr__(self) -> str:
        return "Key(…)"

    def header(self) -> dict[str, str]:
        """The header that shows the key to the endpoint."""
        return {"Authorization": f"Bearer {self._text}"}

    def masked(self, text: str) -> str:
        """The text without the key."""
        for form in self._forms:
            text = text.replace(form, _MASK)
        return text


class RedactingFilter(logging.Filter):
    """Takes a key out of every message that passes."""

    def __init__(self, key: Key) -> None:
        super().__init__()
        self._key = key

    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        masked = self._key.masked(message)
        if masked != message:
            record.msg, record.args = masked, ()
        return True


def redact_logs(key: Key) -> None:
    """Puts the filter on every handler that this package's log has now; only handlers see all loggers' messages."""
    for name in ("robointervlm", None):
        for handler in logging.getLogger(name).handlers:
            handler.addFilter(RedactingFilter(key))


def shown(text: str, limit: int = _SHOWN) -> str:
    """Text of a stranger for a message: cut, and without a character that a terminal would obey."""
    cut = text if len(text) <= limit else f"{text[:limit]}…"
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in cut)
