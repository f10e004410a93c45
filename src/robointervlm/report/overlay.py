"""Answers drawn over pictures: as inline SVG for the page, and into a PNG."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path as FilePath
from typing import Literal

from markupsafe import Markup
from PIL import Image, ImageDraw, ImageFont

from robointervlm.core.answer import Answer, Unparsed
from robointervlm.core.coordinates import ImageSize, Point
from robointervlm.core.errors import RecipeError
from robointervlm.core.prompt import Picture
from robointervlm.core.shapes import Dots, Label, Line, Path, Rectangle, Shape

Side = Literal["predicted", "true"]

# Told apart by people who do not see red and green alike (Okabe and Ito): vermillion and sky blue.
COLOURS: dict[Side, str] = {"predicted": "#ff6d1f", "true": "#3fc1ff"}

# A picture is shown about 400 CSS pixels wide; twice that is sharp on any screen.
_LONGEST_SIDE = 800


def in_words(answer: Answer | None) -> str:
    """A short form of an answer; places in whole pixels."""
    return "" if answer is None else answer.in_words


def points_of(answer: Answer | None) -> Sequence[Point]:
    """The places of an answer; none if it has none."""
    return () if answer is None else answer.places


def svg_shapes(answer: Answer | None, side: Side, image: ImageSize | None = None) -> Markup:
    """The answer as SVG elements of class `predicted` or `true`, in pixels of the picture; empty if it is not drawn."""
    outline, marks, words, drawn = [], [], Markup(""), () if answer is None else answer.shapes(image)
    for shape in drawn:
        match shape:
            case Rectangle((x1, y1), (x2, y2)):
                box = Markup('<rect x="{:.2f}" y="{:.2f}" width="{:.2f}" height="{:.2f}"/>')
                outline.append(box.format(x1, y1, x2 - x1, y2 - y1))
            case Dots(points):
                marks += [_dot(point) for point in points]
            case Line(points):
                outline.append(_line(points))
            case Path(points):
                outline.append(_line(points))
                marks += [_dot(point) for point in points]
                if points:
                    marks.append(Markup('<g class="start">{}</g>').format(_dot(points[0])))
            case Label(text):
                words += _words(text, side, image)
    if not drawn:
        return Markup("")
    lines = Markup("").join(outline)
    dots = Markup('<g class="dots">{}</g>').format(Markup("").join(marks)) if marks else Markup("")
    # Drawn twice: a dark line below keeps the colour visible on any picture.
    halo = Markup('<g class="halo">{}{}</g>').format(lines, dots)
    return Markup('<g class="{}">{}{}{}{}</g>').format(side, halo, lines, dots, words)


def _line(points: Sequence[Point]) -> Markup:
    return Markup('<polyline points="{}"/>').format(" ".join(f"{x:.2f},{y:.2f}" for x, y in points))


def _words(text: str, side: Side, image: ImageSize | None) -> Markup:
    """Words in the upper left corner, those of the reference below those of the prediction."""
    height = max(image or (100, 100)) / 18
    style = f"fill:{COLOURS[side]};stroke:#000;stroke-width:{height / 8:.2f}px;paint-order:stroke"
    line = 1 if side == "predicted" else 2
    return Markup('<text x="{:.2f}" y="{:.2f}" font-size="{:.2f}" style="{}">{}</text>').format(
        height / 2, line * 1.3 * height, height, style, text
    )


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


def save_overlay(path: FilePath, picture: Picture | None, answer: Answer | Unparsed | None) -> None:
    """Draws an answer over its picture into a PNG; one that is no place leaves the picture as it is."""
    if picture is None:
        raise RecipeError("there is no picture to draw on; give one with --images.")
    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    width = max(1, round(max(image.size) / 300))
    shapes = answer.shapes(ImageSize(*image.size)) if isinstance(answer, Answer) else ()
    for colour, extra in (("#000000", 2), (COLOURS["predicted"], 0)):
        for shape in shapes:
            _draw(draw, shape, colour, width, extra)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path, "PNG")
    except OSError as error:
        raise RecipeError(f"--overlay: {path} cannot be written: {error}.") from None


def _draw(draw: ImageDraw.ImageDraw, shape: Shape, colour: str, width: int, extra: int) -> None:
    match shape:
        case Rectangle(first, second):
            corners = [(round(x), round(y)) for x, y in (first, second)]
            draw.rectangle(corners, outline=colour, width=width + extra)
        case Path(points) | Line(points):
            draw.line([(x, y) for x, y in points], fill=colour, width=width + extra)
        case Label(text):
            font = ImageFont.load_default(8 * width + 4)
            draw.text((4 * width, 2 * width), text, fill=colour, font=font, stroke_width=extra, stroke_fill=colour)
    if isinstance(shape, Dots | Path):
        for x, y in shape.points:
            radius = 2 * width + extra // 2
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
