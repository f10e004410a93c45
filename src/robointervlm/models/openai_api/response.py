"""A chat completion read with no trust in it: exactly an answer, or a failure that says what was wrong."""

from __future__ import annotations

import json
import re
import zlib
from typing import Any, NamedTuple

from robointervlm.core.prompt import FinishReason
from robointervlm.models.openai_api.failures import Failure
from robointervlm.models.openai_api.key import shown

MAX_BODY_BYTES = 1_000_000

# What a terminal obeys and no answer holds; tab, newline and carriage return are text.
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x80-\x9f]")


class Used(NamedTuple):
    """The tokens that an endpoint says it charges for."""

    input_tokens: int
    output_tokens: int


class Completion(NamedTuple):
    text: str
    finish_reason: FinishReason


def unpacked(raw: bytes, encoding: str) -> bytes:
    """The body as it was before the server compressed it, which it was asked not to do. Raises `Failure`."""
    if encoding in {"", "identity"}:
        return raw
    if encoding not in {"gzip", "deflate"}:
        raise Failure("broken body", f"the body is compressed with {shown(encoding, 40)!r}", again=True)
    try:
        stream = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)
        data = stream.decompress(raw, MAX_BODY_BYTES + 1)
    except zlib.error as error:
        raise Failure("broken body", f"the body is damaged: {error}", again=True) from None
    if len(data) > MAX_BODY_BYTES:
        raise too_large()
    return data


def too_large() -> Failure:
    """The failure of a body that does not end. Not tried again: it may have been charged for."""
    return Failure("too large", f"the body is larger than {MAX_BODY_BYTES} bytes", again=False)


def parsed(text: str) -> dict[str, Any]:
    """The body as an object. Raises `Failure`."""
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        raise _broken("no JSON", text) from None
    if not isinstance(body, dict):
        raise _broken("no JSON object", text)
    return body


def used(body: dict[str, Any]) -> Used | None:
    """What the endpoint charges for, None if it does not say."""
    usage = body.get("usage")
    if not isinstance(usage, dict):
        return None
    into, out = usage.get("prompt_tokens"), usage.get("completion_tokens")
    if not isinstance(into, int) or not isinstance(out, int) or min(into, out) < 0:
        return None
    return Used(into, out)


def completion(body: dict[str, Any], text: str) -> Completion:
    """The one answer in a body, whose `text` is shown if there is none. Raises `Failure`."""
    choices = body.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(choice, dict) or not isinstance(message, dict):
        raise _broken("no choice with a message", text)
    content, finish = message.get("content"), choice.get("finish_reason")
    if finish is not None and not isinstance(finish, str):
        raise _broken("a finish_reason that is no text", text)
    if finish == "content_filter" or isinstance(message.get("refusal"), str):
        return Completion(content if isinstance(content, str) else "", "refused")
    if message.get("tool_calls") or finish in {"tool_calls", "function_call"}:
        raise _useless("a tool call, no answer", text)
    if content is None and finish == "length":
        return Completion("", "length")  # every token went into thinking
    if content is None:
        raise _useless("an empty answer (null content)", text)
    if not isinstance(content, str):
        raise _broken("content that is no text", text)
    if _CONTROL.search(content):
        raise _useless("control characters in the answer", text)
    return Completion(content, "length" if finish == "length" else "stop")


def _broken(what: str, text: str) -> Failure:
    """A body that something on the way has damaged."""
    return Failure("broken body", f"the body holds {what}: '{shown(text)}'", again=True)


def _useless(what: str, text: str) -> Failure:
    """A whole body without an answer in it: the same question would cost the same again."""
    return Failure("useless body", f"the body holds {what}: '{shown(text)}'", again=False)
