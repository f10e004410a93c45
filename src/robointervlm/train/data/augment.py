"""Random crop-and-zoom and brightness, with every coordinate moved along.

A crop keeps the picture's size and aspect: a window of it is scaled back to the whole. Questions with a place that the
window cuts off are left out of that window's conversation; a window that leaves none is drawn again, and after a few
tries the picture stays whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from PIL import Image

from robointervlm.core.answer import Move
from robointervlm.core.coordinates import Point
from robointervlm.core.prompt import Picture
from robointervlm.core.sample import IMAGE_MARKER, Place, Turn
from robointervlm.train.recipe import AugmentSection

# How often a window is drawn before the picture is left whole.
TRIES = 8
# How far, as a share of the window, a place may lie outside before the window counts as cutting it off.
MARGIN = 0.02


def augmented(
    picture: Picture, turns: tuple[Turn, ...], settings: AugmentSection, random: np.random.Generator
) -> tuple[Picture, tuple[Turn, ...]]:
    """The picture and its conversation after a random window and brightness; shapes and sizes stay as they are."""
    varied, [kept] = augmented_together(picture, [turns], settings, random)
    return varied, kept


def augmented_together(
    picture: Picture,
    conversations: Sequence[tuple[Turn, ...]],
    settings: AugmentSection,
    random: np.random.Generator,
) -> tuple[Picture, list[tuple[Turn, ...]]]:
    """The picture after one window and brightness for all conversations about it, and these moved along.

    Of several conversations none loses a question: a window that cuts off a place of any of them is drawn again.
    """
    if settings.brightness:
        amount = settings.brightness
        gain, shift = 1 + random.uniform(-amount, amount), 255 * random.uniform(-amount, amount) / 2
        picture = np.clip(np.arange(256) * gain + shift, 0, 255).astype(np.uint8)[picture]
    # Where nothing is located the whole picture is the evidence, and a window might remove it.
    located = all(any(True for turn in turns for _ in _places(turn)) for turns in conversations)
    if settings.crop_min >= 1 or not located:
        return picture, list(conversations)
    height, width = picture.shape[:2]
    for _ in range(TRIES):
        share = random.uniform(settings.crop_min, 1)
        left = random.uniform(0, (1 - share) * width)
        top = random.uniform(0, (1 - share) * height)

        def move(point: Point, left: float = left, top: float = top, share: float = share) -> Point:
            return (point[0] - left) / share, (point[1] - top) / share

        kept = [
            tuple(turn for turn in moved_turns(turns, move) if _inside(turn, width, height)) for turns in conversations
        ]
        if _enough(kept, conversations):
            box = (left, top, left + share * width, top + share * height)
            zoomed = Image.fromarray(picture).resize((width, height), Image.Resampling.BILINEAR, box=box)
            return np.asarray(zoomed), [_with_marker(turns) for turns in kept]
    return picture, list(conversations)


def _enough(kept: Sequence[tuple[Turn, ...]], conversations: Sequence[tuple[Turn, ...]]) -> bool:
    if len(kept) == 1:
        return bool(kept[0])
    return all(len(left) == len(whole) for left, whole in zip(kept, conversations, strict=True))


def moved_turns(turns: tuple[Turn, ...], move: Move) -> tuple[Turn, ...]:
    """A conversation with all its places moved, those in its questions too."""
    moved = []
    for turn in turns:
        question = tuple(
            replace(part, points=tuple(move(point) for point in part.points)) if isinstance(part, Place) else part
            for part in turn.question
        )
        moved.append(Turn(question, turn.answer.moved(move)))
    return tuple(moved)


def _inside(turn: Turn, width: int, height: int) -> bool:
    return all(
        -MARGIN * width <= x <= (1 + MARGIN) * width and -MARGIN * height <= y <= (1 + MARGIN) * height
        for x, y in _places(turn)
    )


def _with_marker(kept: tuple[Turn, ...]) -> tuple[Turn, ...]:
    """The turns that are left; the picture stands where the conversation begins, whichever question that is now."""
    if any(isinstance(part, str) and IMAGE_MARKER in part for turn in kept for part in turn.question):
        return kept
    first = kept[0]
    return (Turn((f"{IMAGE_MARKER}\n", *first.question), first.answer), *kept[1:])


def _places(turn: Turn) -> Iterator[Point]:
    for part in turn.question:
        if isinstance(part, Place):
            yield from part.points
    yield from turn.answer.places
