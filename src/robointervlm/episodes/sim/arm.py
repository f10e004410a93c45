"""A seven-joint arm with a parallel gripper, made of primitives, and its inverse kinematics.

The joint frames and limits are those Franka Robotics publishes for the Panda (Denavit-Hartenberg table in the FCI
documentation); links, hand and fingers are simple shapes of our own, with fingers that open wider than the Panda's.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from robointervlm.core.errors import DataError

Array = NDArray[np.float64]


class OutOfReachError(DataError):
    """A point that the arm cannot bring its fingers to with the hand pointing down."""


# How the fingers rest: pointing down, elbow up.
HOME = np.array([0.0, -0.2, 0.0, -2.2, 0.0, 2.0, 0.785])
# Half the largest distance between the fingertips, metres.
MAX_OPENING = 0.052
# The tool centre point lies between the fingertips, this far above their ends.
TIP_BELOW_TCP = 0.012
# Of one finger, across and along the closing direction's horizontal normal.
FINGER_THICKNESS = 0.013
FINGER_DEPTH = 0.028

_ARM = 'rgba="{arm}" group="1"'
# One line per joint: frame in the previous link, joint limits, shapes.
_LINKS: tuple[tuple[str, str, str], ...] = (
    ('pos="0 0 .333"', "-2.8973 2.8973", 'capsule .058 "0 0 -.22 0 0 -.04"'),
    ('quat="1 -1 0 0"', "-1.7628 1.7628", 'capsule .060 "0 0 -.05 0 0 .05"; capsule .052 "0 0 0 0 -.16 0"'),
    (
        'pos="0 -.316 0" quat="1 1 0 0"',
        "-2.8973 2.8973",
        'capsule .055 "0 0 -.12 0 0 0"; capsule .05 "0 0 0 .0825 0 0"',
    ),
    (
        'pos=".0825 0 0" quat="1 1 0 0"',
        "-3.0718 -0.0698",
        'capsule .055 "0 0 -.05 0 0 .05"; capsule .05 "0 0 0 -.0825 .09 0"',
    ),
    ('pos="-.0825 .384 0" quat="1 -1 0 0"', "-2.8973 2.8973", 'capsule .048 "0 0 -.26 0 0 0"'),
    ('quat="1 1 0 0"', "-0.0175 3.7525", 'capsule .048 "0 0 -.04 0 0 .04"; capsule .045 "0 0 0 .088 0 0"'),
    ('pos=".088 0 0" quat="1 1 0 0"', "-2.8973 2.8973", 'cylinder .040 "0 0 -.02 0 0 .107"'),
)
_HAND = f"""
<body name="hand" pos="0 0 .107" quat=".9238795 0 0 -.3826834">
  <geom type="box" size=".026 .068 .024" pos="0 0 .024" rgba="{{gripper}}" group="2"/>
  <geom type="box" size=".020 .062 .004" pos="0 0 .052" rgba="{{accent}}" group="2"/>
  <site name="tcp" pos="0 0 .130"/>
  <body name="left_finger"><joint name="left" type="slide" axis="0 1 0" range="0 {MAX_OPENING}"/>
    <geom type="box" size=".014 .0065 .025" pos="0 .0065 .079" rgba="{{gripper}}" group="2"/>
    <geom name="left_tip" type="box" size=".014 .0065 .020" pos="0 .0065 .122" rgba="{{tip}}" group="3"/></body>
  <body name="right_finger"><joint name="right" type="slide" axis="0 -1 0" range="0 {MAX_OPENING}"/>
    <geom type="box" size=".014 .0065 .025" pos="0 -.0065 .079" rgba="{{gripper}}" group="2"/>
    <geom name="right_tip" type="box" size=".014 .0065 .020" pos="0 -.0065 .122" rgba="{{tip}}" group="3"/></body>
