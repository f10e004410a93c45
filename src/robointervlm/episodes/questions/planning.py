"""Questions over eight frames of an episode: plans in words, choices between them, and whether something was done.

The kinds have the names of the published data. The eight frames are evenly spaced from the episode's first time step to
the moment that is asked about. That moment is drawn after the options, evenly among them: from the words alone each
option, and yes and no, are then equally likely.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.random import Generator

from robointervlm.episodes.episode import Episode, Segment
from robointervlm.episodes.questions.asking import (
    LETTERS,
    Asked,
    Balance,
    is_primary,
    letter,
    listed,
    pick,
    sample,
)
from robointervlm.episodes.questions.language import by_colour

FRAMES = 8
# Of one kind of choice, of one episode.
QUESTIONS = 3
Kind = Callable[[Episode, Generator], Iterator[Asked]]


def clip(end: int) -> tuple[int, ...]:
    """Eight different time steps from 0 to ``end``, evenly spaced; ``end`` is 7 or more."""
    return tuple(np.linspace(0, end, FRAMES).round().astype(int).tolist())


def is_long_enough(segment: Segment) -> bool:
    """Whether eight different frames can be shown until the segment's end."""
    return segment.last >= FRAMES - 1


def _asked(kind: str, end: int, question: str, answer: str, balance: Balance | None = None) -> Asked:
    return Asked(0, question, answer, mark=kind, clip=clip(end), balance=balance)


