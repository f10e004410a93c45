"""What is about to be learned, shown before step 0: conversations as they are taught, rows and pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path as FilePath

from PIL import Image, ImageDraw, ImageFont

from robointervlm.core.answer import Answer
from robointervlm.core.coordinates import ImageSize
from robointervlm.core.prompt import Picture
from robointervlm.core.shapes import Dots, Label, Line, Path, Rectangle, Shape
from robointervlm.models.qwen2_5_vl.chat import IGNORED, Chat
from robointervlm.models.qwen2_5_vl.encoder import Batch, Encoded

# Green like the "true" layer of the report, then others that are told apart by people who do not see red and green.
INKS = ((22, 163, 74), (0, 114, 178), (213, 94, 0), (204, 121, 167), (230, 159, 0), (86, 180, 233))
# Drawn below each line, so that it is seen on any picture.
_HALO = (0, 0, 0)
# About how wide a picture is shown, in pixels; one of several is smaller.
_WIDTH, _TILE_WIDTH = 640, 320
# How many characters of a segment are shown.
_TEXT = 160


def marked(encoded: Encoded, chat: Chat) -> str:
    """The decoded sample with what is learned between «» and a run of image tokens written as a count."""
    pieces: list[str] = []
    start = 0
    ids, learned = encoded.ids.tolist(), (encoded.labels != IGNORED).tolist()
    while start < len(ids):
        end = start
        while (
            end < len(ids)
            and learned[end] == learned[start]
            and (ids[end] == chat.image_token_id) == (ids[start] == chat.image_token_id)
        ):
            end += 1
        if ids[start] == chat.image_token_id:
            pieces.append(f"[{end - start} image tokens]")
        else:
            text = str(chat.tokenizer.decode(ids[start:end]))
            pieces.append(f"«{text}»" if learned[start] else text)
        start = end
    return "".join(pieces)


def row_structure(batch: Batch, chat: Chat) -> str:
    """A packed row, a line for each segment: its place, what it continues, and the end of its text."""
    assert batch.segments is not None
    ids, labels = batch.ids_BL[0].numpy(), batch.labels_BL[0].numpy()
    lines = [f"{batch.tokens} tokens, {len(batch.segments.parts)} segments, {batch.supervised} tokens learned:"]
    continued = {(part.prefix_start, part.prefix_end) for part in batch.segments.parts if part.prefix}
    for part in batch.segments.parts:
        if part.prefix:
            kind = f"continues {part.prefix_start}-{part.prefix_end}"
        else:
            kind = "shared prefix" if (part.start, part.end) in continued else "alone"
        text = marked(Encoded(ids[part.start : part.end], labels[part.start : part.end], [], []), chat)
        shown = " ".join(text.split())
        if len(shown) > _TEXT:
            shown = f"{shown[: _TEXT // 3]} … {shown[-2 * _TEXT // 3 :]}"
        lines.append(f"{part.start:6}-{part.end:<6} {kind}  {shown}")
    return "\n".join(lines)


def drawn(pictures: Sequence[Picture], answers: Sequence[Answer], path: FilePath) -> None:
    """Save the pictures side by side, numbered if there are several, with every answer drawn over the first one.

    Answers are in pixels of the first picture. Each is drawn in a colour of its own.
    """
    width = _WIDTH if len(pictures) == 1 else _TILE_WIDTH
    tiles = [_enlarged(picture, width) for picture in pictures]
    scale = tiles[0].width / pictures[0].shape[1]
    size = ImageSize(round(tiles[0].width / scale), round(tiles[0].height / scale))
    draw = ImageDraw.Draw(tiles[0])
    for place, answer in enumerate(answers):
        for ink, wider in ((_HALO, 2), (INKS[place % len(INKS)], 0)):
            for shape in answer.shapes(size):
                _draw_shape(draw, shape, scale, ink, wider)
    if len(tiles) > 1:
        font = ImageFont.load_default(16)
        for number, tile in enumerate(tiles, 1):
            draw = ImageDraw.Draw(tile)
            draw.rectangle((0, 0, 26, 24), fill=(0, 0, 0))
            draw.text((13, 12), str(number), fill=(255, 255, 255), font=font, anchor="mm")
    _side_by_side(tiles).save(path)


def _enlarged(picture: Picture, width: int) -> Image.Image:
    """A small picture by a whole factor, so that its pixels are seen as they are; a larger one is made smaller."""
    image = Image.fromarray(picture)
    scale: float = max(1, round(width / image.width))
    if image.width > 2 * width:
        scale = 2 * width / image.width
    return image.resize((round(image.width * scale), round(image.height * scale)))


def _draw_shape(draw: ImageDraw.ImageDraw, shape: Shape, scale: float, ink: tuple[int, int, int], wider: int) -> None:
    match shape:
        case Rectangle((left, top), (right, bottom)):
            # The line lies around the box, its inner edge on the outline.
            x1, y1, x2, y2 = (value * scale for value in (left, top, right, bottom))
            grown = wider / 2
            draw.rectangle((x1 - grown, y1 - grown, x2 + grown, y2 + grown), outline=ink, width=3 + wider)
        case Label(text):
            draw.text((8, 8), text, fill=ink, font=ImageFont.load_default(22), stroke_width=wider, stroke_fill=ink)
        case Line(points) | Path(points):
            draw.line([(x * scale, y * scale) for x, y in points], fill=ink, width=3 + wider)
    if isinstance(shape, Dots | Path):
        for number, (x, y) in enumerate((x * scale, y * scale) for x, y in shape.points):
            # A way begins at its large dot.
            radius = (7 if isinstance(shape, Path) and number == 0 else 4) + wider / 2
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=ink)


def _side_by_side(tiles: Sequence[Image.Image], columns: int = 4, gap: int = 6) -> Image.Image:
    if len(tiles) == 1:
        return tiles[0]
    width, height = max(tile.width for tile in tiles), max(tile.height for tile in tiles)
    columns = min(columns, len(tiles))
    rows = -(-len(tiles) // columns)
    sheet = Image.new("RGB", (columns * (width + gap) - gap, rows * (height + gap) - gap), (255, 255, 255))
    for place, tile in enumerate(tiles):
        row, column = divmod(place, columns)
        sheet.paste(tile, (column * (width + gap), row * (height + gap)))
    return sheet
