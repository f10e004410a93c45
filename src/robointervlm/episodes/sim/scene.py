"""Random scenes: what stands on the table, where, in which colours, and from where it is seen."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from robointervlm.episodes.sim.camera import Camera, look_at

Array = NDArray[np.float64]
Shape = Literal["cube", "brick", "cylinder", "ball", "plate", "bowl", "tray"]
Colour = tuple[float, float, float]

COLOURS: dict[str, Colour] = {
    "red": (0.82, 0.11, 0.10),
    "green": (0.13, 0.62, 0.20),
    "blue": (0.12, 0.28, 0.85),
    "yellow": (0.95, 0.82, 0.10),
    "orange": (0.95, 0.48, 0.06),
    "purple": (0.52, 0.18, 0.66),
}
CONTAINER_COLOURS: dict[str, Colour] = {
    "white": (0.93, 0.93, 0.91),
    "black": (0.16, 0.16, 0.17),
    "pink": (0.93, 0.60, 0.68),
}
# Wood, stone and cloth; nothing as saturated as an object, so that a colour word names one thing.
TABLE_COLOURS: tuple[Colour, ...] = (
    (0.62, 0.46, 0.30),
    (0.42, 0.29, 0.19),
    (0.74, 0.64, 0.50),
    (0.56, 0.57, 0.58),
    (0.36, 0.38, 0.41),
    (0.66, 0.70, 0.68),
    (0.40, 0.47, 0.52),
    (0.55, 0.55, 0.44),
)
# Smallest and largest half extents, metres. Solid things are at most 7.2 cm wide on one side, which the gripper spans.
_SIZES: dict[Shape, tuple[tuple[float, float, float], tuple[float, float, float]]] = {
    "cube": ((0.027, 0.027, 0.027), (0.035, 0.035, 0.035)),
    "brick": ((0.025, 0.042, 0.020), (0.030, 0.052, 0.028)),
    "cylinder": ((0.027, 0.027, 0.034), (0.033, 0.033, 0.046)),
    "ball": ((0.029, 0.029, 0.029), (0.036, 0.036, 0.036)),
    "plate": ((0.075, 0.075, 0.0055), (0.087, 0.087, 0.0055)),
    "bowl": ((0.072, 0.072, 0.019), (0.082, 0.082, 0.019)),
    "tray": ((0.062, 0.080, 0.011), (0.072, 0.092, 0.011)),
}
GRASPABLE: tuple[Shape, ...] = ("cube", "brick", "cylinder", "ball")
CONTAINERS: tuple[Shape, ...] = ("plate", "bowl", "tray")

# Where things may stand: distance from the arm's base, in metres, that it reaches from above.
REACH = (0.36, 0.68)
# The middle of the table's used part; the camera looks at about 10 cm above it.
CENTRE = np.array([0.52, 0.0, 0.0])
# Free space between two things, so that two fingers and a label fit in between.
GAP = 0.025


@dataclass(frozen=True)
class Thing:
    """An object or a container that stands on the table.

    ``size`` holds half extents in metres along the thing's own x, y and z; round things use x as their radius.
    ``position`` is the middle of the thing in the world, ``yaw`` its turn about the vertical in radians.
    """

    colour: str
    shape: Shape
    rgb: Colour
    size: tuple[float, float, float]
    position: tuple[float, float, float]
    yaw: float

    @property
    def name(self) -> str:
        """The words an instruction calls it, such as ``red cube``."""
        return f"{self.colour} {self.shape}"

    @property
    def is_container(self) -> bool:
        return self.shape in CONTAINERS

    @property
    def radius(self) -> float:
        """Radius of the upright cylinder that holds the thing, in metres."""
        return self.size[0] if self.shape in ("cylinder", "ball", "plate", "bowl") else float(np.hypot(*self.size[:2]))

    @property
    def floor(self) -> float:
        """Height above the thing's foot at which something put into it stands; its own height for solid things."""
        return {"plate": 0.007, "bowl": 0.008, "tray": 0.008}.get(self.shape, 2 * self.size[2])


@dataclass(frozen=True)
class ImageInputs:
    """What does not change the task: colours, texture and light of one scene."""

    table: Colour
    table_second: Colour
    pattern: Literal["plain", "checker", "planks"]
    pattern_size: float
    pattern_turn: float
    wall: Colour
    light: tuple[float, float, float]
    ambient: float
    gripper: Colour
    arm: Colour


@dataclass(frozen=True)
class Scene:
    """Everything that is fixed before the arm moves. Colours of things, and so their names, are unique."""

    things: tuple[Thing, ...]
    camera: Camera
    look: ImageInputs


def draw_camera(rng: Generator, size: tuple[int, int]) -> Camera:
    """A camera on the far side of the table, facing the arm, that shows a strip of 58-68 cm at the table's middle."""
    azimuth = rng.uniform(-1.0, 1.0)  # radians; 0 looks straight at the arm
    elevation = rng.uniform(0.5, 0.95)
    distance = rng.uniform(0.85, 1.3)
    target = CENTRE + np.array([0.0, 0.0, 0.10]) + rng.uniform(-1, 1, 3) * np.array([0.02, 0.02, 0.01])
    heading = np.array([np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)])
    # Pictures wider than 7:4, such as 196x112, show more to the sides instead of less above and below.
    focal = min(size[0], 1.75 * size[1]) * distance / rng.uniform(0.58, 0.68)
    return look_at(target + distance * heading, target, focal=focal, size=size, roll=rng.uniform(-0.05, 0.05))


