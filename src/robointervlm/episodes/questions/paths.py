"""Questions for places and ways: where the fingers will touch, along which points or which way the gripper will go."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
from numpy.random import Generator

from robointervlm.episodes.episode import Episode, Frame
from robointervlm.episodes.questions.asking import (
    LETTERS,
    Asked,
    Balance,
    about,
    before_contact,
    is_inside,
    is_primary,
    listed,
    pick,
    points_answer,
    scale,
    whole,
    with_way,
)

# Pixels at 196 pixels of width: where the gripper has to have gone for its direction to be asked for.
MIN_MOVE = 12.0
# Of a move's two components one has to be this much longer for it to have one direction.
CLEAR_DIRECTION = 1.5
DIRECTIONS = ("left", "right", "up", "down")


def contact_point(episode: Episode, rng: Generator) -> Iterator[Asked]:
    points = episode.contact_points
    if points is None or not is_inside(episode, points.points) or not is_primary(episode, "contact_point"):
        return
    answer = points_answer("contact_point", episode, points.points)
    for number in before_contact(episode):
        yield Asked(number, about(episode, "contact_point", rng), answer)


def traj(episode: Episode, rng: Generator) -> Iterator[Asked]:
    for number, frame in with_way(episode):
        if frame.tool_point is None or frame.trace is None:
            continue
        start = json.dumps(whole(episode, [frame.tool_point])[0])
        question = f"Task: {episode.instruction}. The gripper is now at {start}. {pick('traj', rng)}"
        yield Asked(number, question, points_answer("future_traj", episode, frame.trace.points))


def traj_wo_init_pos(episode: Episode, rng: Generator) -> Iterator[Asked]:
    for number, frame in with_way(episode):
        assert frame.trace is not None  # it has a way
        answer = points_answer("future_traj", episode, frame.trace.points)
        yield Asked(number, about(episode, "traj_wo_init_pos", rng), answer)


def traj_direction_words(episode: Episode, rng: Generator) -> Iterator[Asked]:
    """The direction by its word. The task is not told, since it says more often than not which way a push goes."""
    letters: list[str] = []
    for number, frame in with_way(episode):
        direction = next_direction(episode, frame)
        if direction is None:
            continue
        # Letters come in shuffled fours, so that each is right equally often.
        letters = letters or [LETTERS[i] for i in rng.permutation(4)]
        letter = letters.pop()
        options = [other for other in DIRECTIONS if other != direction]
        options = [options[i] for i in rng.permutation(3)]
        options.insert(LETTERS.index(letter), direction)
        question = f"{pick('traj_direction_words', rng)} {listed(options, separator=' ')}"
        # Every lift, carry and retreat goes up: what is left over of one direction is left out in the end.
        yield Asked(number, question, letter, balance=Balance("", direction, len(DIRECTIONS)))


def first_move(episode: Episode, frame: Frame) -> tuple[float, float] | None:
    """How many pixels right and down the gripper goes next, until it is clearly elsewhere; None if it stays."""
    if frame.trace is None:
        return None
    path = frame.trace.array
    moves = path - path[0]
    far = np.flatnonzero(np.hypot(moves[:, 0], moves[:, 1]) >= MIN_MOVE * scale(episode))
    if not len(far):
        return None
    across, down = moves[far[0]].tolist()
    return across, down


def next_direction(episode: Episode, frame: Frame) -> str | None:
    """Where the gripper goes next as the picture shows it: left, right, up or down; None if between two of them."""
    move = first_move(episode, frame)
    if move is None:
        return None
    across, down = move
    if abs(across) >= CLEAR_DIRECTION * abs(down):
        return "right" if across > 0 else "left"
    if abs(down) >= CLEAR_DIRECTION * abs(across):
        return "down" if down > 0 else "up"
    return None
