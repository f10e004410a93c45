"""Scripted manipulations: a place, a pick or a push of the things in a scene, and failed ones."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from robointervlm.episodes.sim.arm import FINGER_DEPTH, FINGER_THICKNESS, MAX_OPENING, TIP_BELOW_TCP
from robointervlm.episodes.sim.motion import Motion, Script
from robointervlm.episodes.sim.plans import PUSH, Plan, push_direction
from robointervlm.episodes.sim.scene import Scene, Thing, is_free, is_in_picture

Array = NDArray[np.float64]

# Metres. The length of a lift is a constant, so that the end of a pick can be foreseen from its start.
LIFT = 0.09
CARRY_HEIGHT = 0.14
HOVER = 0.07
CLEAR = 0.07


def perform(rng: Generator, scene: Scene, plan: Plan) -> Motion | None:
    """The motion of a plan; None if it would need room that the scene, or the picture, does not have."""
    across, away = rng.uniform(-0.20, 0.20), rng.uniform(-0.08, 0.12)
    spot = across * scene.camera.right_on_table + away * scene.camera.away_on_table
    script = Script(
        tcp=np.array([0.50, 0.0, rng.uniform(0.08, 0.15)]) + spot,
        yaw=_best_yaw(rng.uniform(-0.6, 0.6), scene),
        opening=rng.uniform(0.5, 1.0) * MAX_OPENING,
        thing=np.array(plan.handled.position),
    )
    script.wait(f"move to the {plan.handled.name}", "reach")
    performer = _Performer(rng, scene, plan, script)
    done = performer.push() if plan.skill == "push" else performer.pick_or_place()
    if not done:
        return None
    # The picture has to show the way of the fingers, the middle of the hand, and the handled thing where it ends.
    motion, camera = Motion(plan, tuple(script.steps)), scene.camera
    tool, hand = camera.project(motion.path), camera.project(motion.path + np.array([0.0, 0.0, 0.08]))
    x, y, z = motion.steps[-1].thing.tolist()
    ends = is_in_picture(replace(plan.handled, position=(x, y, z)), camera)
    shown = ends and camera.contains(tool, margin=0.04 * camera.height) and camera.contains(hand)
    return motion if shown else None


@dataclass(frozen=True)
class _Performer:
    """Writes the motion of one plan into a script; each method tells whether the scene had room for it."""

    rng: Generator
    scene: Scene
    plan: Plan
    script: Script

    def pick_or_place(self) -> bool:
        thing, script = self.plan.handled, self.script
        yaw = grasp_yaw(thing, self.scene, self.rng.uniform(-0.5, 0.5))
        misses = self.plan.failure == "missed_grasp"
        grasp = self._point_beside(yaw) if misses else _grasp_point(thing)
        if grasp is None or not (misses or self._fingers_fit(yaw)):
            return False
        reach = f"move to the {thing.name}"
        script.move(grasp + [0, 0, HOVER], reach, "reach", hand=(yaw, MAX_OPENING))
        script.move(grasp, reach, "reach")
        script.fingers(0.002 if misses else thing.size[0], f"grasp the {thing.name}", "grasp", holds=not misses)
        return self._lift(grasp) if self.plan.skill == "pick" else self._carry(grasp)

    def push(self) -> bool:
        thing, script, direction = self.plan.handled, self.script, push_direction(self.scene, self.plan)
        misses = self.plan.failure == "missed_push"
        reach, pushing = f"move to the {thing.name}", f"push the {thing.name} to the {self.plan.side}"
        height = max(thing.size[2], TIP_BELOW_TCP + 0.006)
        if misses:  # a finger's breadth above the thing
            height = 2 * thing.size[2] + TIP_BELOW_TCP + 0.015
        middle = np.array([thing.position[0], thing.position[1], height])
        touch = middle - direction * (_reach_of(thing, direction) + FINGER_DEPTH / 2)
        before = touch - direction * 0.025
        script.move(before + [0, 0, HOVER], reach, "reach", hand=(_best_yaw(np.pi / 2, self.scene), 0.004))
        script.move(before, reach, "reach")
        script.move(touch, reach, "reach")
        script.held = not misses
        script.wait(pushing, "push")
        script.move(touch + direction * PUSH, pushing, "push")
        script.held = False
        script.move(touch + direction * (PUSH - 0.02) + [0, 0, CLEAR], "move away", "retreat")
        return True

    def _others(self) -> list[Thing]:
        return [thing for thing in self.scene.things if thing is not self.plan.handled]

    def _point_beside(self, yaw: float) -> Array | None:
        """A grasp point beside the thing, where open fingers find free table and close on air."""
        thing = self.plan.handled
        aside = np.array([np.cos(yaw), np.sin(yaw), 0.0]) * (1 if self.rng.integers(2) else -1)
        point = _grasp_point(thing) + aside * (max(thing.size[:2]) + 0.035)
        return point if is_free(point, 0.03, self._others(), gap=0.0) else None

    def _fingers_fit(self, yaw: float) -> bool:
        """Whether the open fingers come down on free table on both sides of the thing."""
        middle = np.array(self.plan.handled.position)
        outward = np.array([np.sin(yaw), -np.cos(yaw), 0.0]) * (MAX_OPENING + FINGER_THICKNESS / 2)
        return all(is_free(middle + side * outward, 0.014, self._others(), gap=0.0) for side in (-1, 1))

    def _lift(self, grasp: Array) -> bool:
        thing, script = self.plan.handled, self.script
        subtask = f"lift the {thing.name}"
        if self.plan.failure == "early_release":
            script.move(grasp + [0, 0, LIFT * self.rng.uniform(0.4, 0.7)], subtask, "lift")
            script.fingers(MAX_OPENING, subtask, "lift", holds=False)
            script.fall(np.array(thing.position), subtask, "lift")
        script.move(grasp + [0, 0, LIFT], subtask, "lift")
        return True

    def _carry(self, grasp: Array) -> bool:
        thing, goal, script = self.plan.handled, self.plan.goal, self.script
        assert goal is not None  # only a place carries
        rest = np.array([goal.position[0], goal.position[1], goal.floor + thing.size[2]])
        down = rest + [0, 0, grasp[2] - thing.position[2]]
        above_thing = grasp + [0, 0, CARRY_HEIGHT - thing.size[2]]
        above_goal = np.array([down[0], down[1], max(above_thing[2], down[2] + 0.05)])
        carrying = f"move the {thing.name} to the {goal.name}"
        script.move(above_thing, f"lift the {thing.name}", "lift")
        if self.plan.failure == "early_release":
            drop = self._drop_place(grasp, rest)
            if drop is None:
                return False
            script.move(np.array([drop[0], drop[1], above_thing[2]]), carrying, "move")
            script.fingers(MAX_OPENING, carrying, "move", holds=False)
            script.fall(drop, carrying, "move")
        script.move(above_goal, carrying, "move")
        script.move(down, f"put the {thing.name} {self.plan.preposition} the {goal.name}", "place")
        script.fingers(min(thing.size[0] + 0.014, MAX_OPENING), f"release the {thing.name}", "release", holds=False)
        script.move(down + [0, 0, CLEAR], "move away", "retreat")
        return True

    def _drop_place(self, grasp: Array, rest: Array) -> Array | None:
        """A free place on the table on the way from the grasp to the goal; the thing lands upright there."""
        thing = self.plan.handled
        for share in self.rng.permutation(np.linspace(0.25, 0.75, 6)):
            spot = grasp + share * (rest - grasp)
            if is_free(spot, thing.radius, self._others(), gap=0.005):
                return np.array([spot[0], spot[1], thing.size[2]])
        return None


def _grasp_point(thing: Thing) -> Array:
    """Where the tool centre point closes: the middle of a thing, or 2 cm below the top of a tall one."""
    x, y, z = thing.position
    return np.array([x, y, max(z, 2 * z - 0.020, TIP_BELOW_TCP + 0.004)])


def grasp_yaw(thing: Thing, scene: Scene, freedom: float) -> float:
    """The hand's turn that closes on flat sides and shows both fingers best; ``freedom`` is used up by round things."""
    if thing.shape in ("ball", "cylinder"):
        return _best_yaw(freedom, scene)
    # The opening axis has to lie along the thing's x axis (the narrow one of a brick), or its y axis.
    sides = [thing.yaw + np.pi / 2] if thing.shape == "brick" else [thing.yaw, thing.yaw + np.pi / 2]
    right = scene.camera.right_on_table
    return _half_turn(max(sides, key=lambda turn: abs(np.sin(turn) * right[0] - np.cos(turn) * right[1])))


