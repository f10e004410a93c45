"""Questions about pictures in which candidates are drawn: boxes, grasps, ways and directions; and contact.

Distractors come from the same scene and have the same shape and size. The answer's letter is drawn before anything
else, and no option has words that could tell it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from robointervlm.core.answer import Box
from robointervlm.core.coordinates import Point
from robointervlm.episodes.episode import Episode, Frame
from robointervlm.episodes.questions import drawing
from robointervlm.episodes.questions.asking import (
    Asked,
    Balance,
    Drawing,
    about,
    before_contact,
    has_shape,
    is_inside,
    is_large,
    is_primary,
    letter,
    lettered,
    listed,
    pick,
    sample,
    scale,
    whole,
    with_way,
)
from robointervlm.episodes.questions.boxes import VISIBLE_THING, seen, shown
from robointervlm.episodes.questions.paths import DIRECTIONS, first_move, next_direction

Array = NDArray[np.float64]

# Of one task, of one episode: each costs a picture.
QUESTIONS = 2
# Two boxes that overlap more than this are not two candidates.
MAX_OVERLAP = 0.4
# Pixels at 196 pixels of width.
MIN_APART = 12.0
MIN_FORK = 9.0
ARROW_BEGIN, ARROW_END = 5.0, 27.0


def contact_decide(episode: Episode, rng: Generator) -> Iterator[Asked]:
    """All touching frames and as many others; moments just before and after contact are left out as undecidable."""
    if not is_primary(episode, "contact"):
        return
    begin, end = episode.contact_index, episode.release_index
    touching = [number for number, frame in enumerate(episode.frames) if frame.touching]
    free = [
        number
        for number, frame in enumerate(episode.frames)
        if frame.touching is False
        and not (begin is not None and begin - 2 <= frame.index < begin or frame.index == end)
    ]
    kept = rng.permutation(free)[: max(1, len(touching))].tolist()
    for number in sorted(touching + kept):
        answer = "Yes" if episode.frames[number].touching else "No"
        yield Asked(number, pick("contact_decide", rng), answer, balance=Balance("", answer, 2))


def grounding_choice(episode: Episode, rng: Generator) -> Iterator[Asked]:
    """Four pictures with one purple box each: around the object to move, and around other things that are seen."""
    if not is_primary(episode, "object_box"):
        return
    boxes: dict[int, list[Box]] = {}
    for number, name, box in seen(episode):
        if name != episode.target:
            boxes.setdefault(number, []).append(box)
    turn = 0
    for number in sample(range(len(episode.frames)), len(episode.frames), rng):
        right = shown(episode, episode.frames[number].things.get(episode.target or ""), VISIBLE_THING)
        if right is None or turn == QUESTIONS:
            continue
        others = _other_boxes(episode, right, sample(boxes.get(number, []), 99, rng), rng)
        if len(others) == 3:
            yield _four(episode, "grounding_choice", turn, number, [*map(drawing.box_sketch, [right, *others])], rng)
            turn += 1


def _other_boxes(episode: Episode, right: Box, others: list[Box], rng: Generator) -> list[Box]:
    """Three boxes apart from the right one and from each other: of other things, else of such sizes anywhere."""
    width, height = episode.image_size
    sizes = [(box.x2 - box.x1, box.y2 - box.y1) for box in [right, *others]]
    for _ in range(60):
        w, h = sizes[rng.integers(len(sizes))]
        x, y = rng.uniform(0, max(width - w, 1)), rng.uniform(0, max(height - h, 1))
        others.append(Box(x, y, x + w, y + h))
    kept: list[Box] = []
    for box in others:
        if (
            len(kept) < 3
            and is_large(episode, box)
            and all(_iou(box, other) <= MAX_OVERLAP for other in [right, *kept])
        ):
            kept.append(box)
    return kept


def _iou(a: Box, b: Box) -> float:
    both = Box(max(a.x1, b.x1), max(a.y1, b.y1), min(a.x2, b.x2), min(a.y2, b.y2)).area
    return both / (a.area + b.area - both)


def grasppose_choice(episode: Episode, rng: Generator) -> Iterator[Asked]:
    """Four pictures with one orange fork each: the grasp that will be, and such as miss, collide or take another thing.

    A push, whose fingers are closed, is no grasp, and a fork seen from its side is none that can be judged.
    """
    if episode.contact_points is None or episode.palm_point is None or not is_primary(episode, "contact_point"):
        return
    left, right = episode.contact_points.points
    fork = np.array([left, right, episode.palm_point])
    # How far the tips are apart at a right angle to the handle, pixels; a fork seen from its side has none.
    along = fork[2] - fork[:2].mean(axis=0)
    across = np.array([-along[1], along[0]]) / max(float(np.linalg.norm(along)), 1e-9)
    breadth = float(abs((fork[1] - fork[0]) @ across))
    if breadth < MIN_FORK * scale(episode) or not is_inside(episode, fork.tolist()):
        return
    turn = 0
    for number in sample(before_contact(episode), QUESTIONS, rng):
        wrong = [fork + shift for shift in _grasp_shifts(episode, episode.frames[number], fork, rng)]
        wrong = _apart(episode, [fork], wrong)
        if len(wrong) == 3:
            sketches = [drawing.fork_sketch(points.tolist()) for points in (fork, *wrong)]
            yield _four(episode, "grasppose_choice", turn, number, sketches, rng)
            turn += 1


def _grasp_shifts(episode: Episode, frame: Frame, fork: Array, rng: Generator) -> list[Array]:
    """Where else a gripper might close: on other things, into the side of the right one, on the air above it."""
    opening, reach = fork[1] - fork[0], fork[2] - fork[:2].mean(axis=0)
    shifts = [side * rng.uniform(0.75, 1.1) * opening for side in (-1, 1)]
    shifts += [*_to_others(episode, frame), rng.uniform(0.7, 1.0) * reach]
    return sample(shifts, len(shifts), rng)


def _to_others(episode: Episode, frame: Frame) -> list[Array]:
    """From the middle of the target to the middles of the other movable things, as pixels."""
    middles: dict[str, Array] = {}
    for name in episode.movable:
        view = frame.things.get(name)
        box = None if view is None else view.amodal_box or view.box
        if box is not None:
            middles[name] = np.array(box.corners).mean(axis=0)
    here = middles.get(episode.target or "")
    if here is None:
        return []
    return [middle - here for name, middle in middles.items() if name != episode.target]


def traj_choice(episode: Episode, rng: Generator) -> Iterator[Asked]:
    """Four pictures with one way each, from where the gripper is: the one it takes, and such as lead elsewhere."""
    turn = 0
    for number, frame in sample([*with_way(episode)], len(episode.frames), rng):
        if turn == QUESTIONS or frame.trace is None:
            return
        wrong = _apart(episode, [frame.trace.array], _other_ways(episode, frame, frame.trace.array, rng))
        if len(wrong) == 3:
            sketches = [drawing.path_sketch(path.tolist()) for path in (frame.trace.array, *wrong)]
            yield _four(episode, "traj_choice", turn, number, sketches, rng)
            turn += 1


def _other_ways(episode: Episode, frame: Frame, path: Array, rng: Generator) -> list[Array]:
    """Ways of the same shape to other things, or to other places, from the start on or from the contact on."""
    knee = 1.0  # at which share of its points the way comes to the contact; 1 where there is none to come
    if episode.contact_points is not None and episode.contact_index is not None and frame.index < episode.contact_index:
        touch = episode.contact_points.array.mean(axis=0)
        nearest = int(np.argmin(np.hypot(*(path - touch).T)))
        knee = max(nearest, 1) / (len(path) - 1)
    ways = [bent(path, shift, 0.0, knee) for shift in _to_others(episode, frame)]
    for _ in range(40):
        angle, far = rng.uniform(-np.pi, np.pi), rng.uniform(0.15, 0.35) * episode.image_size.width
        shift = far * np.array([np.cos(angle), np.sin(angle)])
        late = rng.random() < 0.5 and knee < 0.8
        ways.append(bent(path, shift, knee, 1.0) if late else bent(path, shift, 0.0, knee))
    ways = [way for way in ways if has_shape(episode, way)]
    # Ways to other things first, but not always, and not all of them.
    return sample(ways[:3], 2, rng) + sample(ways, len(ways), rng)


def bent(path: Array, shift: Array, begin: float, end: float) -> Array:
    """A way (N, 2) that departs from ``path`` from the share ``begin`` on and is wholly shifted from ``end`` on."""
    shares = np.linspace(0, 1, len(path))
    return path + np.clip((shares - begin) / max(end - begin, 1e-9), 0, 1)[:, None] * shift


def _apart(episode: Episode, kept: list[Array], candidates: Sequence[Array]) -> list[Array]:
    """The first three candidates that are in the picture and clearly elsewhere than ``kept`` and than each other."""
    least = MIN_APART * scale(episode)
    found: list[Array] = []
    for points in candidates:
        far = all(np.hypot(*(points - other).T).mean() >= 0.8 * least for other in [*kept, *found])
        ends = all(np.hypot(*(points - other).T).max() >= least for other in [*kept, *found])
        if len(found) < 3 and far and ends and is_inside(episode, points.tolist()):
            found.append(points)
    return found


def _four(  # noqa: PLR0913, PLR0917 - one each
    episode: Episode, task: str, turn: int, frame: int, sketches: list[drawing.Sketch], rng: Generator
) -> Asked:
    """A question with a picture of four, the first sketch of which is the right one."""
    at = letter(episode, task, turn)
    ordered = lettered(sketches[0], sketches[1:], at, rng)
    made = Drawing(lambda picture: drawing.four(picture, ordered), drawing.four_size(episode.image_size))
    return Asked(frame, f"{about(episode, task, rng)} Answer with A, B, C or D.", at, drawing=made)


def traj_direction_choice(episode: Episode, rng: Generator) -> Iterator[Asked]:
    """Four coloured arrows around the gripper, at right angles; one points where it will go."""
    yield from _directions(episode, "traj_direction_choice", rng)


def traj_direction_choice_with_traj(episode: Episode, rng: Generator) -> Iterator[Asked]:
    """The same with the way told in numbers, so that the picture only has to say where its arrows point."""
    yield from _directions(episode, "traj_direction_choice_with_traj", rng)


def _directions(episode: Episode, task: str, rng: Generator) -> Iterator[Asked]:
    turn = 0
    for number, frame in sample([*with_way(episode)], len(episode.frames), rng):
        move, direction = first_move(episode, frame), next_direction(episode, frame)
        if turn == QUESTIONS or move is None or direction is None or frame.tool_point is None or frame.trace is None:
            continue
        colours = sample(list(drawing.ARROWS), 4, rng)
        ends = _arrow_ends(episode, frame.tool_point, move)
        if not is_inside(episode, [end for _, end in ends]):
            continue
        at = letter(episode, task, turn)
        options = lettered(colours[0], colours[1:], at, rng)
        points = json.dumps(whole(episode, frame.trace.points))
        question = pick(task, rng).format(points=points)
        arrows = [(begin, end, colour) for (begin, end), colour in zip(ends, colours, strict=True)]
        sketch = drawing.arrows_sketch(sample(arrows, 4, rng))
        made = Drawing(lambda picture, sketch=sketch: drawing.drawn(picture, sketch), episode.image_size)  # type: ignore[misc]
        balance = Balance("", direction, len(DIRECTIONS))
        yield Asked(number, f"{question} {listed(options, separator=' ')}", at, drawing=made, balance=balance)
        turn += 1


def _arrow_ends(episode: Episode, origin: Point, move: tuple[float, float]) -> list[tuple[Point, Point]]:
    """Begin and end of four arrows around a point, the first one in the direction of the move."""
    angle = np.arctan2(move[1], move[0])
    ends = []
    for turn in range(4):
        along = np.array([np.cos(angle + turn * np.pi / 2), np.sin(angle + turn * np.pi / 2)]) * scale(episode)
        (x1, y1), (x2, y2) = ((np.array(origin) + far * along).tolist() for far in (ARROW_BEGIN, ARROW_END))
        ends.append(((x1, y1), (x2, y2)))
    return ends