</body>"""


def arm_xml(arm: tuple[float, float, float], gripper: tuple[float, float, float]) -> str:
    """The arm as MJCF bodies in these colours: geoms of the arm in group 1, of the hand in 2, fingertips in 3."""
    paint = {
        "arm": rgba(arm),
        "gripper": rgba(gripper),
        "accent": rgba((gripper[0] * 1.7, gripper[1] * 1.7, gripper[2] * 1.7)),
        "tip": rgba((gripper[0] * 0.35, gripper[1] * 0.35, gripper[2] * 0.35)),
    }
    inner = _HAND
    for number, (frame, limits, shapes) in reversed(list(enumerate(_LINKS, start=1))):
        geoms = "".join(_geom(shape) for shape in shapes.split(";"))
        joint = f'<joint name="joint{number}" axis="0 0 1" range="{limits}"/>'
        inner = f"<body {frame}>{joint}{geoms}{inner}</body>"
    base = f'<geom type="cylinder" size=".085" fromto="0 0 0 0 0 .12" {_ARM}/>'
    return f'<body name="base">{base}{inner}</body>'.format(**paint)


def _geom(shape: str) -> str:
    kind, radius, ends = shape.strip().split(" ", maxsplit=2)
    return f'<geom type="{kind}" size="{radius}" fromto={ends} {_ARM}/>'


def rgba(colour: tuple[float, float, float]) -> str:
    """A colour as an MJCF attribute value, opaque."""
    return " ".join(f"{min(max(channel, 0.0), 1.0):.4f}" for channel in colour) + " 1"


def pointing_down(yaw: float) -> Array:
    """The hand's orientation as a matrix: its z axis down, its opening axis (y) at ``yaw`` from the world's y axis."""
    cosine, sine = np.cos(yaw), np.sin(yaw)
    return np.array([[cosine, sine, 0.0], [sine, -cosine, 0.0], [0.0, 0.0, -1.0]])


class Arm:
    """The arm inside a compiled model, which it poses; it starts every search from where it was last."""

    def __init__(self, mujoco: Any, model: Any, data: Any) -> None:
        self._mujoco, self._model, self._data = mujoco, model, data
        self._site = model.site("tcp").id
        self._angles: Array | None = None

    def reach(self, position: Array, yaw: float) -> None:
        """Brings the tool centre point to ``position``, metres, with the hand pointing down and turned by ``yaw``.

        Damped least squares (Wampler 1986) inside the joint limits, until the point is within 0.1 mm and the hand
        within 1 mrad. Raises `OutOfReachError` if 200 steps are not enough.
        """
        low, high = self._model.jnt_range[:7].T
        angles = self._angles
        if angles is None:  # towards the point from the start
            base = np.arctan2(position[1], position[0])
            angles = np.asarray(HOME + np.array([base, 0, 0, 0, 0, 0, base - yaw]))
        for _ in range(200):
            self._data.qpos[:7] = angles
            self._mujoco.mj_kinematics(self._model, self._data)
            error = self._error(position, pointing_down(yaw))
            if np.abs(error[:3]).max() < 1e-4 and np.abs(error[3:]).max() < 1e-3:
                self._angles = angles
                return
            step = self._step(error)
            # At most 0.4 rad at a time, where the linear picture of the arm still holds.
            angles = np.clip(angles + step * min(1.0, 0.4 / float(np.abs(step).max())), low, high)
        raise OutOfReachError(
            f"the arm does not reach {np.round(position, 3).tolist()} m with its hand turned by {yaw:.2f} rad; "
            f"points 0.3 to 0.7 m from its base are within reach."
        )

    def _error(self, position: Array, goal: Array) -> Array:
        """What is missing: three metres, then three radians about the world's axes."""
        current = self._data.site_xmat[self._site].reshape(3, 3)
        turn = 0.5 * np.cross(current.T, goal.T).sum(axis=0)
        return np.concatenate([position - self._data.site_xpos[self._site], turn])

    def _step(self, error: Array) -> Array:
        linear, angular = np.empty((2, 3, self._model.nv))
        self._mujoco.mj_comPos(self._model, self._data)
        self._mujoco.mj_jacSite(self._model, self._data, linear, angular, self._site)
        jacobian = np.vstack([linear[:, :7], angular[:, :7]])
        # 0.02 of damping: small against the singular values away from the edge of the workspace, which are above 0.1.
        solved = np.linalg.solve(jacobian @ jacobian.T + 4e-4 * np.eye(6), error)
        return np.asarray(jacobian.T @ solved)
