"""What every asker needs: the form of a question, wordings, letters, and the numbers of an answer."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image

from robointervlm.core.answer import Box
from robointervlm.core.coordinates import ImageSize, Point
from robointervlm.episodes.episode import Episode, Frame
from robointervlm.episodes.questions.wordings import WORDINGS

# Pixels at 196 pixels of width; a shorter way has no shape, and a shorter side cannot be hit.
MIN_WAY = 15.0
MIN_SIDE = 6.0
LETTERS = "ABCD"

T = TypeVar("T")

Draw = Callable[[NDArray[np.uint8]], Image.Image]
"""Makes the picture that is shown out of a frame's own."""


class Balance(NamedTuple):
    """What a question is kept or left out by: among the questions of one ``group``, all of the ``classes`` answers are
    to be equally frequent, and this one is of the class ``answer``.
    """

    group: str
    answer: str
    classes: int


class Drawing(NamedTuple):
    """A picture made for one question, and the size it will have."""

    draw: Draw
    size: ImageSize


@dataclass(frozen=True)
class Asked:
    """A question and its answer about an episode.

    It is about one frame, given by its place in `Episode.frames`, shown as it is or as ``drawing`` makes it; or about a
    ``clip``, time steps of the episode in the order they are shown in. ``thing`` is the name of what is asked about,
    and ``mark`` what else tells questions of one task and frame apart; of a clip, the published name of their kind.
    """

    frame: int
    question: str
    answer: str
    thing: str = ""
    mark: str = ""
    clip: tuple[int, ...] = ()
    drawing: Drawing | None = None
    balance: Balance | None = None


Asker = Callable[[Episode, Generator], Iterator[Asked]]


def pick(task: str, rng: Generator) -> str:
    """One of the wordings of a task."""
    wordings = WORDINGS[task]
    return wordings[rng.integers(len(wordings))]


def about(episode: Episode, task: str, rng: Generator) -> str:
    """A wording with the instruction in front."""
    return f"Task: {episode.instruction}. {pick(task, rng)}"


def letter(episode: Episode, task: str, turn: int) -> str:
    """The letter of the right answer of an episode's question number ``turn`` of a task.

    Four questions in a row of one episode have all four letters, and so has one turn in four episodes in a row: a
    Latin square whose rows, columns and letters are shuffled.
    """
    rng = np.random.default_rng([episode.seed, episode.number // 4, turn // 4, *task.encode()])
    rows, columns, letters = (rng.permutation(4) for _ in range(3))
    return LETTERS[letters[(rows[episode.number % 4] + columns[turn % 4]) % 4]]


def lettered(right: T, others: Sequence[T], at: str, rng: Generator) -> list[T]:
    """Four options: the right one at its letter, the three others around it in random order."""
    options = [others[i] for i in rng.permutation(len(others))[:3]]
    options.insert(LETTERS.index(at), right)
    return options


def listed(options: Iterable[str], *, separator: str = "\n") -> str:
    """Options behind their letters."""
    return separator.join(f"{name}. {option}" for name, option in zip(LETTERS, options, strict=True))


def sample(items: Sequence[T], count: int, rng: Generator) -> list[T]:
    """So many different ones of them, in random order."""
    return [items[i] for i in rng.permutation(len(items))[:count]]


def box_answer(key: str, episode: Episode, box: Box) -> str:
    """A box in whole pixels as the published answers write it."""
    return json.dumps({key: whole(episode, box.corners)})


def points_answer(key: str, episode: Episode, points: Iterable[Point]) -> str:
    """Points in whole pixels as the published answers write them."""
    return json.dumps({key: whole(episode, points)})


def whole(episode: Episode, points: Iterable[Point]) -> list[list[int]]:
    """Points in whole pixels, inside the picture."""
    width, height = episode.image_size
    return [[min(max(round(x), 0), width), min(max(round(y), 0), height)] for x, y in points]


def before_contact(episode: Episode) -> list[int]:
    """Frames before contact, by their place; none if there is no contact."""
    contact = episode.contact_index
    return [] if contact is None else [n for n, frame in enumerate(episode.frames) if frame.index < contact]


def with_way(episode: Episode) -> Iterator[tuple[int, Frame]]:
    """Frames of a successful episode whose remaining way is in the picture and long enough to have a shape."""
    if not episode.success or not is_primary(episode, "trace"):
        return
    for number, frame in enumerate(episode.frames):
        if frame.trace is not None and has_shape(episode, frame.trace.array):
            yield number, frame


def has_shape(episode: Episode, path: NDArray[np.float64]) -> bool:
    """Whether a path (N, 2) is in the picture and long enough to have a shape."""
    length = float(np.linalg.norm(np.diff(path, axis=0), axis=1).sum())
    return length >= MIN_WAY * scale(episode) and is_inside(episode, path.tolist())


def is_primary(episode: Episode, label: str) -> bool:
    """Whether this kind of label is good enough to ask about: `Primary`, or nobody judged it."""
    return episode.quality.get(label, "Primary") == "Primary"


def is_inside(episode: Episode, points: Iterable[Point]) -> bool:
    """Whether all points are in the picture."""
    width, height = episode.image_size
    return all(0 <= x <= width and 0 <= y <= height for x, y in points)


def is_large(episode: Episode, box: Box) -> bool:
    """Whether both sides of a box are long enough for it to be hit."""
    return min(box.x2 - box.x1, box.y2 - box.y1) >= MIN_SIDE * scale(episode)


def scale(episode: Episode) -> float:
    """How much wider the pictures are than 196 pixels, for which lengths are given here."""
    return episode.image_size.width / 196
