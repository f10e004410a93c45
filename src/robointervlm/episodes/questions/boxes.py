"""Questions for boxes: where the object, the gripper, or anything seen is or will be; and naming, the reverse."""

from __future__ import annotations

import json
from collections.abc import Iterator

from numpy.random import Generator

from robointervlm.core.answer import Box
from robointervlm.episodes.episode import Episode, ThingView
from robointervlm.episodes.questions.asking import (
    Asked,
    about,
    before_contact,
    box_answer,
    is_large,
    is_primary,
    pick,
    whole,
)

# A thing has to show at least half of itself, the gripper 40 % (a held thing hides part of it), to be asked for.
VISIBLE_THING = 0.5
VISIBLE_GRIPPER = 0.4
# Share of a future box that has to lie inside the picture.
INSIDE = 0.7


def current_box(episode: Episode, rng: Generator) -> Iterator[Asked]:
    if not is_primary(episode, "object_box"):
        return
    for number, frame in enumerate(episode.frames):
        box = shown(episode, frame.things.get(episode.target or ""), VISIBLE_THING)
        if box is not None:
            yield Asked(number, about(episode, "current_box", rng), box_answer("current_bbox", episode, box))


def final_box(episode: Episode, rng: Generator) -> Iterator[Asked]:
    """Asked until the thing is where it will stay."""
    box = episode.final_box
    if box is None or episode.final_inside_share < INSIDE or not is_primary(episode, "object_box"):
        return
    for number, frame in enumerate(episode.frames):
        if episode.release_index is None or frame.index < episode.release_index:
            yield Asked(number, about(episode, "final_box", rng), box_answer("final_bbox", episode, box))


def contact_box(episode: Episode, rng: Generator) -> Iterator[Asked]:
    """Where the gripper will be when it touches, as the published contact boxes are; asked until then."""
    box = episode.contact_box
    if box is None or episode.contact_inside_share < INSIDE or not is_primary(episode, "gripper_box"):
        return
    for number in before_contact(episode):
        yield Asked(number, about(episode, "contact_box", rng), box_answer("contact_bbox", episode, box))


def gripper_det(episode: Episode, rng: Generator) -> Iterator[Asked]:
    if not is_primary(episode, "gripper_box"):
        return
    for number, frame in enumerate(episode.frames):
        box = shown(episode, frame.gripper, VISIBLE_GRIPPER)
        if box is not None:
            yield Asked(number, pick("gripper_det", rng), box_answer("gripper_det_bbox", episode, box))


def grounding(episode: Episode, rng: Generator) -> Iterator[Asked]:
    """Everything that is seen, asked for by its name, the gripper too."""
    for number, name, box in seen(episode):
        question = pick("grounding", rng).format(name=name)
        yield Asked(number, question, box_answer("bbox_2d", episode, box), name)


def naming(episode: Episode, rng: Generator) -> Iterator[Asked]:
    """The reverse of grounding: what stands in a given box."""
    for number, name, box in seen(episode):
        question = pick("naming", rng).format(box=json.dumps(whole(episode, box.corners)))
        yield Asked(number, question, name, name)


def seen(episode: Episode) -> Iterator[tuple[int, str, Box]]:
    """What each frame, by its place, shows well enough to be asked about: name and box."""
    for number, frame in enumerate(episode.frames):
        for name, view in [*frame.things.items(), ("gripper", frame.gripper)]:
            enough = VISIBLE_GRIPPER if name == "gripper" else VISIBLE_THING
            box = shown(episode, view, enough)
            if box is not None:
                yield number, name, box


def shown(episode: Episode, view: ThingView | None, enough: float) -> Box | None:
    """The box of something of which at least the share ``enough`` is seen, and which is large enough; else None."""
    if view is None or view.box is None or view.visible_share < enough or not is_large(episode, view.box):
        return None
    return view.box
