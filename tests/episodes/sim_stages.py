"""Scenes laid out by hand, so that a test can work out what must be seen."""

import numpy as np

from robointervlm.episodes.sim.camera import look_at
from robointervlm.episodes.sim.scene import ImageInputs, Scene, Thing
from robointervlm.episodes.sim.stage import Stage

# Level with the things, 1.1 m in front of x = 0.5, so that one metre is 100 pixels at x = 0.6.
CAMERA = look_at(np.array([1.6, 0.0, 0.3]), np.array([0.5, 0.0, 0.3]), focal=100.0, size=(200, 100))
LOOK = ImageInputs(
    table=(0.6, 0.5, 0.4),
    table_second=(0.5, 0.4, 0.3),
    pattern="plain",
    pattern_size=0.1,
    pattern_turn=0.0,
    wall=(0.7, 0.7, 0.7),
    light=(1.0, 0.0, 2.0),
    ambient=0.5,
    gripper=(0.3, 0.3, 0.3),
    arm=(0.9, 0.9, 0.9),
)


def cube(colour: str, position: tuple[float, float, float], half: float = 0.1, rgb=(0.8, 0.1, 0.1)) -> Thing:
    return Thing(colour, "cube", rgb, (half, half, half), position, 0.0)


def stage_with(*things: Thing, camera=CAMERA, look=LOOK) -> Stage:
    """A stage whose arm stands upright, out of the way, behind the things."""
    stage = Stage(Scene(things, camera, look))
    stage.place(things[0].name, np.array(things[0].position))
    return stage
