"""A sample as the conversation a model is taught, its coordinates written in the model's format and size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from robointervlm.core.coordinates import CoordinateFormat, ImageSize, Space
from robointervlm.core.prompt import Message
from robointervlm.core.sample import Sample, Turn, written_question
from robointervlm.tasks import task_named

# How many samples are enough to learn a small vocabulary from.
TEXTS = 5000


def model_space(format_: CoordinateFormat, image: ImageSize | None, processed: ImageSize | None) -> Space | None:
    """The space a model writes in for one image; None where there is no image."""
    return None if image is None else Space(format_, image, processed)


def taught(task: str, turns: tuple[Turn, ...], space: Space | None) -> tuple[Message, ...]:
    """The conversation with its answers, in the given space."""
    write = task_named(task).write
    messages = []
    for turn in turns:
        messages.append(Message("user", written_question(turn.question, space)))
        messages.append(Message("assistant", write(turn.answer, space)))
    return tuple(messages)


def sample_texts(samples: Sequence[Sample] | None) -> Iterator[str]:
    """What a small tokenizer should know: the chat's own words, and a share of the samples as they are written."""
    yield from ["system\nYou are a helpful assistant.\nuser\nassistant\n"] * 100
    for index in range(0, len(samples or ()), max(1, len(samples or ()) // TEXTS)):
        sample = (samples or ())[index]
        space = None if sample.size is None else Space.pixels(sample.size)
        yield from (message.text for message in taught(sample.task, sample.turns, space))
