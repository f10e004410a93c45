"""Labels from geometry: boxes and shares from the rays that made the picture, points and traces by projection."""

import numpy as np
from numpy.typing import NDArray

from robointervlm.core.answer import Box, Points, Trajectory
from robointervlm.episodes.episode import ThingView
from robointervlm.episodes.sim.camera import Camera
from robointervlm.episodes.sim.stage import ALONE, HAND, TIPS, Stage

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

TRACE_POINTS = 10


def mask_box(mask: Mask, *, left: int = 0, top: int = 0) -> Box | None:
    """The box around the True pixels of a mask whose top-left pixel is at (left, top); None if there are none."""
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    if not len(columns):
        return None
    x1, x2, y1, y2 = (int(edge) for edge in (columns[0], columns[-1] + 1, rows[0], rows[-1] + 1))
    return Box(float(left + x1), float(top + y1), float(left + x2), float(top + y2))


def view(stage: Stage, geoms: NDArray[np.intp], picture_geom: NDArray[np.int32]) -> ThingView:
    """How the posed stage's picture, given as the geom of each pixel, shows the body made of these geoms."""
    visible = np.isin(picture_geom, geoms)
    mask, left, top = amodal_mask(stage, geoms)
    total = int(mask.sum())
    inside = _inside(mask, left, top, stage.scene.camera)
    return ThingView(
        box=mask_box(visible),
        amodal_box=mask_box(inside, left=max(left, 0), top=max(top, 0)),
        visible_share=float(visible.sum() / total) if total else 0.0,
        inside_share=float(inside.sum() / total) if total else 0.0,
    )


def amodal_mask(stage: Stage, geoms: NDArray[np.intp]) -> tuple[Mask, int, int]:
    """The pixels these geoms would cover if nothing else existed, also beyond the image; with the mask's left and top.

    Made with the same rays as the picture, so a thing that nothing hides has exactly its visible pixels.
    """
    camera = stage.scene.camera
    pixels = camera.project(stage.corners(geoms))
    left, top = (int(edge) for edge in np.floor(pixels.min(axis=0)) - 1)
    right, bottom = (int(edge) for edge in np.ceil(pixels.max(axis=0)) + 1)
    directions = camera.rays(range(left, right), range(top, bottom))
    groups = stage.model.geom_group[geoms].copy()
    stage.model.geom_group[geoms] = ALONE
    hits = stage.cast(camera.position, directions.reshape(-1, 3), (ALONE,))
    stage.model.geom_group[geoms] = groups
    return (hits.geom >= 0).reshape(bottom - top, right - left), left, top


def _inside(mask: Mask, left: int, top: int, camera: Camera) -> Mask:
    return mask[max(0, -top) : max(0, camera.height - top), max(0, -left) : max(0, camera.width - left)]


def amodal_box(stage: Stage, geoms: NDArray[np.intp]) -> tuple[Box | None, float]:
    """The box around all of these geoms, cut at the image's edges, and the share of their area inside the image."""
    mask, left, top = amodal_mask(stage, geoms)
    inside = _inside(mask, left, top, stage.scene.camera)
    share = float(inside.sum() / mask.sum()) if mask.any() else 0.0
    return mask_box(inside, left=max(left, 0), top=max(top, 0)), share


def gripper_geoms(stage: Stage) -> NDArray[np.intp]:
    """Hand and fingers; the arm is not part of the gripper."""
    return stage.geoms_in(HAND, TIPS)


def finger_contacts(stage: Stage, heading: Array | None) -> Points:
    """Pixels of the middles of the two contact faces of the posed fingertips, left one first.

    The contact faces are the inner ones for a grasp; for a push they are those that look along ``heading``.
    """
    points = []
    for side in ("left", "right"):
        tip = stage.data.geom(f"{side}_tip")
        half = stage.model.geom(f"{side}_tip").size
        along, inward = tip.xmat.reshape(3, 3).T[:2]
        if heading is None:
            middle = tip.xpos + inward * half[1] * (-1 if side == "left" else 1)
        else:
            middle = tip.xpos + along * half[0] * np.sign(along @ heading)
        points.append(middle)
    pixels = stage.scene.camera.project(np.array(points))
    return Points(tuple(sorted((x, y) for x, y in pixels.tolist())))


def future_trace(path: Array) -> Trajectory:
    """Ten points evenly spaced along a pixel path (N, 2), from its first to its last; all alike if it is one point."""
    lengths = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=1))])
    wanted = np.linspace(0.0, lengths[-1], TRACE_POINTS)
    columns, rows = np.interp(wanted, lengths, path[:, 0]), np.interp(wanted, lengths, path[:, 1])
    return Trajectory(tuple((x, y) for x, y in zip(columns.tolist(), rows.tolist(), strict=True)))
