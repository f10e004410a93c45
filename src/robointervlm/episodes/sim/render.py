"""Pictures by ray casting: one ray per pixel decides colour and segmentation alike, a second one decides shadow."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robointervlm.episodes.sim.scene import ImageInputs
from robointervlm.episodes.sim.stage import Hits, Stage

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Picture:
    """``rgb``: uint8 (height, width, 3). ``geom``: int32 (height, width), the geom each pixel shows, -1 for none."""

    rgb: NDArray[np.uint8]
    geom: NDArray[np.int32]


def render(stage: Stage) -> Picture:
    """The posed stage as its camera sees it, with hard shadows of one point light."""
    camera = stage.scene.camera
    directions = camera.rays(range(camera.width), range(camera.height)).reshape(-1, 3)
    hits = stage.cast(camera.position, directions)
    colour = shade(stage, directions, hits)
    rgb = np.round(255 * np.clip(colour, 0.0, 1.0)).astype(np.uint8)
    shape = (camera.height, camera.width)
    return Picture(rgb.reshape(*shape, 3), hits.geom.reshape(shape))


def shade(stage: Stage, directions: Array, hits: Hits) -> Array:
    """Colours in 0-1, shape (N, 3), of what rays from the camera met: Lambert, a small highlight, hard shadows."""
    look, camera = stage.scene.look, stage.scene.camera
    seen = hits.geom >= 0
    points = camera.position + directions * np.where(seen, hits.distance, 1.0)[:, None]
    to_light = np.array(look.light) - points
    distance = np.linalg.norm(to_light, axis=1)
    to_light = to_light / distance[:, None]
    facing = np.einsum("ij,ij->i", hits.normal, to_light)
    lit = (facing > 0) & seen
    lit[lit] = ~_in_shadow(stage, points[lit], distance[lit])
    direct = np.where(lit, facing, 0.0)
    half = to_light - directions
    half = half / np.linalg.norm(half, axis=1, keepdims=True)
    shine = np.where(lit, np.einsum("ij,ij->i", hits.normal, half).clip(0.0) ** 40, 0.0)
    # Light from the sky: surfaces that look up get more of it than those that look down.
    sky = look.ambient * (0.85 + 0.15 * hits.normal[:, 2])
    table = stage.model.geom("table").id
    albedo = stage.model.geom_rgba[hits.geom, :3].astype(np.float64)
    on_table = hits.geom == table
    albedo[on_table] = table_colour(look, points[on_table])
    gloss = np.where(on_table, 0.02, 0.16)
    colour = albedo * (sky + (1.06 - look.ambient) * direct)[:, None] + (gloss * shine)[:, None]
    colour[~seen] = wall_colour(look, directions[~seen])
    return np.asarray(colour)


def _in_shadow(stage: Stage, points: Array, distance: Array) -> NDArray[np.bool_]:
    """Whether something stands between the light and each point, at most ``distance`` away from the light."""
    light = np.array(stage.scene.look.light)
    hits = stage.cast(light, (points - light) / distance[:, None])
    # A millimetre covers rounding at the surface itself.
    return np.asarray((hits.geom >= 0) & (hits.distance < distance - 1e-3))


def table_colour(look: ImageInputs, points: Array) -> Array:
    """The table's own colour at these points: one tone, a checker board or planks of slightly different tones."""
    first, second = np.array(look.table), np.array(look.table_second)
    cosine, sine = np.cos(look.pattern_turn), np.sin(look.pattern_turn)
    along = (points[:, 0] * cosine + points[:, 1] * sine) / look.pattern_size
    across = (points[:, 1] * cosine - points[:, 0] * sine) / look.pattern_size
    match look.pattern:
        case "plain":
            share = np.zeros(len(points))
        case "checker":
            share = (np.floor(along) + np.floor(across)) % 2
        case "planks":
            plank = np.floor(across)
            grain = 0.12 * np.sin(2.3 * along + 5 * np.sin(plank) + 2 * np.sin(9 * across))
            share = 0.5 + 0.5 * np.sin(12.9898 * plank) + grain
            share = np.where(across - plank < 0.035, 1.9, share)
    return np.asarray(first + share[:, None] * (second - first))


def wall_colour(look: ImageInputs, directions: Array) -> Array:
    """The room behind the table: darker towards the ceiling."""
    return np.asarray(np.array(look.wall) * (0.92 - 0.25 * directions[:, 2:].clip(-1.0, 1.0)))
