"""Episodes as records in the form RoboInter-VQA is published in.

The wordings are ours, short and from few words, so that a small model can read them; they are not the published ones.
A question is asked of a frame only where its answer can be seen or foreseen: see `ASKERS` and the thresholds below.
To ask something new, add a function to `ASKERS`.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.random import Generator

from robointervlm.core.answer import Box
from robointervlm.core.coordinates import Point, smart_resize
from robointervlm.episodes.episode import Episode, Frame

Record = dict[str, Any]

# A thing has to show at least half of itself, the gripper 40 % (a held thing hides part of it), to be asked for.
VISIBLE_THING = 0.5
VISIBLE_GRIPPER = 0.4
# Share of a future box that has to lie inside the picture.
INSIDE = 0.7
# Pixels at 196 pixels of width; a shorter way has no shape, and a shorter side cannot be hit.
MIN_WAY = 15.0
MIN_SIDE = 6.0
MIN_MOVE = 12.0
# Of a move's two components one has to be this much longer for it to have one direction.
CLEAR_DIRECTION = 1.5
LETTERS = "ABCD"
DIRECTIONS = ("left", "right", "up", "down")

WORDINGS: dict[str, tuple[str, ...]] = {
    "current_box": ("Where is the object to move now?", "Give the box of the object to move."),
    "final_box": ("Where will the object be at the end?", "Give the box of the object at the end."),
    "contact_box": (
        "Where will the gripper be when it touches the object?",
        "Give the box of the gripper when it touches the object.",
    ),
    "gripper_det": ("Where is the gripper now?", "Give the box of the gripper."),
    "contact_point": (
        "At which two points will the fingers touch the object?",
        "Give the two points where the fingers will touch the object.",
    ),
    "traj": ("Where will the gripper move? Give ten points.", "Give ten points of the way of the gripper."),
    "traj_direction_choice": ("Which way will the gripper move now?", "In which direction will the gripper move now?"),
    "contact_decide": ("Is the gripper in contact with an object now?", "Does the gripper touch an object now?"),
    "grounding": ("Where is the {name}?", "Give the box of the {name}."),
    "naming": ("What is at {box}?", "Name the thing at {box}."),
}
WORDINGS["traj_wo_init_pos"] = WORDINGS["traj"]


@dataclass(frozen=True)
class Asked:
    """A question and its answer about one frame of an episode; the frame by its place in `Episode.frames`.

    `thing` is the name of what is asked about, where a task asks about several in one frame: it is part of the id and a
    field of the record.
    """

    frame: int
    question: str
    answer: str
    thing: str = ""


def records(episode: Episode, pictures: list[str]) -> dict[str, list[Record]]:
    """All records of an episode by task, in frame order; ``pictures`` are the frames' paths relative to the data root.

    The same episode always gives the same records: wordings, letters and the choice of frames come from its seed.
    """
    made: dict[str, list[Record]] = {}
    for place, (task, ask) in enumerate(ASKERS.items()):
        rng = np.random.default_rng([episode.seed, episode.number, 1 + place])
        made[task] = [_record(episode, task, asked, pictures[asked.frame]) for asked in ask(episode, rng)]
    return made


def _record(episode: Episode, task: str, asked: Asked, picture: str) -> Record:
    width, height = episode.image_size
    new_width, new_height = smart_resize(episode.image_size)
    about = f"_{asked.thing.replace(' ', '_')}" if asked.thing else ""
    return {
        "id": f"{episode.id}_f{episode.frames[asked.frame].index:03d}_{task}{about}",
        "task": task,
        "episode": episode.id,
        "skill": episode.skill,
        "conversations": [
            {"from": "human", "value": f"<image>\n{asked.question}"},
            {"from": "gpt", "value": asked.answer},
        ],
        "images": picture,
        "gt": asked.answer,
        "h": height,
        "w": width,
        "new_h": new_height,
        "new_w": new_width,
        **({"thing": asked.thing} if asked.thing else {}),
    }


def _current_box(episode: Episode, rng: Generator) -> Iterator[Asked]:
    for number, frame in enumerate(episode.frames):
        seen = frame.things.get(episode.target or "")
        if seen and seen.box and seen.visible_share >= VISIBLE_THING and _is_large(episode, seen.box):
            yield Asked(number, _about(episode, "current_box", rng), box_answer("current_bbox", episode, seen.box))


def _final_box(episode: Episode, rng: Generator) -> Iterator[Asked]:
    """Asked until the thing is where it will stay."""
    box = episode.final_box
    if box is None or episode.final_inside_share < INSIDE:
        return
    for number, frame in enumerate(episode.frames):
        if episode.release_index is None or frame.index < episode.release_index:
            yield Asked(number, _about(episode, "final_box", rng), box_answer("final_bbox", episode, box))


def _contact_box(episode: Episode, rng: Generator) -> Iterator[Asked]:
    """Where the gripper will be when it touches, as the published contact boxes are; asked until then."""
    box = episode.contact_box
    if box is None or episode.contact_inside_share < INSIDE:
        return
    for number in _before_contact(episode):
        yield Asked(number, _about(episode, "contact_box", rng), box_answer("contact_bbox", episode, box))


def _gripper_det(episode: Episode, rng: Generator) -> Iterator[Asked]:
    for number, frame in enumerate(episode.frames):
        seen = frame.gripper
        if seen and seen.box and seen.visible_share >= VISIBLE_GRIPPER and _is_large(episode, seen.box):
            yield Asked(number, _pick("gripper_det", rng), box_answer("gripper_det_bbox", episode, seen.box))


def _contact_point(episode: Episode, rng: Generator) -> Iterator[Asked]:
    if episode.contact_points is None or not _is_inside(episode, episode.contact_points.points):
        return
    answer = points_answer("contact_point", episode, episode.contact_points.points)
    for number in _before_contact(episode):
        yield Asked(number, _about(episode, "contact_point", rng), answer)


def _traj(episode: Episode, rng: Generator) -> Iterator[Asked]:
    for number, frame in _with_way(episode):
        if frame.tool_point is None or frame.trace is None:
            continue
        start = json.dumps(_whole(episode, [frame.tool_point])[0])
        question = f"Task: {episode.instruction}. The gripper is now at {start}. {_pick('traj', rng)}"
        yield Asked(number, question, points_answer("future_traj", episode, frame.trace.points))


def _traj_wo_init_pos(episode: Episode, rng: Generator) -> Iterator[Asked]:
    for number, frame in _with_way(episode):
        assert frame.trace is not None  # it has a way
        answer = points_answer("future_traj", episode, frame.trace.points)
        yield Asked(number, _about(episode, "traj_wo_init_pos", rng), answer)


def _traj_direction_choice(episode: Episode, rng: Generator) -> Iterator[Asked]:
    letters: list[str] = []
    for number, frame in _with_way(episode):
        direction = next_direction(episode, frame)
        # Every lift, carry and retreat goes up; half of those are left out, so that no direction is the usual one.
        if direction is None or (direction == "up" and rng.random() < 0.5):
            continue
        # Letters come in shuffled fours, so that each is right equally often.
        letters = letters or [LETTERS[i] for i in rng.permutation(4)]
        letter = letters.pop()
        options = [other for other in DIRECTIONS if other != direction]
        options = [options[i] for i in rng.permutation(3)]
        options.insert(LETTERS.index(letter), direction)
        listed = " ".join(f"{name}. {option}" for name, option in zip(LETTERS, options, strict=True))
        yield Asked(number, f"{_about(episode, 'traj_direction_choice', rng)} {listed}", letter)


def _contact_decide(episode: Episode, rng: Generator) -> Iterator[Asked]:
    """All touching frames and as many others; moments just before and after contact are left out as undecidable."""
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
        yield Asked(number, _pick("contact_decide", rng), "Yes" if episode.frames[number].touching else "No")


def _grounding(episode: Episode, rng: Generator) -> Iterator[Asked]:
    """Everything that is seen, asked for by its name, the gripper too."""
    for number, name, box in _seen(episode):
        question = _pick("grounding", rng).format(name=name)
        yield Asked(number, question, box_answer("bbox_2d", episode, box), name)


def _naming(episode: Episode, rng: Generator) -> Iterator[Asked]:
    """The reverse of grounding: what stands in a given box."""
    for number, name, box in _seen(episode):
        question = _pick("naming", rng).format(box=json.dumps(_whole(episode, box.corners)))
        yield Asked(number, question, name, name)


def _seen(episode: Episode) -> Iterator[tuple[int, str, Box]]:
    """What each frame, by its place, shows well enough to be asked about: name and box."""
    for number, frame in enumerate(episode.frames):
        for name, seen in [*frame.things.items(), ("gripper", frame.gripper)]:
            enough = VISIBLE_GRIPPER if name == "gripper" else VISIBLE_THING
            if seen and seen.box and seen.visible_share >= enough and _is_large(episode, seen.box):
                yield number, name, seen.box


ASKERS: dict[str, Callable[[Episode, Generator], Iterator[Asked]]] = {
    "current_box": _current_box,
    "final_box": _final_box,
    "contact_box": _contact_box,
    "gripper_det": _gripper_det,
    "contact_point": _contact_point,
    "traj": _traj,
    "traj_wo_init_pos": _traj_wo_init_pos,
    "traj_direction_choice": _traj_direction_choice,
    "contact_decide": _contact_decide,
    "grounding": _grounding,
    "naming": _naming,
}


def next_direction(episode: Episode, frame: Frame) -> str | None:
    """Where the gripper goes next as the picture shows it: left, right, up or down; None if between two of them."""
    if frame.trace is None:
        return None
    path = frame.trace.array
    moves = path - path[0]
    far = np.flatnonzero(np.hypot(moves[:, 0], moves[:, 1]) >= MIN_MOVE * _scale(episode))
    if not len(far):
        return None
    across, down = moves[far[0]].tolist()
    if abs(across) >= CLEAR_DIRECTION * abs(down):
        return "right" if across > 0 else "left"
    if abs(down) >= CLEAR_DIRECTION * abs(across):
        return "down" if down > 0 else "up"
    return None


def box_answer(key: str, episode: Episode, box: Box) -> str:
    """A box in whole pixels as the published answers write it."""
    return json.dumps({key: _whole(episode, box.corners)})


def points_answer(key: str, episode: Episode, points: Iterable[Point]) -> str:
    """Points in whole pixels as the published answers write them."""
    return json.dumps({key: _whole(episode, points)})


def _whole(episode: Episode, points: Iterable[Point]) -> list[list[int]]:
    width, height = episode.image_size
    return [[min(max(round(x), 0), width), min(max(round(y), 0), height)] for x, y in points]


def _about(episode: Episode, task: str, rng: Generator) -> str:
    return f"Task: {episode.instruction}. {_pick(task, rng)}"


def _pick(task: str, rng: Generator) -> str:
    wordings = WORDINGS[task]
    return wordings[rng.integers(len(wordings))]


def _before_contact(episode: Episode) -> list[int]:
    """Frames before contact, by their place; none if there is no contact."""
    contact = episode.contact_index
    return [] if contact is None else [n for n, frame in enumerate(episode.frames) if frame.index < contact]


def _with_way(episode: Episode) -> Iterator[tuple[int, Frame]]:
    """Frames of a successful episode whose remaining way is in the picture and long enough to have a shape."""
    if not episode.success:
        return
    for number, frame in enumerate(episode.frames):
        if frame.trace is None:
            continue
        path = frame.trace.array
        length = float(np.linalg.norm(np.diff(path, axis=0), axis=1).sum())
        if length >= MIN_WAY * _scale(episode) and _is_inside(episode, frame.trace.points):
            yield number, frame


def _is_inside(episode: Episode, points: Iterable[Point]) -> bool:
    width, height = episode.image_size
    return all(0 <= x <= width and 0 <= y <= height for x, y in points)


def _is_large(episode: Episode, box: Box) -> bool:
    return min(box.x2 - box.x1, box.y2 - box.y1) >= MIN_SIDE * _scale(episode)


def _scale(episode: Episode) -> float:
    return episode.image_size.width / 196
