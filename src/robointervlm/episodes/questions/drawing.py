"""Pictures with candidates drawn over them: boxes, grasps, ways and arrows, side by side behind letters.

Shapes are drawn larger and shrunk, so that their edges are smooth, and have a dark or light seam, so that they are seen
on anything. Their strength goes with the picture's width. Colours are those of the published pictures: purple boxes,
orange forks, ways from green to red.
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from robointervlm.core.answer import Box
from robointervlm.core.coordinates import ImageSize, Point
from robointervlm.episodes.questions.asking import LETTERS

Picture = NDArray[np.uint8]
Colour = tuple[int, int, int]
Sketch = Callable[["Pen"], None]

PURPLE: Colour = (168, 28, 236)
ORANGE: Colour = (255, 140, 0)
DARK: Colour = (15, 15, 20)
LIGHT: Colour = (250, 250, 250)
ARROWS: dict[str, Colour] = {
    "red": (232, 24, 24),
    "green": (22, 190, 48),
    "blue": (30, 90, 255),
    "yellow": (255, 222, 20),
}
# Between the panels of a picture of four, pixels.
GUTTER = 4


class Pen:
    """Draws in pixels of the picture onto a larger transparent sheet."""

    def __init__(self, size: tuple[int, int]) -> None:
        # A sheet of some 800 pixels is fine enough, and one of twice the size the least that smooths.
        self._zoom = max(2, round(800 / size[0]))
        self._sheet = Image.new("RGBA", (size[0] * self._zoom, size[1] * self._zoom))
        self._draw = ImageDraw.Draw(self._sheet)
        self.width = max(2.0, size[0] / 110)

    def line(self, points: Sequence[Point], colour: Colour, *, wider: float = 0.0) -> None:
        """A line with round ends and corners; ``wider`` by so many pixels on each side."""
        width = round((self.width + 2 * wider) * self._zoom)
        corners = [(x * self._zoom, y * self._zoom) for x, y in points]
        self._draw.line(corners, fill=colour, width=width)
        for point in points:
            self.dot(point, colour, radius=self.width / 2 + wider)

    def dot(self, point: Point, colour: Colour, *, radius: float) -> None:
        x, y, r = point[0] * self._zoom, point[1] * self._zoom, radius * self._zoom
        self._draw.ellipse((x - r, y - r, x + r, y + r), fill=colour)

    def triangle(self, corners: Sequence[Point], colour: Colour) -> None:
        self._draw.polygon([(x * self._zoom, y * self._zoom) for x, y in corners], fill=colour)

    def over(self, picture: Picture) -> Image.Image:
        """The picture with what was drawn."""
        image = Image.fromarray(picture).convert("RGBA")
        return Image.alpha_composite(image, self._sheet.resize(image.size, Image.Resampling.BOX)).convert("RGB")


def drawn(picture: Picture, sketch: Sketch) -> Image.Image:
    """A picture with a sketch over it."""
    height, width = picture.shape[:2]
    pen = Pen((width, height))
    sketch(pen)
    return pen.over(picture)


def seam(pen: Pen) -> float:
    """How far a seam reaches beyond its line, pixels."""
    return max(1.0, pen.width / 3)


def box_sketch(box: Box) -> Sketch:
    """A purple box with a light seam."""
    corners = [(box.x1, box.y1), (box.x2, box.y1), (box.x2, box.y2), (box.x1, box.y2), (box.x1, box.y1)]

    def sketch(pen: Pen) -> None:
        pen.line(corners, LIGHT, wider=seam(pen) / 2)
        pen.line(corners, PURPLE)

    return sketch


def fork_sketch(fork: Sequence[Point]) -> Sketch:
    """A gripper as an orange fork, of the tips of its two tines and the middle of the hand, where its handle ends."""
    (left, right, palm) = (np.array(point) for point in fork)
    middle = (left + right) / 2
    root = middle + 0.5 * (palm - middle)
    half = (right - left) / 2
    corners = [tuple(point.tolist()) for point in (left, root - half, root + half, right)]
    lines: list[list[Any]] = [corners, [tuple(root.tolist()), tuple(palm.tolist())]]

    def sketch(pen: Pen) -> None:
        for line in lines:
            pen.line(line, DARK, wider=seam(pen))
        for line in lines:
            pen.line(line, ORANGE)

    return sketch


def path_sketch(points: Sequence[Point]) -> Sketch:
    """A way whose colour goes from green at its start over yellow to red at its end."""
    path = np.array(points, dtype=np.float64)
    fine = np.linspace(0, len(path) - 1, 8 * (len(path) - 1) + 1)
    columns, rows = (np.interp(fine, np.arange(len(path)), path[:, axis]) for axis in (0, 1))
    way: list[Point] = list(zip(columns.tolist(), rows.tolist(), strict=True))

    def sketch(pen: Pen) -> None:
        pen.line(way, DARK, wider=seam(pen))
        for end in (way[0], way[-1]):
            pen.dot(end, DARK, radius=1.2 * pen.width + seam(pen))
        for number, pair in enumerate(zip(way, way[1:], strict=False)):
            pen.line(pair, _hue(number / (len(way) - 2)))
        for end, share in ((way[0], 0.0), (way[-1], 1.0)):
            pen.dot(end, _hue(share), radius=1.2 * pen.width)

    return sketch


def _hue(share: float) -> Colour:
    """Green at 0, yellow at 0.5, red at 1."""
    red, green, blue = colorsys.hsv_to_rgb((1 - share) / 3, 0.95, 0.95)
    return round(255 * red), round(255 * green), round(255 * blue)


def arrows_sketch(arrows: Sequence[tuple[Point, Point, str]]) -> Sketch:
    """Arrows from a point to a point, each in a colour of `ARROWS`."""

    def sketch(pen: Pen) -> None:
        for begin, end, name in arrows:
            shaft, head = _arrow(begin, end, 2.2 * pen.width + seam(pen))
            pen.line(shaft, DARK, wider=seam(pen))
            pen.triangle(_grown(head, 1.7 * seam(pen)), DARK)
            pen.line(shaft, ARROWS[name])
            pen.triangle(head, ARROWS[name])

    return sketch


def _arrow(begin: Point, end: Point, size: float) -> tuple[list[Point], list[Point]]:
    """The line and the three corners of the head of an arrow."""
    start, tip = np.array(begin), np.array(end)
    along = (tip - start) / np.linalg.norm(tip - start)
    across = np.array([-along[1], along[0]])
    neck = tip - 1.6 * size * along
    head = [tip, neck + size * across, neck - size * across]
    return [begin, _point(neck)], [_point(corner) for corner in head]


def _grown(corners: Sequence[Point], by: float) -> list[Point]:
    """The corners moved away from their middle."""
    points = np.array(corners)
    away = points - points.mean(axis=0)
    return [_point(point) for point in points + by * away / np.linalg.norm(away, axis=1, keepdims=True)]


def _point(point: NDArray[np.float64]) -> Point:
    x, y = point.tolist()
    return x, y


def four(picture: Picture, sketches: Sequence[Sketch]) -> Image.Image:
    """Four candidates over the same picture, two by two, each behind its letter."""
    height, width = picture.shape[:2]
    sheet = Image.new("RGB", four_size(ImageSize(width, height)), LIGHT)
    for number, (letter, sketch) in enumerate(zip(LETTERS, sketches, strict=True)):
        column, row = number % 2, number // 2
        panel = drawn(picture, sketch)
        # The letter in the panel's upper left corner, dark on white.
        side = max(16, round(panel.width / 14))
        draw = ImageDraw.Draw(panel)
        draw.rectangle((0, 0, side, side), fill=LIGHT)
        font = ImageFont.load_default(size=round(0.85 * side))
        draw.text((side / 2, side / 2), letter, fill=DARK, font=font, anchor="mm")
        sheet.paste(panel, (column * (width + GUTTER), row * (height + GUTTER)))
    return sheet


def four_size(size: ImageSize) -> ImageSize:
    """The size of a picture of four."""
    return ImageSize(2 * size.width + GUTTER, 2 * size.height + GUTTER)
