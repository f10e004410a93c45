"""The key of an endpoint: where it comes from, whom it is shown to, and that nothing else ever shows it."""

from __future__ import annotations

import base64
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from robointervlm.core.errors import RecipeError
from robointervlm.models.openai_api.endpoint import host_of, is_local, is_plain

OPENAI_KEY = "OPENAI_API_KEY"
# The variable that the maker of an address documents for its own key.
MAKERS_KEYS = {"api.openai.com": OPENAI_KEY, "generativelanguage.googleapis.com": "GEMINI_API_KEY"}
NO_KEY = "none"

_MASK = "[key]"
_SHORTEST_SECRET = 8
_SHOWN = 400


class Key:
    """A secret text; only `header` gives it away. `place` says where it came from, for messages."""

    __slots__ = ("_forms", "_text", "place")

    def __init__(self, text: str, place: str) -> None:
        self._text = text
        self.place = place
        # What a server may echo: the key itself, or as a URL or base64 writes it.
        forms = {text, quote(text, safe=""), base64.b64encode(text.encode()).decode()}
        # `EMPTY` or `0`, which a server on one's own machine is given, is no secret, and may well be in an answer.
        self._forms = sorted(forms, key=len, reverse=True) if len(text) >= _SHORTEST_SECRET else []

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


def find_key(base_urls: Sequence[str], key_env: str | None, key_file: Path | None) -> Key | None:
    """The key for these addresses, None where none is to be sent: never one of a recipe or a command line.

    A key that nobody named goes only where its maker documents it, and to a server on this machine, which it does not
    leave: OPENAI_API_KEY is exported by many who ask another endpoint now, or run a recipe that somebody else wrote.
    Raises `RecipeError` if the key is not there, or if none is named for an address that surely wants one.
    """
    if key_file is not None:
        return _key_in_file(key_file)
    if key_env == NO_KEY:
        return None
    if key_env is not None:
        return _key_in_variable(key_env)
    for url in base_urls:
        if _usual_variable(url) is not None:
            continue
        if is_plain(url):
            return None  # a key that nobody named is not sent in the clear
        raise RecipeError(
            f"no key is named for {host_of(url)}: give model.key_env=NAME, the environment variable that holds it "
            f"(--api_key_env, API_KEY_ENV in the documented scripts), or model.key_file. {OPENAI_KEY} goes without "
            f"being named to OpenAI's own address and to this machine only; model.key_env={NO_KEY} sends no key."
        )
    names = {str(_usual_variable(url)) for url in base_urls}
    if len(names) > 1:
        raise RecipeError(
            f"model.base_url names several makers; say with model.key_env which of {sorted(names)} it is."
        )
    [name] = names
    if all(is_local(url) for url in base_urls) and not os.environ.get(name, "").strip():
        return None  # most servers on one's own machine want no key
    return _key_in_variable(name)


def _usual_variable(url: str) -> str | None:
    """The variable whose key may be sent to this address though nobody named it."""
    if is_local(url):
        return OPENAI_KEY
    return None if is_plain(url) else MAKERS_KEYS.get(host_of(url))


def _key_in_variable(name: str) -> Key:
    if name not in os.environ:
        raise RecipeError(f"the environment variable {name}, which holds the key, is not set (model.key_env names it).")
    return _checked(os.environ[name].strip(), f"the environment variable {name}")


def _key_in_file(path: Path) -> Key:
    try:
        text = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not ASCII text"
        raise RecipeError(f"model.key_file {path} cannot be read: {reason}.") from None
    return _checked(text, f"model.key_file {path}")


def _checked(text: str, place: str) -> Key:
    if not text or not text.isascii() or not text.isprintable() or " " in text:
        raise RecipeError(f"{place} holds no key: one line of letters, digits and signs was expected.")
    return Key(text, place)


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