def _best_yaw(turn: float, scene: Scene) -> float:
    """A turn of the hand, counted from where it opens along the picture's x axis, as a turn in the world."""
    right = scene.camera.right_on_table
    # The opening axis of a hand with turn a is (sin a, -cos a); this a makes it parallel to the picture's x axis.
    return _half_turn(np.arctan2(right[0], -right[1]) + turn)


def _half_turn(turn: float) -> float:
    """The same turn of a gripper, which looks alike from both sides, within 90 degrees, where the arm reaches it."""
    return float((turn + np.pi / 2) % np.pi - np.pi / 2)


def _reach_of(thing: Thing, direction: Array) -> float:
    """How far the thing reaches from its middle against closed fingers that come along ``direction``, in metres."""
    if thing.shape in ("ball", "cylinder"):
        return thing.size[0]
    edge, one = np.linspace(-1, 1, 41), np.ones(41)
    corners = [pair for side in (-1, 1) for pair in (np.stack([side * one, edge], 1), np.stack([edge, side * one], 1))]
    outline = np.concatenate(corners) * thing.size[:2]
    angle = np.arctan2(direction[1], direction[0]) - thing.yaw
    forward = outline @ np.array([np.cos(angle), np.sin(angle)])
    sideways = outline @ np.array([-np.sin(angle), np.cos(angle)])
    # Two closed fingers side by side; a little more, so that a corner does not enter them.
    return float(forward[np.abs(sideways) <= FINGER_THICKNESS + 0.002].max())
