"""One simulated episode from one number, and pictures of any moment of it."""

from collections.abc import Collection
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from robointervlm.core.coordinates import ImageSize
from robointervlm.core.errors import DataError
from robointervlm.episodes.episode import Episode, Frame, Segment, Skill
from robointervlm.episodes.sim import labels
from robointervlm.episodes.sim.arm import OutOfReachError
from robointervlm.episodes.sim.motion import Motion
from robointervlm.episodes.sim.plans import Failure, draw_failure, draw_plan, push_direction
from robointervlm.episodes.sim.render import render
from robointervlm.episodes.sim.scene import COLOURS, GRASPABLE, Scene, draw_camera, draw_look, draw_things
from robointervlm.episodes.sim.skills import perform
from robointervlm.episodes.sim.stage import Pose, Stage

SKILLS: tuple[Skill, ...] = ("place", "pick", "push")
SKILL_SHARES = (0.5, 0.25, 0.25)
# Scenes that do not fit are drawn again; about one in three fits, so this limit is never met by chance.
ATTEMPTS = 500


@dataclass(frozen=True)
class SimConfig:
    """What every episode of one data set has in common.

    There are three or four objects in a scene, each of another one of the ``colours``; fewer if there are fewer.
    """

    size: ImageSize = ImageSize(196, 112)
    frames: int = 6
    failure_share: float = 0.15
    colours: tuple[str, ...] = tuple(COLOURS)


class Take(NamedTuple):
    """An episode, and the scene and motion it shows, with which any other moment of it can be shown."""

    episode: Episode
    scene: Scene
    motion: Motion


def simulate(seed: int, number: int, config: SimConfig) -> Episode:
    """Episode ``number`` of the endless sequence that ``seed`` stands for; always the same for the same arguments."""
    return take(seed, number, config).episode


def take(seed: int, number: int, config: SimConfig) -> Take:
    """The same episode, with what is needed to show more of it."""
    rng = np.random.default_rng([seed, number])
    skill = SKILLS[rng.choice(len(SKILLS), p=SKILL_SHARES)]
    failure = draw_failure(rng, skill) if rng.random() < config.failure_share else None
    for _ in range(ATTEMPTS):
        taken = _attempt(rng, skill, failure, config, identity=(seed, number))
        if taken is not None:
            return taken
    raise DataError(
        f"no {skill} scene found in {ATTEMPTS} attempts for seed {seed}, episode {number}, image {tuple(config.size)}: "
        "use another seed or size, such as 196x112."
    )


def _attempt(
    rng: Generator, skill: Skill, failure: Failure | None, config: SimConfig, *, identity: tuple[int, int]
) -> Take | None:
    camera = draw_camera(rng, config.size)
    containers = 1 if skill == "place" else int(rng.integers(2))
    objects = min(int(rng.integers(3, 5)), len(config.colours))
    things = draw_things(rng, camera, objects=objects, containers=containers, colours=config.colours)
    if things is None:
        return None
    scene = Scene(things, camera, draw_look(rng, camera))
    plan = draw_plan(rng, scene, skill, failure)
    motion = perform(rng, scene, plan) if plan is not None else None
    if motion is None:
        return None
    chosen = choose_frames(rng, motion, config.frames)
    try:
        return Take(_film(scene, motion, chosen, config, identity), scene, motion)
    except OutOfReachError:
        return None


def choose_frames(rng: Generator, motion: Motion, count: int) -> list[int]:
    """Time steps to show, in order, all different: some two in three before contact, the rest touching and after.

    An episode without contact is shown evenly.
    """
    last = len(motion.steps) - 1
    if motion.contact is None:
        return _spread(rng, 0, last, count)
    before = min(max(1, round(count * 0.6)), count)
    chosen = _spread(rng, 0, motion.contact - 1, before)
    # The first half of the rest is touching for certain; the other half needs as many steps after it.
    touching, later = (count - before + 1) // 2, (count - before) // 2
    chosen += _spread(rng, motion.contact, min(motion.release - 1, last - later), touching)
    return chosen + _spread(rng, chosen[-1] + 1, last, later)


