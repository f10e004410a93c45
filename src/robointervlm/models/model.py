"""The two protocols a model fulfils. The name of a family is the name of its file in this folder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from robointervlm.core.coordinates import CoordinateFormat, ImageSize
from robointervlm.core.prompt import Decoding, Prompt, Reply


@runtime_checkable
class Model(Protocol):
    """Something that answers prompts.

    `fingerprint` changes whenever the answers may: it names the weights, the precision and the pixel limits.
    """

    name: str
    coordinates: CoordinateFormat
    fingerprint: str

    def processed_size(self, image: ImageSize) -> ImageSize:
        """The size this model really sees an image of the given size in."""
        ...

    def answer(self, prompts: Sequence[Prompt], decoding: Decoding) -> list[Reply | Exception]:
        """One entry per prompt, in order: the reply, or the error that this prompt alone ran into."""
        ...
