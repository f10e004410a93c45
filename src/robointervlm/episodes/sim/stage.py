"""A scene in MuJoCo: compiled once per episode, posed per frame, and asked with rays."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from robointervlm.episodes.sim.arm import Arm, arm_xml, rgba
from robointervlm.episodes.sim.engine import load_mujoco
from robointervlm.episodes.sim.scene import Scene, Thing

Array = NDArray[np.float64]

# What a ray can hit, by geom group; a thing is lifted into its own group while it is looked at alone.
ROOM, ARM, HAND, TIPS, THINGS, ALONE = range(6)
TABLE_HALF = (0.55, 0.75)
FLOOR_HEIGHT = -0.7
# From the hand's frame down to its middle, metres.
PALM_BELOW_HAND = 0.03
# Rays end here, metres; nothing in a scene is farther away.
FARTHEST = 50.0


class Hits(NamedTuple):
    """What each ray met first: geom number (-1 for nothing), distance in metres, surface normal (N, 3)."""

    geom: NDArray[np.int32]
    distance: Array
    normal: Array


@dataclass(frozen=True)
class Pose:
    """Where everything that moves is: tool centre point, turn of the hand, half opening, and one moved thing."""

    tcp: Array
    yaw: float
    opening: float
    moved: dict[str, Array]


class Stage:
    """One scene, ready to be posed and looked at."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.mujoco = load_mujoco()
        self.model = self.mujoco.MjModel.from_xml_string(_xml(scene))
        self.data = self.mujoco.MjData(self.model)
        # Without bounding volumes every ray is tried on every geom. MuJoCo 3 puts the bounding sphere of a turned body
        # in the wrong place (it does not turn the sphere's centre), and rays at the body's edge then go through it.
        self.model.body_bvhadr[:] = -1
        self._bodies = {thing.name: self.model.body(thing.name).id for thing in scene.things}
        self._mocap = {name: self.model.body_mocapid[body] for name, body in self._bodies.items()}
        self._arm = Arm(self.mujoco, self.model, self.data)

    def pose(self, pose: Pose) -> None:
        """Puts arm, fingers and things where the pose says; raises `OutOfReachError` if the arm cannot."""
        for thing in self.scene.things:
            self.data.mocap_pos[self._mocap[thing.name]] = pose.moved.get(thing.name, thing.position)
        self.data.qpos[7:9] = pose.opening
        self._arm.reach(pose.tcp, pose.yaw)
        self.mujoco.mj_kinematics(self.model, self.data)
        self.mujoco.mj_comPos(self.model, self.data)

    def place(self, name: str, position: Array) -> None:
        """Moves one thing and leaves the arm where it is."""
        self.data.mocap_pos[self._mocap[name]] = position
        self.mujoco.mj_kinematics(self.model, self.data)
        self.mujoco.mj_comPos(self.model, self.data)

    @property
    def palm(self) -> Array:
        """The middle of the hand, from which the fingers reach."""
        hand = self.data.body("hand")
        return np.asarray(hand.xpos + hand.xmat.reshape(3, 3)[:, 2] * PALM_BELOW_HAND)

    def cast(self, origin: Array, directions: Array, groups: tuple[int, ...] | None = None) -> Hits:
        """What unit rays (N, 3) from one origin meet first, of all geoms or of those in some groups only."""
        count = len(directions)
        hits = Hits(np.empty(count, np.int32), np.empty(count), np.empty((count, 3)))
        mask = None
        if groups is not None:
            mask = np.zeros(6, np.uint8)
            mask[list(groups)] = 1
        self.mujoco.mj_multiRay(
            m=self.model,
            d=self.data,
            pnt=origin,
            vec=directions.ravel(),
            geomgroup=mask,
            flg_static=True,
            bodyexclude=-1,
            geomid=hits.geom,
            dist=hits.distance,
            normal=hits.normal.reshape(-1),
            nray=count,
            cutoff=FARTHEST,
        )
        return hits

    def geoms_of(self, name: str) -> NDArray[np.intp]:
        """The numbers of the geoms a thing is made of."""
        return np.flatnonzero(self.model.geom_bodyid == self._bodies[name])

    def geoms_in(self, *groups: int) -> NDArray[np.intp]:
        """The numbers of the geoms in these groups."""
        return np.flatnonzero(np.isin(self.model.geom_group, groups))

    def corners(self, geoms: NDArray[np.intp]) -> Array:
        """The eight corners of the box around each of these geoms, in the world, shape (8 N, 3)."""
        signs = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
        centre, half = self.model.geom_aabb[geoms].reshape(-1, 2, 3).transpose(1, 0, 2)
        local = centre[:, None] + signs * half[:, None]
        turned = np.einsum("gij,gcj->gci", self.data.geom_xmat[geoms].reshape(-1, 3, 3), local)
        return np.asarray((turned + self.data.geom_xpos[geoms][:, None]).reshape(-1, 3))


