"""Answers drawn over pictures: as inline SVG for the page, and into a PNG."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from markupsafe import Markup
from PIL import Image, ImageDraw

from robointervlm.core.answer import Answer, Box, Points, Region, Trajectory, Unparsed
from robointervlm.core.coordinates import Point
from robointervlm.core.errors import RecipeError
from robointervlm.core.prompt import Picture

Side = Literal["predicted", "true"]

# Told apart by people who do not see red and green alike (Okabe and Ito): vermillion and sky blue.
COLOURS: dict[Side, str] = {"predicted": "#ff6d1f", "true": "#3fc1ff"}

# A picture is shown about 400 CSS pixels wide; twice that is sharp on any screen.
_LONGEST_SIDE = 800


def can_be_drawn(answer: object) -> bool:
    """Whether an answer is a place in the picture."""
    return isinstance(answer, Box | Points | Trajectory)


def in_words(answer: Answer | None) -> str:
    """A short form of an answer; places in whole pixels."""
    if answer is None:
        return ""
    if isinstance(answer, Region):
        return f"a region of {answer.area} px"
    if not can_be_drawn(answer):
        return str(next(iter(vars(answer).values())))
    points = points_of(answer)
    shown = " ".join(f"({x:.0f}, {y:.0f})" for x, y in points[:12])
    return shown + (" …" if len(points) > 12 else "") + " px"


def points_of(answer: Answer | None) -> Sequence[Point]:
    """The places of an answer; none if it has none."""
    return answer.corners if isinstance(answer, Box) else getattr(answer, "points", ())


def svg_shapes(answer: Answer | None, side: Side) -> Markup:
    """The answer as SVG elements of class `predicted` or `true`, in pixels of the picture; empty if it is no place."""
    match answer:
        case Box():
            box = (answer.x1, answer.y1, answer.x2 - answer.x1, answer.y2 - answer.y1)
            shape = Markup('<rect x="{:.2f}" y="{:.2f}" width="{:.2f}" height="{:.2f}"/>').format(*box)
            outline = [shape]
            marks: list[Markup] = []
        case Points():
            outline, marks = [], [_dot(point) for point in answer.points]
        case Trajectory():
            path = " ".join(f"{x:.2f},{y:.2f}" for x, y in answer.points)
            outline = [Markup('<polyline points="{}"/>').format(path)]
            marks = [_dot(point) for point in answer.points]
            if answer.points:
                marks.append(Markup('<g class="start">{}</g>').format(_dot(answer.points[0])))
        case _:
            return Markup("")
    lines = Markup("").join(outline)
    dots = Markup('<g class="dots">{}</g>').format(Markup("").join(marks)) if marks else Markup("")
    # Drawn twice: a dark line below keeps the colour visible on any picture.
    halo = Markup('<g class="halo">{}{}</g>').format(lines, dots)
    return Markup('<g class="{}">{}{}{}</g>').format(side, halo, lines, dots)


def _dot(point: Point) -> Markup:
    # A line of no length with round ends stays a dot of the same size at any scale of the picture.
    return Markup('<path d="M{:.2f} {:.2f}h0"/>').format(*point)


def data_uri(picture: Picture) -> str:
    """The picture as a JPEG of at most 800 pixels, in a form that stands inside a page."""
    image = Image.fromarray(picture)
    image.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def save_overlay(path: Path, picture: Picture | None, answer: Answer | Unparsed | None) -> None:
    """Draws an answer over its picture into a PNG; one that is no place leaves the picture as it is."""
    if picture is None:
        raise RecipeError("there is no picture to draw on; give one with --images.")
    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    width = max(1, round(max(image.size) / 300))
    for colour, extra in (("#000000", 2), (COLOURS["predicted"], 0)):
        match answer:
            case Box():
                corners = [(round(x), round(y)) for x, y in answer.corners]
                draw.rectangle(corners, outline=colour, width=width + extra)
            case Trajectory():
                draw.line([(x, y) for x, y in answer.points], fill=colour, width=width + extra)
        if isinstance(answer, Points | Trajectory):
            for x, y in answer.points:
                radius = 2 * width + extra // 2
                draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path, "PNG")
    except OSError as error:
        raise RecipeError(f"--overlay: {path} cannot be written: {error}.") from None