def plans(episode: Episode, rng: Generator) -> Iterator[Asked]:
    """Plans in words: what comes next, what remains, what was done; one question of each kind."""
    steps = episode.segments
    moments = [place for place in range(len(steps) - 1) if is_long_enough(steps[place])]
    if not moments or not _is_told(episode):
        return
    for kind in (
        "Planning_Task", "Planning_with_Context_Task", "Planning_Remaining_Steps_Task",
        "Past_Description_Task", "Generative_Affordance_Task", "Future_Prediction_Task",
    ):  # fmt: skip
        now = moments[rng.integers(len(moments))]
        done = ", ".join(step.subtask for step in steps[: now + 1])
        end = steps[now].last
        match kind:
            case "Planning_Remaining_Steps_Task":
                answer = ", ".join(step.subtask for step in steps[now + 1 :])
            case "Past_Description_Task":
                answer = steps[now].subtask
            case "Future_Prediction_Task":  # while the step is being done
                end = max(FRAMES - 1, (steps[now].first + 2 * steps[now].last) // 3)
                answer = steps[now + 1].subtask
            case _:
                answer = steps[now + 1].subtask
        yield _asked(kind, end, pick(kind, rng).format(goal=_goal(episode), done=done), answer)


def _is_told(episode: Episode) -> bool:
    """Whether the episode went as its subtasks say, and they are good enough."""
    return bool(episode.success) and is_primary(episode, "subtask")


def _goal(episode: Episode) -> str:
    return episode.instruction[:1].lower() + episode.instruction[1:]


def choices(episode: Episode, rng: Generator) -> Iterator[Asked]:
    """Choices over primitives, steps, scenes and orders."""
    for kind, ask in CHOICES.items():
        if _is_told(episode) or kind in ("Scene_Understanding", "Temporal_Understanding"):
            for turn in range(QUESTIONS):
                yield from ask(episode, kind, turn, rng)


def _choice(  # noqa: PLR0913, PLR0917 - one each
    episode: Episode, kind: str, turn: int, options: Sequence[str], right: int, frames: tuple[int, ...], rng: Generator
) -> Asked:
    """A question whose right answer is the option of number ``right``; the options are put in another order."""
    at = letter(episode, kind, turn)
    others = [option for number, option in enumerate(options) if number != right]
    ordered = sample(others, len(others), rng)
    ordered.insert(LETTERS.index(at), options[right])
    question = pick(kind, rng).format(goal=_goal(episode))
    return Asked(0, f"{question}\n{listed(ordered)}", at, mark=kind, clip=frames)


def _past_primitive(episode: Episode, kind: str, turn: int, rng: Generator) -> Iterator[Asked]:
    """Four primitives of the episode, any of which may have been the last one."""
    steps = [step for step in _one_of_each_primitive(episode.segments) if is_long_enough(step)]
    yield from _of_the_same_episode(episode, kind, turn, [(step.primitive, step.last) for step in steps], rng)


def _future_primitive(episode: Episode, kind: str, turn: int, rng: Generator) -> Iterator[Asked]:
    steps = _one_of_each_primitive(episode.segments)
    yield from _of_the_same_episode(episode, kind, turn, [(a.primitive, b.last) for b, a in _followed(steps)], rng)


def _future_step(episode: Episode, kind: str, turn: int, rng: Generator) -> Iterator[Asked]:
    steps = episode.segments
    yield from _of_the_same_episode(episode, kind, turn, [(a.subtask, b.last) for b, a in _followed(steps)], rng)


def _one_of_each_primitive(segments: Sequence[Segment]) -> list[Segment]:
    """The segments whose primitive no other one has, so that its name says when."""
    names = [segment.primitive for segment in segments]
    return [segment for segment in segments if names.count(segment.primitive) == 1]


def _followed(steps: Sequence[Segment]) -> list[tuple[Segment, Segment]]:
    """Neighbouring steps, of which the first can be shown and is over when the second begins."""
    return [(a, b) for a, b in zip(steps, steps[1:], strict=False) if is_long_enough(a) and a.last + 1 == b.first]


def _of_the_same_episode(
    episode: Episode, kind: str, turn: int, moments: list[tuple[str, int]], rng: Generator
) -> Iterator[Asked]:
    """Four options that are each right at their own moment; first they are drawn, then which one it is."""
    if len({name for name, _ in moments}) < max(4, len(moments)):
        return
    four = sample(moments, 4, rng)
    right = int(rng.integers(4))
    yield _choice(episode, kind, turn, [name for name, _ in four], right, clip(four[right][1]), rng)


def _past_step(episode: Episode, kind: str, turn: int, rng: Generator) -> Iterator[Asked]:
    """Two steps of the episode, each with its thing and with another one."""
    target = episode.target
    others = [name for name in episode.movable if name != target]
    steps = [step for step in episode.segments if target and target in step.subtask and is_long_enough(step)]
    if target is None or len(steps) < 2 or not others:
        return
    pair = sample(steps, 2, rng)
    other = others[rng.integers(len(others))]
    options = [step.subtask for step in pair] + [step.subtask.replace(target, other) for step in pair]
    right = int(rng.integers(2))
    options = [by_colour(episode, option) for option in options]
    yield _choice(episode, kind, turn, options, right, clip(pair[right].last), rng)


def _scene(episode: Episode, kind: str, turn: int, rng: Generator) -> Iterator[Asked]:
    """What stands on the table, with one, the other or both of two things exchanged for some that do not.

    Those have the shape of what they stand for, and colours that are not there either.
    """
    if len(episode.movable) < 2 or episode.steps < FRAMES:
        return
    first, second = sample(episode.movable, 2, rng)
    colours = sample(sorted({name.rpartition(" ")[0] for name in episode.absent}), 2, rng)
    if len(colours) < 2:
        return
    names = sample([*episode.frames[0].things], len(episode.frames[0].things), rng)
    swaps = {name: f"{colour} {name.rpartition(' ')[2]}" for name, colour in zip((first, second), colours, strict=True)}
    options = []
    for swapped in ((), (first,), (second,), (first, second)):
        options.append(", ".join(swaps[name] if name in swapped else name for name in names))
    end = int(rng.integers(FRAMES - 1, episode.steps))
    yield _choice(episode, kind, turn, options, 0, clip(end), rng)


def _order(episode: Episode, kind: str, turn: int, rng: Generator) -> Iterator[Asked]:
    """The order of eight mixed frames: two pairs of them, each far apart in time, are exchanged, or one, or none.

    The exchanges are their own inverses, so that the four orders look alike whichever of them is right.
    """
    if episode.steps < 2 * FRAMES:
        return
    shown = rng.permutation(FRAMES)  # the picture at this place is of this moment
    place_of = np.argsort(shown)
    # Moments of one pair are four apart, half of the episode.
    one, other = sample(range(FRAMES // 2), 2, rng)
    options = []
    for swaps in ((), (one,), (other,), (one, other)):
        order = place_of.copy()
        for moment in swaps:
            order[[moment, moment + FRAMES // 2]] = order[[moment + FRAMES // 2, moment]]
        options.append(", ".join(str(place + 1) for place in order))
    moments = clip(episode.steps - 1)
    yield _choice(episode, kind, turn, options, 0, tuple(moments[moment] for moment in shown), rng)


CHOICES: dict[str, Callable[[Episode, str, int, Generator], Iterator[Asked]]] = {
    "Scene_Understanding": _scene,
    "Temporal_Understanding": _order,
    "Past_Multi_task_Selection": _past_step,
    "Past_Primitive_Selection": _past_primitive,
    "Future_Multi_task_Selection": _future_step,
    "Future_Primitive_Selection": _future_primitive,
}


def decisions(episode: Episode, rng: Generator) -> Iterator[Asked]:
    """Whether a step, or the whole task, was done; whether a step is possible."""
    if not is_primary(episode, "subtask"):
        return
    # The whole task after the whole episode. More succeed than fail; what is left over is left out in the end.
    if episode.success is not None and episode.steps >= FRAMES:
        group = episode.skill or "task"
        yield _decided("Success", _goal(episode), episode.steps - 1, yes=episode.success, group=group, rng=rng)
    if episode.success:
        for _ in range(QUESTIONS):
            yield from _step_done(episode, rng)
            yield from _step_possible(episode, rng)


def _step_done(episode: Episode, rng: Generator) -> Iterator[Asked]:
    """A step when it is over, or just before it begins."""
    pairs = _followed(episode.segments)
    if not pairs:
        return
    before, step = pairs[rng.integers(len(pairs))]
    done = bool(rng.integers(2))
    end = (step if done else before).last
    yield _decided("Success", step.subtask, end, yes=done, group=step.primitive, rng=rng)


# What needs a held thing. Before the fingers close it is impossible, and right after the step before it is possible.
_HOLDING = ("lift", "move", "place", "release")


def _step_possible(episode: Episode, rng: Generator) -> Iterator[Asked]:
    """A grasp before it, or when the thing is held; what needs a held thing right before it, or before the grasp."""
    pairs = _followed(episode.segments)
    grasp = next((before for before, step in pairs if step.primitive == "grasp"), None)
    usable = [pair for pair in pairs if pair[1].primitive in ("grasp", *_HOLDING)]
    held = [step for _, step in pairs if step.primitive in ("lift", "move")]
    if grasp is None or not usable or not held:
        return
    before, step = usable[rng.integers(len(usable))]
    possible = bool(rng.integers(2))
    impossible = held[rng.integers(len(held))] if step.primitive == "grasp" else grasp
    end = (before if possible else impossible).last
    kind = "Discriminative_Affordance"
    yield _decided(kind, step.subtask, end, yes=possible, group=step.primitive, rng=rng)


def _decided(  # noqa: PLR0913 - one each
    kind: str,
    step: str,
    end: int,
    *,
    yes: bool,
    group: str,
    rng: Generator,
) -> Asked:
    name = f"{kind}_{'Positive' if yes else 'Negative'}_Task"
    answer = "Yes" if yes else "No"
    return _asked(name, end, pick(kind, rng).format(step=step), answer, Balance(f"{kind} {group}", answer, 2))
