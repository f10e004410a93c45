"""Questions about pictures at hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from robointervlm.core.answer import Answer, Unparsed
from robointervlm.core.coordinates import ImageSize
from robointervlm.core.errors import RecipeError
from robointervlm.core.prompt import Decoding, Message, Picture, Prompt
from robointervlm.core.sample import IMAGE_MARKER, ImageRef
from robointervlm.data import images
from robointervlm.data.episode_frames import DEFAULT_CAMERA, EpisodeFrame, is_frame_key
from robointervlm.inference.prompting import space_of
from robointervlm.models.model import Model, load_model
from robointervlm.tasks import Task, task_named


class Said(NamedTuple):
    """What a model said, and, where a task was named, how that reads in pixels of the first picture."""

    text: str
    answer: Answer | Unparsed | None
    picture: Picture | None


class ImageQuestion(NamedTuple):
    """A question that was checked: what is asked, and the task that its answer is read as."""

    prompt: Prompt
    reader: Task | None


def image_question(question: str, files: Sequence[Path], *, task: str | None = None) -> ImageQuestion:
    """The question with its pictures loaded; they stand where `<image>` is in it, or in front of it.

    Raises `RecipeError` for a task or a number of `<image>` that does not fit, and what a picture raises.
    """
    reader = task_named(task) if task is not None else None
    markers = question.count(IMAGE_MARKER)
    if markers not in (0, len(files)):
        raise RecipeError(f"the prompt has {markers} {IMAGE_MARKER} marker(s), but {len(files)} picture(s) were given.")
    text = question if markers else f"{IMAGE_MARKER}\n" * len(files) + question
    pictures = tuple(images.load(_reference(file)) for file in files)
    return ImageQuestion(Prompt((Message("user", text),), pictures), reader)


def ask(model: Model, asked: ImageQuestion, decoding: Decoding) -> Said:
    """The model's answer. Raises what the model raises."""
    [reply] = model.answer([asked.prompt], decoding)
    if isinstance(reply, Exception):
        raise reply
    pictures = asked.prompt.pictures
    first = pictures[0] if pictures else None
    if asked.reader is None:
        return Said(reply.text, None, first)
    space = space_of(model, None if first is None else ImageSize(first.shape[1], first.shape[0]))
    return Said(reply.text, asked.reader.read(reply.text, space), first)


def ask_once(
    section: Mapping[str, object],
    question: str,
    files: Sequence[Path],
    *,
    task: str | None = None,
    decoding: Decoding | None = None,
) -> Said:
    """The answer of the model that a recipe's `model` section describes, which is loaded once all else is checked."""
    asked = image_question(question, files, task=task)
    return ask(load_model(section), asked, decoding or Decoding())


def _reference(path: Path) -> ImageRef:
    """A picture's file, or frame N of an LMDB episode: `…/EPISODE#N`, of the camera that datasets have by default."""
    where = path.absolute()
    if not where.exists() and is_frame_key(str(where)):
        frame = EpisodeFrame(where.name.rpartition("#")[0], DEFAULT_CAMERA, int(where.name.rpartition("#")[2]))
        return ImageRef(where.parent, str(frame))
    return ImageRef(where.parent, where.name)
