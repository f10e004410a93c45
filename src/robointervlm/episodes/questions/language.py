"""Questions that tie a drawn way to words: which task, or which step of one, it does.

All options are made of one sentence by putting other names, or the other side, into it, so that from the words alone
each is as likely as the others.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.random import Generator

from robointervlm.core.answer import Trajectory
from robointervlm.episodes.episode import Episode, Segment
from robointervlm.episodes.questions import drawing
from robointervlm.episodes.questions.asking import (
    Asked,
    Drawing,
    before_contact,
    has_shape,
    is_primary,
    letter,
    lettered,
    listed,
    pick,
    sample,
    with_way,
)

# Of one task, of one episode.
QUESTIONS = 4
_SIDES = (" left", " right")


def trajlang_choice(episode: Episode, rng: Generator) -> Iterator[Asked]:
    """Asked before contact, when all of what decides is still to come."""
    ways = dict(with_way(episode))
    frames = [number for number in before_contact(episode) if number in ways]
    for turn, number in enumerate(sample(frames, QUESTIONS, rng)):
        trace = ways[number].trace
        if trace is not None:
            yield from _asked(episode, "trajlang_choice", turn, number, episode.instruction, trace, rng)


def trajlang_sub_choice(episode: Episode, rng: Generator) -> Iterator[Asked]:
    """Asked about the way of one step, drawn on the last frame before it begins, or what is left of it on its first."""
    if not episode.success or not is_primary(episode, "subtask"):
        return
    steps = [(step.subtask, *found) for step in episode.segments if (found := _step_way(episode, step)) is not None]
    for turn, (subtask, number, trace) in enumerate(sample(steps, QUESTIONS, rng)):
        yield from _asked(episode, "trajlang_sub_choice", turn, number, subtask, trace, rng)


def _step_way(episode: Episode, step: Segment) -> tuple[int, Trajectory] | None:
    """The frame, by its place, that a step's way is drawn on, and the way; None if it has no shape or no frame."""
    if step.trace is None:
        return None
    earlier = [number for number, frame in enumerate(episode.frames) if frame.index <= step.first]
    within = [number for number, frame in enumerate(episode.frames) if step.first < frame.index < step.last]
    trace = step.trace
    if not earlier and within and (here := episode.frames[within[0]].tool_point) is not None:
        nearest = int(np.argmin(np.hypot(*(trace.array - here).T)))
        trace = Trajectory((here, *trace.points[nearest + 1 :]))
    elif not earlier:
        return None
    return ((earlier[-1:] or within)[0], trace) if has_shape(episode, trace.array) else None


def _asked(  # noqa: PLR0913, PLR0917 - one each
    episode: Episode, task: str, turn: int, frame: int, sentence: str, trace: Trajectory, rng: Generator
) -> Iterator[Asked]:
    others = other_sentences(episode, sentence, rng)
    if others is None:
        return
    at = letter(episode, task, turn)
    options = listed(by_colour(episode, option) for option in lettered(sentence, others, at, rng))
    sketch = drawing.path_sketch(trace.points)
    made = Drawing(lambda picture: drawing.drawn(picture, sketch), episode.image_size)
    mark = f"{turn}" if task == "trajlang_sub_choice" else ""
    yield Asked(frame, f"{pick(task, rng)}\n{options}", at, mark=mark, drawing=made)


def other_sentences(episode: Episode, sentence: str, rng: Generator) -> list[str] | None:
    """Three sentences about the same scene that are wrong; None if the scene has not as many.

    Where the sentence has a side: another thing, the other side, and both; else three other things.
    """
    target = episode.target
    if target is None or target not in sentence or target not in episode.movable:
        return None
    others = [name for name in sample(episode.movable, len(episode.movable), rng) if name != target]
    mirrored = swapped_side(sentence)
    if mirrored != sentence and others:
        return [mirrored, *(words.replace(target, others[0]) for words in (sentence, mirrored))]
    return [sentence.replace(target, name) for name in others[:3]] if len(others) >= 3 else None


def swapped_side(sentence: str) -> str:
    """The sentence with its side swapped, if it ends with one."""
    for side, other in (_SIDES, _SIDES[::-1]):
        if sentence.endswith(side):
            return sentence.removesuffix(side) + other
    return sentence


def by_colour(episode: Episode, sentence: str) -> str:
    """The sentence with "red object" for "red cube", where one word tells the movable things apart.

    Not every shape is handled equally often, since not all fit everywhere: it would tell which option is right.
    """
    names = [name.split(" ") for name in episode.movable]
    if any(len(name) != 2 for name in names) or len({name[0] for name in names}) < len(names):
        return sentence
    for colour, shape in names:
        sentence = sentence.replace(f"{colour} {shape}", f"{colour} object")
    return sentence
