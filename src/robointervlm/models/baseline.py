"""Answers that never look at the picture: what a model has to beat.

One text gives the same answer to everything; several give each question one of them, drawn by a hash of the question
and its pictures, so that the same question always gets the same answer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from robointervlm.core.coordinates import CoordinateFormat, ImageSize
from robointervlm.core.prompt import Decoding, Prompt, Reply
from robointervlm.models.scripted import key_of


class Section(BaseModel):
    """The `model` section of a recipe."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    texts: tuple[str, ...] = Field(min_length=1)
    name: str = "baseline"
    coordinates: Literal["pixel", "unit", "per_mille"] = "pixel"


def load(section: Section) -> BaselineModel:
    return BaselineModel(section.texts, section.name, CoordinateFormat.named(section.coordinates))


class BaselineModel:
    """A `Model` that draws its answers from a list."""

    def __init__(self, texts: Sequence[str], name: str, coordinates: CoordinateFormat = CoordinateFormat.PIXEL) -> None:
        self.name = name
        self.coordinates = coordinates
        self._texts = tuple(texts)
        self.fingerprint = hashlib.sha256("\0".join((coordinates.value, *self._texts)).encode()).hexdigest()

    def processed_size(self, image: ImageSize) -> ImageSize:
        return image

    def answer(self, prompts: Sequence[Prompt], decoding: Decoding) -> list[Reply | Exception]:  # noqa: ARG002
        digests = [hashlib.sha256(key_of(prompt).encode()).digest() for prompt in prompts]
        drawn = [self._texts[int.from_bytes(digest[:8], "little") % len(self._texts)] for digest in digests]
        return [Reply(text, 0.0, 0, 0) for text in drawn]