def _xml(scene: Scene) -> str:
    look = scene.look
    things = ""
    for thing in scene.things:
        half_yaw = thing.yaw / 2
        place = " ".join(f"{value:.6f}" for value in thing.position)
        turn = f"{np.cos(half_yaw):.6f} 0 0 {np.sin(half_yaw):.6f}"
        geoms = "".join(f'<geom {geom} group="{THINGS}"/>' for geom in _thing_geoms(thing))
        things += f'<body name="{thing.name}" mocap="true" pos="{place}" quat="{turn}">{geoms}</body>'
    half = f"{TABLE_HALF[0]} {TABLE_HALF[1]} .02"
    return f"""<mujoco><compiler angle="radian"/><worldbody>
      <geom name="floor" type="plane" size="0 0 1" pos="0 0 {FLOOR_HEIGHT}" rgba="{rgba(look.wall)}" group="0"/>
      <geom name="table" type="box" size="{half}" pos=".4 0 -.02" rgba="{rgba(look.table)}" group="0"/>
      {arm_xml(look.arm, look.gripper)}{things}
    </worldbody></mujoco>"""


def _thing_geoms(thing: Thing) -> list[str]:
    x, y, z = thing.size
    colour = f'rgba="{rgba(thing.rgb)}"'
    # A second tone on the parts one looks into, so that a plate reads as a plate under flat light.
    red, green, blue = (0.82 * channel + 0.06 for channel in thing.rgb)
    inner = f'rgba="{rgba((red, green, blue))}"'
    match thing.shape:
        case "ball":
            return [f'type="sphere" size="{x}" {colour}']
        case "cylinder":
            return [f'type="cylinder" size="{x} {z}" {colour}']
        case "cube" | "brick":
            return [f'type="box" size="{x} {y} {z}" {colour}']
        case "plate":
            return [
                f'type="cylinder" size="{0.8 * x} .0035" pos="0 0 {0.0035 - z}" {inner}',
                *_wall(x, 0.14 * x, 0.003, z - 0.003, colour),
            ]
        case "bowl":
            base = f'type="cylinder" size="{x - 0.006} .004" pos="0 0 {0.004 - z}" {inner}'
            return [base, *_wall(x, 0.004, z, 0.0, colour)]
        case "tray":
            return [
                f'type="box" size="{x} {y} .003" pos="0 0 {0.003 - z}" {inner}',
                *(f'type="box" size="{x} .004 {z}" pos="0 {s * (y - 0.004)} 0" {colour}' for s in (-1, 1)),
                *(f'type="box" size=".004 {y} {z}" pos="{s * (x - 0.004)} 0 0" {colour}' for s in (-1, 1)),
            ]


def _wall(radius: float, thickness: float, half_height: float, middle_height: float, colour: str) -> list[str]:
    """A round wall of flat staves, which primitives have no shape for; ``thickness`` is half its radial extent."""
    staves = 20
    half_width = radius * np.tan(np.pi / staves)
    middle = radius - thickness
    wall = []
    for angle in np.arange(staves) * 2 * np.pi / staves:
        place = f"{middle * np.cos(angle):.6f} {middle * np.sin(angle):.6f} {middle_height}"
        size = f"{thickness:.6f} {half_width:.6f} {half_height}"
        wall.append(f'type="box" size="{size}" pos="{place}" euler="0 0 {angle:.6f}" {colour}')
    return wall
