"""What a failed attempt means: the whole run stops, the question is tried again, or it alone has failed."""

from __future__ import annotations

import email.utils
import json
import random
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import NamedTuple

from robointervlm.core.errors import RecipeError, RoboInterError, StoppedError
from robointervlm.models.openai_api.key import shown

# No wait between two attempts is longer, unless the server asks for it.
MAX_BACKOFF_SECONDS = 60.0

_TRANSIENT = {408, 409, 425, 429}
# What an address answers that is none of an endpoint; of one that has answered before, something on the way says it.
_WRONG_ADDRESS = {404, 405, 501}
# After so many questions it is the key, and not what they say.
_FORBIDDEN_IN_A_ROW = 3
_QUOTA_CODES = {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"}
_FILTER_CODES = {"content_filter", "content_policy_violation", "moderation_blocked"}


class Failure(Exception):  # noqa: N818 - one of many, most of which are overcome
    """An attempt without an answer.

    `kind` is what it is counted as, `again` whether another attempt may fare better, `retry_after` the seconds that the
    server asked to wait, None if it did not.
    """

    def __init__(self, kind: str, message: str, *, again: bool, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.kind = kind
        self.again = again
        self.retry_after = retry_after


class ContentRefused(Exception):  # noqa: N818 - the endpoint's answer, not a fault of anybody
    """The endpoint's filter declined the question."""


class Status(NamedTuple):
    """A response whose status is not 200, or says so in its body; `text` is the body with the key masked."""

    status: int
    headers: Mapping[str, str]
    text: str


def failure_of(said: Status, *, host: str, key_place: str | None, answered: bool, forbidden: int = 0) -> Exception:
    """The failure that a response is; `answered` says whether this endpoint has answered a question before.

    `forbidden` is how many questions in a row it has answered with 403, this one included: one may be a proxy's that
    does not like what is in the question, several are those of a key that was taken back.

    Once it has, neither the address nor the model's name is wrong: what looks like it, such as the 404 or the redirect
    of a proxy to a body that is too large for it, is this question's alone. A refused key stops the run at any time.
    """
    status = said.status
    code, message = _error_of(said.text)
    if status in {400, 403} and code in _FILTER_CODES:
        return ContentRefused(code)
    forbidden_for_good = status == 403 and (not answered or forbidden >= _FORBIDDEN_IN_A_ROW)
    # Gemini says so with a 400.
    names_key = status in {400, 403} and any(f'"{c}"' in said.text for c in ("API_KEY_INVALID", "invalid_api_key"))
    if status == 401 or forbidden_for_good or names_key:
        # Without the body: providers repeat a part of the key in it.
        key = f"check {key_place}" if key_place else "no key was sent: name one with model.key_env or model.key_file"
        return RecipeError(f"{host} answered {status} (not allowed): {key}, and that it may use model.model.")
    wrong_address = status in _WRONG_ADDRESS or 300 <= status < 400
    if wrong_address and not answered:
        return _stopping(status, host)
    wait = retry_after(said.headers.get("retry-after"))
    # Gemini calls its limit per minute a quota, too, but says when to come back.
    is_quota = code in _QUOTA_CODES or (wait is None and "quota" in message.lower())
    if status == 402 or (status == 429 and is_quota):
        return StoppedError(f"{host} says that the quota is spent (status {status}): {shown(message, 200)}")
    again = not wrong_address and (status in _TRANSIENT or status >= 500)
    shown_text = "(a redirect, which is not followed)" if 300 <= status < 400 else shown(message)
    if status == 403:  # providers repeat a part of the key in it
        shown_text = "(not allowed)"
    return Failure(f"status {status}", f"{host} answered {status}: {shown_text}", again=again, retry_after=wait)


def _stopping(status: int, host: str) -> RoboInterError:
    if 300 <= status < 400:
        return RecipeError(
            f"{host} answered {status}, a redirect, which is not followed: give the address it leads to as "
            "model.base_url if you trust it."
        )
    meaning = "not found" if status == 404 else "no such method"
    return RecipeError(
        f"{host} answered {status} ({meaning}): check model.base_url, which usually ends in /v1, and model.model."
    )


def _error_of(text: str) -> tuple[str, str]:
    """The code and the message of an error body, as OpenAI writes it; else no code and the body itself."""
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        return "", text
    if isinstance(body, list) and body:
        body = body[0]  # Gemini's compatible endpoint wraps it
    error = body.get("error") if isinstance(body, dict) else None
    if not isinstance(error, dict):
        return "", text
    code = error.get("code") if isinstance(error.get("code"), str) else error.get("type")
    return (code if isinstance(code, str) else ""), str(error.get("message", text))


def retry_after(value: str | None, now: datetime | None = None) -> float | None:
    """The seconds that a Retry-After header asks to wait, as a number or as a date; None if it says nothing usable."""
    if value is None:
        return None
    if re.fullmatch(r"[0-9]{1,400}(\.[0-9]{1,20})?", value.strip()):
        return float(value)
    try:
        then = email.utils.parsedate_to_datetime(value.strip())
    except (ValueError, TypeError, OverflowError):
        return None
    if then.tzinfo is None:
        then = then.replace(tzinfo=UTC)
    return max(0.0, (then - (now or datetime.now(UTC))).total_seconds())


def wait_before(attempt: int, *, base: float, asked: float | None, longest_asked: float, draw: random.Random) -> float:
    """The seconds to wait before attempt 1, 2, …: doubling, from its upper half, and no less than the server asked."""
    backoff: float = min(base * 2 ** (attempt - 1), MAX_BACKOFF_SECONDS) * draw.uniform(0.5, 1.0)
    return max(backoff, min(asked or 0.0, longest_asked))