def draw_look(rng: Generator, camera: Camera) -> ImageInputs:
    """Random colours, pattern and light; the light hangs above the table, rather on the camera's side."""
    table = np.array(TABLE_COLOURS[rng.integers(len(TABLE_COLOURS))]) * rng.uniform(0.85, 1.15)
    across, nearer = rng.uniform(-0.7, 0.7), rng.uniform(-0.1, 0.7)
    light = CENTRE + across * camera.right_on_table - nearer * camera.away_on_table
    metal = rng.uniform(0.20, 0.34)
    white = rng.uniform(0.80, 0.95)
    return ImageInputs(
        table=_colour(table),
        table_second=_colour(table * rng.uniform(0.80, 0.90)),
        pattern=("plain", "checker", "planks")[rng.integers(3)],
        pattern_size=rng.uniform(0.05, 0.10),
        pattern_turn=rng.uniform(-np.pi, np.pi),
        wall=_colour(rng.uniform(0.55, 0.85) * (1 + rng.uniform(-0.08, 0.08, 3))),
        light=(float(light[0]), float(light[1]), rng.uniform(1.1, 1.8)),
        ambient=rng.uniform(0.60, 0.72),
        gripper=_colour(metal * np.array([1.0, 1.02, 1.08])),
        arm=_colour(white * np.array([1.0, 1.0, 0.99])),
    )


def _colour(values: Array) -> Colour:
    red, green, blue = np.clip(values, 0.0, 1.0).tolist()
    return red, green, blue


def draw_things(
    rng: Generator, camera: Camera, *, objects: int, containers: int, colours: tuple[str, ...] = tuple(COLOURS)
) -> tuple[Thing, ...] | None:
    """Things of different colours that stand apart from each other, wholly in the picture; None if they do not fit.

    A colour then names one thing, and so does a name. Objects take theirs from ``colours``, of which there are enough.
    """
    taken: set[str] = set()
    placed: list[Thing] = []
    for number in range(containers + objects):
        palette = tuple(CONTAINER_COLOURS) if number < containers else colours
        thing = _draw_thing(rng, palette, container=number < containers)
        while thing.colour in taken:
            thing = _draw_thing(rng, palette, container=number < containers)
        found = _find_place(rng, thing, placed, camera)
        if found is None:
            return None
        taken.add(thing.colour)
        placed.append(found)
    # Containers were placed first because they are large; the order must not tell which thing is which.
    return tuple(placed[i] for i in rng.permutation(len(placed)))


def _draw_thing(rng: Generator, palette: tuple[str, ...], *, container: bool) -> Thing:
    shapes = CONTAINERS if container else GRASPABLE
    colour = palette[rng.integers(len(palette))]
    shape = shapes[rng.integers(len(shapes))]
    known = CONTAINER_COLOURS if container else COLOURS
    rgb = _colour(np.array(known[colour]) * rng.uniform(0.88, 1.08))
    shares = rng.uniform(0, 1, 3)
    if shape not in ("brick", "tray"):
        shares[1] = shares[0]
    if shape in ("cube", "ball"):
        shares[2] = shares[0]
    smallest, largest = np.array(_SIZES[shape])
    x, y, z = (smallest + shares * (largest - smallest)).tolist()
    return Thing(colour, shape, rgb, (x, y, z), (0.0, 0.0, 0.0), rng.uniform(-np.pi, np.pi))


def _find_place(rng: Generator, thing: Thing, placed: list[Thing], camera: Camera) -> Thing | None:
    for _ in range(40):
        across, away = rng.uniform(-0.22, 0.22), rng.uniform(-0.14, 0.16)
        spot = CENTRE + across * camera.right_on_table + away * camera.away_on_table
        candidate = replace(thing, position=(float(spot[0]), float(spot[1]), thing.size[2]))
        within_reach = REACH[0] <= np.hypot(spot[0], spot[1]) <= REACH[1]
        if within_reach and is_free(spot, thing.radius, placed) and is_in_picture(candidate, camera):
            return candidate
    return None


def is_free(spot: Array, radius: float, others: list[Thing], *, gap: float = GAP) -> bool:
    """Whether an upright cylinder of this radius at ``spot`` keeps ``gap`` metres away from all the others."""
    return all(
        np.hypot(spot[0] - other.position[0], spot[1] - other.position[1]) >= radius + other.radius + gap
        for other in others
    )


def is_in_picture(thing: Thing, camera: Camera) -> bool:
    """Whether all of the thing is inside the picture, two pixels away from the edges."""
    r, h = thing.radius, thing.size[2]
    corners = np.array([[x, y, z] for x in (-r, r) for y in (-r, r) for z in (-h, h)]) + np.array(thing.position)
    return camera.contains(camera.project(corners), margin=2.0)
