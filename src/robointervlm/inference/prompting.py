"""From a sample to a prompt: its text with every coordinate in the numbers that this model writes."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from robointervlm.core.coordinates import CoordinateFormat, ImageSize, Space
from robointervlm.core.errors import DataError
from robointervlm.core.prompt import Message
from robointervlm.core.sample import Sample
from robointervlm.tasks import Task, conversation


class Sees(Protocol):
    """How a model sees an image and writes places in it; every `Model` is one."""

    @property
    def coordinates(self) -> CoordinateFormat: ...

    def processed_size(self, image: ImageSize) -> ImageSize:
        """The size the model really sees an image of the given size in."""
        ...


class Prompted(NamedTuple):
    """The turns of a sample as a model is given them, and the space that they and its reply are in.

    `space` is None where the sample has no image.
    """

    messages: tuple[Message, ...]
    space: Space | None


def space_of(model: Sees, size: ImageSize | None) -> Space | None:
    """The coordinates that a model asks and answers in about an image stored in this size, in pixels."""
    return None if size is None else Space(model.coordinates, size, model.processed_size(size))


def prompted(sample: Sample, task: Task, model: Sees, size: ImageSize | None, *, style: str = "default") -> Prompted:
    """A sample as this model is asked it; `size` is that of its first image as stored, in pixels.

    Raises `DataError` where the annotation knows another size.
    """
    refuse_other_size(sample, size)
    space = space_of(model, size)
    return Prompted(conversation(sample, task, space, style), space)


def refuse_other_size(sample: Sample, size: ImageSize | None) -> None:
    """Raise `DataError` if the annotation says another size of the first image: its coordinates would be wrong."""
    if size is not None and sample.size is not None and sample.size != size:
        raise DataError(
            f"the annotation says the picture is {sample.size.width}x{sample.size.height}, "
            f"{sample.images[0].path} is {size.width}x{size.height}."
        )
