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
USELESS = "useless body"

# The parts of a content that are the answer; thoughts have other types.
_TEXT_TYPES = {"text", "output_text"}
# What providers call an end at the longest answer, and one by their filter.
_CUT = {"length", "max_tokens", "model_length"}
_FILTERED = {"content_filter", "safety", "prohibited_content", "recitation", "blocklist"}

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
        if text.startswith("data:"):
            raise _useless("a stream, which was not asked for", text) from None
        raise _broken("no JSON", text) from None
    if not isinstance(body, dict):
        raise _broken("no JSON object", text)
    return body


def status_in_body(body: dict[str, Any]) -> int | None:
    """The status that an error body has which came with 200, as gateways send it; None for any other body."""
    error = body.get("error")
    if not error or any(body.get(name) for name in ("choices", "output", "output_text")):
        return None
    code = error.get("code") if isinstance(error, dict) else None
    return code if isinstance(code, int) and 400 <= code <= 599 else 500


def used(body: dict[str, Any]) -> Used | None:
    """What the endpoint charges for, None if it does not say."""
    usage = body.get("usage")
    if not isinstance(usage, dict):
        return None
    into = usage.get("prompt_tokens", usage.get("input_tokens"))
    out = usage.get("completion_tokens", usage.get("output_tokens"))
    if not isinstance(into, int) or not isinstance(out, int) or min(into, out) < 0:
        return None
    return Used(into, out)


def completion(body: dict[str, Any], text: str) -> Completion:
    """The one answer in a body, whose `text` is shown if there is none. Raises `Failure`."""
    message, finish = _message(body, text)
    content = content_of(message.get("content"))
    finish = finish.lower() if isinstance(finish, str) else ""
    if finish in _FILTERED or content.refused or _is_text(message.get("refusal")):
        return Completion(content.text or "", "refused")
    if message.get("tool_calls") or finish in {"tool_calls", "function_call"}:
        raise _useless("a tool call, no answer", text)
    if content.text is None and finish in _CUT:
        return Completion("", "length")  # every token went into thinking
    if content.text is None:
        raise _useless(f"no answer ({content.found or 'null content'})", text)
    if finish == "error":
        raise _useless("an answer that ended in an error", text)
    if _CONTROL.search(content.text):
        raise _useless("control characters in the answer", text)
    return Completion(content.text, "length" if finish in _CUT else "stop")


def _message(body: dict[str, Any], text: str) -> tuple[dict[str, Any], object]:
    """The message of a body, and how it ended; of the first choice, where there are several."""
    choices = body.get("choices")
    if isinstance(choices, list):
        for choice in choices:
            if isinstance(choice, dict) and isinstance(message := choice.get("message"), dict):
                return message, choice.get("finish_reason")
    if isinstance(body.get("output"), list):
        return _of_responses(body)
    if _is_text(body.get("output_text")):
        return {"content": body["output_text"]}, None
    tokens = used(body)
    if tokens is not None and tokens.output_tokens > 0:
        raise _useless("no choice with a message, though tokens were charged", text)
    if choices or (body and "choices" not in body):
        raise _useless("no choice with a message", text)
    raise _broken("no choice with a message", text)


def _of_responses(body: dict[str, Any]) -> tuple[dict[str, Any], object]:
    """The same of a body as OpenAI's other protocol, `/responses`, writes it."""
    items = [item for item in body["output"] if isinstance(item, dict)]
    parts = [content_of(item.get("content")) for item in items if item.get("type") == "message"]
    texts = [part.text for part in parts if part.text is not None]
    details = body.get("incomplete_details")
    reason = details.get("reason") if isinstance(details, dict) else None
    finish = "length" if reason == "max_output_tokens" else reason
    called = [item for item in items if str(item.get("type")).endswith("_call")] if not texts else []
    refusal = "refused" if any(part.refused for part in parts) else None
    return {"content": "".join(texts) if texts else None, "tool_calls": called, "refusal": refusal}, finish


class Content(NamedTuple):
    """The text of a message, None where it has none; `found` names what it has instead."""

    text: str | None
    refused: bool = False
    found: str = ""


def content_of(content: object) -> Content:
    """The text of a message's content, whole or in parts; thoughts and parts that are no text are set aside."""
    if content is None or isinstance(content, str):
        return Content(content)
    parts = content if isinstance(content, list) else [content]
    texts = [text for part in parts if (text := _text_of_part(part)) is not None]
    kinds = [str(part.get("type")) if isinstance(part, dict) else type(part).__name__ for part in parts]
    refused = "refusal" in kinds
    found = f"only parts of type {', '.join(sorted(set(kinds)))}" if kinds else "no parts"
    return Content("".join(texts) if texts else None, refused, shown(found, 100))


def _text_of_part(part: object) -> str | None:
    if isinstance(part, str):
        return part
    if not isinstance(part, dict) or part.get("type", "text") not in _TEXT_TYPES or part.get("thought") is True:
        return None
    text = part.get("text")
    if isinstance(text, dict):
        text = text.get("value")
    return text if isinstance(text, str) else None


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value != ""


def _broken(what: str, text: str) -> Failure:
    """A body that something on the way has damaged."""
    return Failure("broken body", f"the body holds {what}: '{shown(text)}'", again=True)


def _useless(what: str, text: str) -> Failure:
    """A whole body without an answer in it: the same question would cost the same again."""
    return Failure(USELESS, f"the body holds {what}: '{shown(text)}'", again=False)
