"""A pinhole camera: world metres to pixels of the picture and back.

Pixel coordinates are continuous: (0, 0) is the outer corner of the top-left pixel, whose centre is (0.5, 0.5);
x goes right, y goes down.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Camera:
    """Where the camera is, how it is turned and how strongly it magnifies.

    ``axes`` has the picture's right, the picture's down and the viewing direction as rows, as unit vectors in the
    world. ``focal`` is in pixels. The principal point is the middle of the picture.
    """

    position: Array
    axes: Array
    focal: float
    width: int
    height: int

    def project(self, points: Array) -> Array:
        """Pixels, shape (N, 2), of world points (N, 3); the points must lie in front of the camera."""
        right, down, forward = ((points - self.position) @ self.axes.T).T
        scale = self.focal / forward
        return np.stack([self.width / 2 + right * scale, self.height / 2 + down * scale], axis=1)

    def rays(self, columns: range, rows: range) -> Array:
        """Unit directions, shape (rows, columns, 3), through the centres of these pixels, in or out of the picture."""
        across = (np.array(columns, dtype=np.float64) + 0.5 - self.width / 2) / self.focal
        downward = (np.array(rows, dtype=np.float64) + 0.5 - self.height / 2) / self.focal
        right, down, forward = self.axes
        directions = across[None, :, None] * right + downward[:, None, None] * down + forward
        return np.asarray(directions / np.linalg.norm(directions, axis=2, keepdims=True))

    def contains(self, pixels: Array, *, margin: float = 0.0) -> bool:
        """Whether all pixels (N, 2) are inside the picture and at least ``margin`` pixels from its edges."""
        high = np.array([self.width, self.height]) - margin
        return bool(np.all(pixels >= margin) and np.all(pixels <= high))

    @property
    def right_on_table(self) -> Array:
        """The horizontal unit vector that points to the right in the picture."""
        flat = np.array([self.axes[0, 0], self.axes[0, 1], 0.0])
        return np.asarray(flat / np.linalg.norm(flat))

    @property
    def away_on_table(self) -> Array:
        """The horizontal unit vector that points away from the camera, at a right angle to ``right_on_table``."""
        right = self.right_on_table
        return np.array([-right[1], right[0], 0.0])


def look_at(position: Array, target: Array, *, focal: float, size: tuple[int, int], roll: float = 0.0) -> Camera:
    """A camera at ``position`` that sees ``target`` in the middle of a picture of ``size`` (width, height).

    ``roll`` in radians turns the camera about its viewing direction; 0 keeps the horizon level.
    """
    forward = (target - position) / np.linalg.norm(target - position)
    level = np.cross(forward, [0.0, 0.0, 1.0])
    level = level / np.linalg.norm(level)
    below = np.cross(forward, level)
    right = np.cos(roll) * level + np.sin(roll) * below
    axes = np.stack([right, np.cross(forward, right), forward])
    return Camera(position, axes, focal, *size)
