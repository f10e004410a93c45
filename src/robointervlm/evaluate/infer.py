"""One question about pictures at hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from robointervlm.core.answer import Answer, Unparsed
from robointervlm.core.coordinates import ImageSize, Space
from robointervlm.core.errors import RecipeError
from robointervlm.core.prompt import Decoding, Message, Picture, Prompt
from robointervlm.core.sample import IMAGE_MARKER, ImageRef
from robointervlm.data import images
from robointervlm.data.episode_frames import DEFAULT_CAMERA, EpisodeFrame, is_frame_key
from robointervlm.models.model import load_model
from robointervlm.tasks import task_named


class Said(NamedTuple):
    """What a model said, and, where a task was named, how that reads in pixels of the first picture."""

    text: str
    answer: Answer | Unparsed | None
    picture: Picture | None


def ask_once(
    section: Mapping[str, object],
    question: str,
    files: Sequence[Path],
    *,
    task: str | None = None,
    decoding: Decoding | None = None,
) -> Said:
    """The answer to one question; pictures stand where `<image>` is in it, or in front of it.

    Everything is checked before the model is loaded. Raises what the model raises.
    """
    reader = task_named(task) if task is not None else None
    text = _with_markers(question, len(files))
    pictures = tuple(images.load(_reference(file)) for file in files)
    model = load_model(section)
    [reply] = model.answer([Prompt((Message("user", text),), pictures)], decoding or Decoding())
    if isinstance(reply, Exception):
        raise reply
    if reader is None:
        return Said(reply.text, None, pictures[0] if pictures else None)
    space = None
    if pictures:
        height, width, _ = pictures[0].shape
        size = ImageSize(width, height)
        space = Space(model.coordinates, size, model.processed_size(size))
    return Said(reply.text, reader.read(reply.text, space), pictures[0] if pictures else None)


def _reference(path: Path) -> ImageRef:
    """A picture's file, or frame N of an LMDB episode: `…/EPISODE#N`, of the camera that datasets have by default."""
    where = path.absolute()
    if not where.exists() and is_frame_key(str(where)):
        frame = EpisodeFrame(where.name.rpartition("#")[0], DEFAULT_CAMERA, int(where.name.rpartition("#")[2]))
        return ImageRef(where.parent, str(frame))
    return ImageRef(where.parent, where.name)


def _with_markers(question: str, pictures: int) -> str:
    markers = question.count(IMAGE_MARKER)
    if markers == 0:
        return f"{IMAGE_MARKER}\n" * pictures + question
    if markers != pictures:
        raise RecipeError(f"the prompt has {markers} {IMAGE_MARKER} marker(s), but {pictures} picture(s) were given.")
    return question
