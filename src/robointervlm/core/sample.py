"""One question about one or more images, with its reference answer."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from robointervlm.core.answer import Answer
from robointervlm.core.coordinates import ImageSize, Point, Space

IMAGE_MARKER = "<image>"


@dataclass(frozen=True)
class ImageRef:
    """Where a picture is. `size` is what the annotation says of it, None if nothing (then the file is asked).

    `root` with `path` is a file, also inside a zip archive on the way, or `path` is an `EpisodeFrame` written out. With
    `follow_links`, symbolic links on the way may lead out of `root`; the path itself may not.
    """

    root: Path
    path: str
    size: ImageSize | None = None
    follow_links: bool = False


@dataclass(frozen=True)
class Place:
    """Numbers inside a text that are a place in the image: points in pixels and how they were bracketed.

    `pattern` holds one `{}` per number, x and y alternating, such as `[{}, {}]`.
    """

    points: tuple[Point, ...]
    pattern: str

    def written(self, space: Space) -> str:
        """The place as a text in another party's coordinates."""
        numbers = (space.number(value) for point in space.from_pixels(self.points) for value in point)
        return self.pattern.format(*numbers)


Question = tuple[str | Place, ...]
"""A question's text with `<image>` where the images stand; numbers in it that are places are held apart, in pixels."""


def written_question(question: Question, space: Space | None) -> str:
    """The question as one text, its places in the coordinates of `space` (needed only if there are places)."""
    texts = []
    for part in question:
        if isinstance(part, str):
            texts.append(part)
        elif space is None:
            raise ValueError(f"the question holds the place {part} but no image to measure it in")
        else:
            texts.append(part.written(space))
    return "".join(texts)


@dataclass(frozen=True)
class Turn:
    question: Question
    answer: Answer


@dataclass(frozen=True)
class Sample:
    """A conversation about images; robot tasks have one turn, general data may have several.

    `images` stand where the `<image>` markers of the questions are, in order. Coordinates are pixels of the first
    image, whose stored size is `size` (None for a sample without images). `raw_answer` is the annotation's own text,
    `notes` are what its reader noted (as in a `Reading`).
    """

    id: str
    task: str
    dataset: str
    images: tuple[ImageRef, ...]
    turns: tuple[Turn, ...]
    size: ImageSize | None
    raw_answer: str = ""
    episode: str = ""
    extra: dict[str, object] = field(default_factory=dict, compare=False)
    notes: tuple[str, ...] = field(default=(), compare=False)

    @property
    def question(self) -> Question:
        return self.turns[-1].question

    @property
    def answer(self) -> Answer:
        return self.turns[-1].answer
