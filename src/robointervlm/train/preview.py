"""What is about to be learned, shown before step 0: the conversation with its supervised part marked, and a picture."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageDraw

from robointervlm.core.answer import Answer, Box, Points, Trajectory
from robointervlm.core.prompt import Picture
from robointervlm.models.qwen2_5_vl.chat import IGNORED, Chat
from robointervlm.models.qwen2_5_vl.encoder import Encoded

# Green like the "true" layer of the report.
INK = (22, 163, 74)


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


def drawn(picture: Picture, answer: Answer, path: Path) -> None:
    """Save the picture, enlarged to at least 640 pixels, with the answer drawn over it."""
    scale = max(1, round(640 / picture.shape[1]))
    image = Image.fromarray(picture).resize((picture.shape[1] * scale, picture.shape[0] * scale))
    draw = ImageDraw.Draw(image)
    match answer:
        case Box() as box:
            draw.rectangle([value * scale for value in (box.x1, box.y1, box.x2, box.y2)], outline=INK, width=3)
        case Points(points) | Trajectory(points):
            scaled = [(x * scale, y * scale) for x, y in points]
            if isinstance(answer, Trajectory):
                draw.line(scaled, fill=INK, width=3)
            for x, y in scaled:
                draw.ellipse([x - 4, y - 4, x + 4, y + 4], fill=INK)
        case _:
            pass
    image.save(path)
