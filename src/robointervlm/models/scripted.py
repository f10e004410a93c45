"""Answers from a list or by a rule, at once and without weights: for tests, dry runs and tutorials.

The script is a JSON object from key to answer. A key is the question as the model is asked it (`question_of`), or,
where the same question is asked of several pictures, `<digest of the pictures> <question>` (`key_of`). A value is the
answer's text, or `{"error": "…"}` for a question that fails.

A folder with such a script as `answers.json` and a `config.json` of `{"model_type": "scripted"}` and any keys of the
section stands wherever a checkpoint does.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from robointervlm.core.coordinates import MAX_PIXELS, MIN_PIXELS, CoordinateFormat, ImageSize, smart_resize
from robointervlm.core.errors import ModelError, RecipeError
from robointervlm.core.prompt import Decoding, Prompt, Reply
from robointervlm.core.sample import IMAGE_MARKER
from robointervlm.models.locate import model_folder


class Section(BaseModel):
    """The `model` section of a recipe; `answers` is a JSON file, `constant` is said where the file has nothing.

    `path` is a folder that holds them instead.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: Path | None = None
    answers: Path | None = None
    constant: str | None = None
    coordinates: CoordinateFormat = CoordinateFormat.PIXEL
    min_pixels: int = MIN_PIXELS
    max_pixels: int = MAX_PIXELS
    name: str = "scripted"
    delay_seconds: float = Field(default=0.0, ge=0)
    # For fault tests: each answered question adds a line here; a batch larger than `fits` runs out of memory.
    calls_file: Path | None = None
    fits: int | None = Field(default=None, ge=0)


def load(section: Section) -> ScriptedModel:
    """The model of this section; raises `RecipeError` if it has nothing to say."""
    if section.path is not None:
        section = _of_folder(section.path, section)
    answers: Mapping[str, object] = {}
    if section.answers is not None:
        try:
            answers = json.loads(section.answers.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise RecipeError(f"model.answers: {section.answers} cannot be read as JSON: {error}.") from None
        if not isinstance(answers, dict):
            raise RecipeError(f"model.answers: {section.answers} holds no JSON object from question to answer.")
    elif section.constant is None:
        raise RecipeError("the scripted model needs model.answers=FILE.json or model.constant=TEXT.")
    return ScriptedModel(section, answers)


def _of_folder(folder: Path, section: Section) -> Section:
    """The section that a folder's config.json says; what the recipe says goes before it."""
    folder = Path(model_folder(str(folder)))
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        config.pop("model_type", None)
        said = {"answers": folder / "answers.json"} if (folder / "answers.json").exists() else {}
        return Section.model_validate(config | said | section.model_dump(exclude={"path"}, exclude_unset=True))
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise RecipeError(f"model.path: {folder} is no scripted model: {error}.") from None


class ScriptedModel:
    """A `Model` that looks its answers up."""

    def __init__(self, section: Section, answers: Mapping[str, object]) -> None:
        self.name = section.name
        self.coordinates = section.coordinates
        self._section = section
        self._answers = answers
        said = json.dumps([dict(answers), section.constant, section.coordinates.value], sort_keys=True)
        self.fingerprint = f"scripted-{hashlib.sha256(said.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}"

    def processed_size(self, image: ImageSize) -> ImageSize:
        if self.coordinates is not CoordinateFormat.RESIZED:
            return image
        return smart_resize(image, min_pixels=self._section.min_pixels, max_pixels=self._section.max_pixels)

    def answer(self, prompts: Sequence[Prompt], decoding: Decoding) -> list[Reply | Exception]:
        if self._section.fits is not None and len(prompts) > self._section.fits:
            raise MemoryError(f"a batch of {len(prompts)} does not fit; {self._section.fits} would")
        return [self._one(prompt, decoding) for prompt in prompts]

    def _one(self, prompt: Prompt, decoding: Decoding) -> Reply | Exception:
        started = time.perf_counter()
        time.sleep(self._section.delay_seconds)
        key = key_of(prompt)
        if self._section.calls_file is not None:
            descriptor = os.open(self._section.calls_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
            try:
                os.write(descriptor, f"{hashlib.sha256(key.encode()).hexdigest()}\n".encode())
            finally:
                os.close(descriptor)
        said = self._answers.get(key, self._answers.get(question_of(prompt), self._section.constant))
        if isinstance(said, str):
            words = said.split()
            cut = " ".join(words[: decoding.max_new_tokens])
            complete = len(words) <= decoding.max_new_tokens
            return Reply(
                text=said if complete else cut,
                seconds=time.perf_counter() - started,
                input_tokens=len(question_of(prompt).split()),
                output_tokens=min(len(words), decoding.max_new_tokens),
                finish_reason="stop" if complete else "length",
            )
        reason = said.get("error") if isinstance(said, dict) else None
        return ModelError(str(reason or f"the script has no answer for: {key[:200]}"))


def question_of(prompt: Prompt) -> str:
    """The last user text without its image markers and the space around them."""
    text = next((message.text for message in reversed(prompt.messages) if message.role == "user"), "")
    return text.replace(IMAGE_MARKER, "").strip()


def key_of(prompt: Prompt) -> str:
    """The question with a digest of the pictures in front, for scripts in which one question is asked of many."""
    if not prompt.pictures:
        return question_of(prompt)
    digest = hashlib.sha256()
    for picture in prompt.pictures:
        digest.update(str(picture.shape).encode())
        digest.update(picture.tobytes())
    return f"{digest.hexdigest()[:16]} {question_of(prompt)}"
