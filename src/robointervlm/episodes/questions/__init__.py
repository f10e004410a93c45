"""Episodes as records in the form RoboInter-VQA is published in.

One file per family of questions; `ASKERS` names all tasks. The wordings are ours, not the published ones. A question is
asked only where its answer can be seen or foreseen, and where the episode knows it: what a recording does not say is
not asked about. To ask something new, add a function to `ASKERS`, at its end.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from robointervlm.core.coordinates import ImageSize, smart_resize
from robointervlm.episodes.episode import Episode
from robointervlm.episodes.questions import boxes, language, paths, planning, understanding
from robointervlm.episodes.questions.asking import Asked, Asker, Balance, Draw

__all__ = ["ASKERS", "Asked", "Balance", "Questions", "Record", "questions_about"]

Record = dict[str, Any]

# The place of a task in this table is part of its random numbers.
ASKERS: dict[str, Asker] = {
    "current_box": boxes.current_box,
    "final_box": boxes.final_box,
    "contact_box": boxes.contact_box,
    "gripper_det": boxes.gripper_det,
    "contact_point": paths.contact_point,
    "traj": paths.traj,
    "traj_wo_init_pos": paths.traj_wo_init_pos,
    "traj_direction_words": paths.traj_direction_words,
    "contact_decide": understanding.contact_decide,
    "grounding": boxes.grounding,
    "naming": boxes.naming,
    "grounding_choice": understanding.grounding_choice,
    "grasppose_choice": understanding.grasppose_choice,
    "traj_choice": understanding.traj_choice,
    "traj_direction_choice": understanding.traj_direction_choice,
    "traj_direction_choice_with_traj": understanding.traj_direction_choice_with_traj,
    "trajlang_choice": language.trajlang_choice,
    "trajlang_sub_choice": language.trajlang_sub_choice,
    "planning": planning.plans,
    "planning_choice": planning.choices,
    "planning_decide": planning.decisions,
}


@dataclass(frozen=True)
class Questions:
    """What is asked about one episode, and the pictures that have to be made for it, by their paths.

    ``records`` and ``balances`` go by task and have equal lengths. ``drawings`` are made of a frame, given by its place
    in `Episode.frames`; ``moments`` are time steps of the episode.
    """

    records: dict[str, list[Record]] = field(default_factory=dict)
    balances: dict[str, list[Balance | None]] = field(default_factory=dict)
    drawings: dict[str, tuple[int, Draw]] = field(default_factory=dict)
    moments: dict[str, int] = field(default_factory=dict)


def questions_about(
    episode: Episode, pictures: Sequence[str], *, split: str = "train", tasks: Sequence[str] = tuple(ASKERS)
) -> Questions:
    """All questions about an episode; ``pictures`` are the frames' paths relative to the data root.

    The same episode always gives the same records: wordings, letters and the choice of frames come from its seed, and a
    task's do not depend on which others are asked.
    """
    made = Questions()
    for place, (task, ask) in enumerate(ASKERS.items()):
        if task not in tasks:
            continue
        rng = np.random.default_rng([episode.seed, episode.number, 1 + place])
        all_asked = list(ask(episode, rng))
        made.balances[task] = [asked.balance for asked in all_asked]
        made.records[task] = []
        for turn, asked in enumerate(all_asked):
            images: str | list[str] = pictures[asked.frame]
            if asked.drawing is not None:
                name = _opaque(f"{episode.id} {task} {asked.frame} {asked.mark}")
                images = f"Understanding/image/{split}/{episode.source}/{task}/{name}.png"
                made.drawings[images] = (asked.frame, asked.drawing.draw)
            elif asked.clip:
                folder = f"Task_planning/image/{split}/{episode.source}/{episode.id}"
                images = [f"{folder}/{_opaque(f'{episode.id} {moment}')}.png" for moment in asked.clip]
                made.moments.update(zip(images, asked.clip, strict=True))
            made.records[task].append(_record(episode, task, asked, turn, images))
    return made


def _opaque(text: str) -> str:
    """A file name that tells neither the answer nor when its picture was taken."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _record(episode: Episode, task: str, asked: Asked, turn: int, images: str | list[str]) -> Record:
    size = asked.drawing.size if asked.drawing is not None else episode.image_size
    new_width, new_height = smart_resize(ImageSize(*size))
    count = 1 if isinstance(images, str) else len(images)
    about = (asked.thing or asked.mark).replace(" ", "_")
    name = f"{episode.id}_f{episode.frames[asked.frame].index:03d}_{task}" + (f"_{about}" if about else "")
    return {
        "id": f"{episode.id}_{turn:02d}_{asked.mark}" if asked.clip else name,
        "task": task,
        "episode": episode.id,
        **({"skill": episode.skill} if episode.skill else {}),
        "conversations": [
            {"from": "human", "value": f"{'<image>' * count}\n{asked.question}"},
            {"from": "gpt", "value": asked.answer},
        ],
        "images": images,
        "gt": asked.answer,
        "h": size.height,
        "w": size.width,
        "new_h": new_height,
        "new_w": new_width,
        **({"thing": asked.thing} if asked.thing else {}),
        **({"kind": asked.mark} if asked.clip else {}),
    }
