"""What is to be done in a scene, what the instruction says about it, and in which way it will fail."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from robointervlm.episodes.episode import Skill
from robointervlm.episodes.sim.scene import REACH, Scene, Thing, is_free

Array = NDArray[np.float64]
Failure = Literal["missed_grasp", "early_release", "wrong_object", "missed_push"]

# Metres; a constant, so that the end of a push can be foreseen from its start.
PUSH = 0.12


@dataclass(frozen=True)
class Plan:
    """What is to be done and what will happen: the target is named in the instruction, the handled thing is moved."""

    skill: Skill
    target: Thing
    handled: Thing
    goal: Thing | None
    side: Literal["left", "right"] | None
    failure: Failure | None

    @property
    def preposition(self) -> str:
        return "in" if self.goal is not None and self.goal.shape == "bowl" else "on"

    @property
    def instruction(self) -> str:
        match self.skill:
            case "place":
                assert self.goal is not None  # a place always has one
                return f"Put the {self.target.name} {self.preposition} the {self.goal.name}"
            case "pick":
                return f"Pick up the {self.target.name}"
            case "push":
                return f"Push the {self.target.name} to the {self.side}"


def draw_failure(rng: Generator, skill: Skill) -> Failure:
    """One of the ways in which this skill can fail, all equally likely."""
    kinds: dict[Skill, tuple[Failure, ...]] = {
        "place": ("missed_grasp", "early_release", "wrong_object"),
        "pick": ("missed_grasp", "early_release", "wrong_object"),
        "push": ("missed_push", "wrong_object"),
    }
    return kinds[skill][rng.integers(len(kinds[skill]))]


def draw_plan(rng: Generator, scene: Scene, skill: Skill, failure: Failure | None) -> Plan | None:
    """A plan of this skill for this scene, which has two objects or more; None if the scene has no room for it."""
    objects = [thing for thing in scene.things if not thing.is_container]
    goals = [thing for thing in scene.things if thing.is_container]
    target, other = (objects[i] for i in rng.permutation(len(objects))[:2])
    goal = goals[rng.integers(len(goals))] if skill == "place" else None
    side: Literal["left", "right"] | None = None
    if skill == "push":
        side = "left" if rng.integers(2) else "right"
    handled = other if failure == "wrong_object" else target
    if goal is not None and handled.radius > goal.size[0] - (0.0 if goal.shape == "plate" else 0.012):
        return None
    plan = Plan(skill, target, handled, goal, side, failure)
    return plan if skill != "push" or _push_is_free(scene, plan) else None


def push_direction(scene: Scene, plan: Plan) -> Array:
    """The horizontal unit vector of a push: to the left or right as the picture shows it."""
    return scene.camera.right_on_table * (1 if plan.side == "right" else -1)


def _push_is_free(scene: Scene, plan: Plan) -> bool:
    thing, direction = plan.handled, push_direction(scene, plan)
    others = [other for other in scene.things if other is not thing]
    start = np.array(thing.position)
    behind = start - direction * (thing.radius + 0.03)
    ways = [start + share * PUSH * direction for share in (0.25, 0.5, 0.75, 1.0)]
    end = float(np.hypot(*ways[-1][:2]))
    return (
        is_free(behind, 0.035, others, gap=0.0)
        and all(is_free(way, thing.radius, others, gap=0.012) for way in ways)
        and REACH[0] - 0.04 <= end <= REACH[1] + 0.02
    )
