"""A prompt as the body of a chat completion request: the fields that the endpoint takes, the pictures resized by us."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from PIL import Image

from robointervlm.core.coordinates import ImageSize, smart_resize
from robointervlm.core.prompt import Decoding, Message, Picture, Prompt
from robointervlm.core.sample import IMAGE_MARKER

if TYPE_CHECKING:
    from robointervlm.models.openai_api.endpoint import Section

# Which fields an endpoint takes: providers differ, and say so in words of their own.
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
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        body = text
    said = [part for part in _statements(body) if _REFUSED.search(part) and not _TOO_LARGE.search(part)]
    named = {name: re.compile(rf"(?<![A-Za-z_]){re.escape(name)}(?![A-Za-z_])") for name in sent}
    return [name for name in sent if any(named[name].search(part) for part in said)]


def _statements(value: Any, *, depth: int = 0) -> Iterator[str]:
    """The sentences of an error body, and what it lists field by field (`loc`, as FastAPI does)."""
    if depth > 5:
        return
    if isinstance(value, dict) and "loc" in value:
        yield json.dumps([value["loc"], value.get("type"), value.get("msg")])
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _statements(inner, depth=depth + 1)
    elif isinstance(value, str):
        yield from _SENTENCE.split(value)


def sent_size(section: Section, image: ImageSize) -> ImageSize:
    """The size in which a picture is sent. Raises `DataError` where it cannot be resized."""
    match section.resize:
        case "none":
            return image
        case "smart_resize":
            return smart_resize(image, min_pixels=section.min_pixels, max_pixels=section.max_pixels)
        case "max_side":
            scale = min(1.0, section.max_side / max(image))
            return ImageSize(max(1, round(image.width * scale)), max(1, round(image.height * scale)))


def first_fields(section: Section) -> Fields:
    """The optional fields as the settings have them, before an endpoint has refused any."""
    return Fields(section.token_limit_key, frozenset(section.omit))


def sent_fields(section: Section, fields: Fields) -> list[str]:
    """The names of what a request holds beside model and messages."""
    names = [fields.token_limit_key, "temperature", "seed", *(["detail"] if section.detail is not None else [])]
    return [name for name in names if name not in fields.omitted] + list(section.extra)


def request_body(section: Section, prompt: Prompt, decoding: Decoding, fields: Fields | None = None) -> bytes:
    """The request of this question, with the optional fields as they are in the settings if not given."""
    fields = fields or first_fields(section)
    pictures = iter(prompt.pictures)
    detail = None if "detail" in fields.omitted else section.detail
    body: dict[str, object] = {
        "model": section.model,
        "messages": [_message(section, message, pictures, detail) for message in prompt.messages],
        fields.token_limit_key: decoding.max_new_tokens,
        "temperature": decoding.temperature,
        "seed": decoding.seed,
        **section.extra,
    }
    for name in fields.omitted & body.keys():
        del body[name]
    return json.dumps(body, separators=(",", ":")).encode("ascii")


def _message(section: Section, message: Message, pictures: Iterator[Picture], detail: str | None) -> dict[str, object]:
    if message.role != "user" or IMAGE_MARKER not in message.text:
        return {"role": message.role, "content": message.text}
    first, *others = message.text.split(IMAGE_MARKER)
    parts: list[dict[str, object]] = [{"type": "text", "text": first}]
    for text in others:
        parts += [_picture(section, next(pictures), detail), {"type": "text", "text": text}]
    return {"role": message.role, "content": [part for part in parts if part.get("text") != ""]}


def _picture(section: Section, picture: Picture, detail: str | None) -> dict[str, object]:
    image = Image.fromarray(picture)
    size = sent_size(section, ImageSize(*image.size))
    if size != image.size:
        image = image.resize(size, Image.Resampling.BICUBIC)
    file = io.BytesIO()
    if section.image_format == "png":
        image.save(file, "PNG", compress_level=1)
    else:
        image.save(file, "JPEG", quality=section.jpeg_quality, subsampling=0)
    data = base64.b64encode(file.getvalue()).decode("ascii")
    url = {"url": f"data:image/{section.image_format};base64,{data}"}
    if detail is not None:
        url["detail"] = detail
    return {"type": "image_url", "image_url": url}
