"""A prompt as the body of a chat completion request, its pictures resized by us and put where their markers are."""

from __future__ import annotations

import base64
import io
import json
from typing import TYPE_CHECKING

from PIL import Image

from robointervlm.core.coordinates import ImageSize, smart_resize
from robointervlm.core.prompt import Decoding, Message, Picture, Prompt
from robointervlm.core.sample import IMAGE_MARKER
from robointervlm.models.openai_api.fields import Fields

if TYPE_CHECKING:
    from collections.abc import Iterator

    from robointervlm.models.openai_api.section import Section


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
    parts = [_text(first)]
    for text in others:
        parts += [_picture(section, next(pictures), detail), _text(text)]
    return {"role": message.role, "content": [part for part in parts if part.get("text") != ""]}


def _text(text: str) -> dict[str, object]:
    return {"type": "text", "text": text}


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