def _spread(rng: Generator, first: int, last: int, count: int) -> list[int]:
    """One random step out of each of ``count`` equal stretches of first..last; fewer if there are not as many steps."""
    count = min(count, last - first + 1)
    if count <= 0:
        return []
    edges = np.linspace(first, last + 1, count + 1).round().astype(int)
    return [int(rng.integers(low, high)) for low, high in zip(edges[:-1], edges[1:], strict=True)]


def _film(scene: Scene, motion: Motion, chosen: list[int], config: SimConfig, identity: tuple[int, int]) -> Episode:
    stage, plan = Stage(scene), motion.plan
    frames = tuple(_frame(stage, motion, index) for index in chosen)
    on_target = motion.contact is not None and plan.handled is plan.target
    contact_points = contact_box = final_box = palm = None
    contact_share = final_share = 0.0
    if on_target and motion.contact is not None:
        stage.pose(pose_of(motion, motion.contact))
        contact_points = labels.finger_contacts(stage, push_direction(scene, plan) if plan.skill == "push" else None)
        contact_box, contact_share = labels.amodal_box(stage, labels.gripper_geoms(stage))
        across, down = scene.camera.project(stage.palm[None])[0].tolist()
        palm = (across, down)
    if plan.failure is None:
        stage.place(plan.target.name, motion.steps[-1].thing)
        final_box, final_share = labels.amodal_box(stage, stage.geoms_of(plan.target.name))
    seed, number = identity
    # Every object that the scene might have had besides.
    taken = {thing.colour for thing in scene.things}
    absent = tuple(f"{colour} {shape}" for colour in config.colours if colour not in taken for shape in GRASPABLE)
    return Episode(
        id=f"sim_s{seed}_{number:07d}", source="sim", seed=seed, number=number, image_size=config.size,
        instruction=plan.instruction, skill=plan.skill, target=plan.target.name,
        success=plan.failure is None, failure=plan.failure,
        contact_index=motion.contact, contact_points=contact_points, contact_box=contact_box,
        contact_inside_share=contact_share,
        release_index=motion.release if motion.contact is not None else None,
        final_box=final_box, final_inside_share=final_share, steps=len(motion.steps), frames=frames,
        palm_point=palm, segments=segments(scene, motion),
        movable=tuple(thing.name for thing in scene.things if not thing.is_container),
        absent=absent,
    )  # fmt: skip


def segments(scene: Scene, motion: Motion) -> tuple[Segment, ...]:
    """The motion's subtasks in order, each with the way of the tool centre point during it."""
    path = scene.camera.project(motion.path)
    found: list[Segment] = []
    for (subtask, primitive), steps in groupby(motion.steps, lambda step: (step.subtask, step.primitive)):
        first = found[-1].last + 1 if found else 0
        last = first + len(list(steps)) - 1
        # From where the step before it left the gripper.
        found.append(Segment(first, last, subtask, primitive, labels.future_trace(path[max(first - 1, 0) : last + 1])))
    return tuple(found)


def pose_of(motion: Motion, index: int) -> Pose:
    """Where everything is at a time step."""
    plan, step = motion.plan, motion.steps[index]
    return Pose(step.tcp, step.yaw, step.opening, {plan.handled.name: step.thing})


def _frame(stage: Stage, motion: Motion, index: int) -> Frame:
    step = motion.steps[index]
    stage.pose(pose_of(motion, index))
    picture = render(stage)
    path = stage.scene.camera.project(motion.path[index:])
    names = [thing.name for thing in stage.scene.things]
    return Frame(
        index=index,
        picture=picture.rgb,
        things={name: labels.view(stage, stage.geoms_of(name), picture.geom) for name in names},
        gripper=labels.view(stage, labels.gripper_geoms(stage), picture.geom),
        tool_point=(float(path[0, 0]), float(path[0, 1])),
        trace=labels.future_trace(path),
        touching=step.touching,
        subtask=step.subtask,
        primitive=step.primitive,
    )


def film(scene: Scene, motion: Motion, moments: Collection[int]) -> dict[int, NDArray[np.uint8]]:
    """The pictures of these time steps.

    The arm goes through all steps up to the last one wanted, so that a picture does not depend on which others are.
    """
    pictures: dict[int, NDArray[np.uint8]] = {}
    if not moments:
        return pictures
    stage = Stage(scene)
    for index in range(max(moments) + 1):
        stage.pose(pose_of(motion, index))
        if index in moments:
            pictures[index] = render(stage).rgb
    return pictures
