"""A sample as it is put to one model: its text in the model's coordinates, and the key its answer is kept under."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from robointervlm.core.coordinates import ImageSize, Space
from robointervlm.core.errors import DataError, RefusedError
from robointervlm.core.prompt import Decoding, Message, Picture, Prompt
from robointervlm.core.sample import ImageRef, Sample
from robointervlm.core.writing import answer_to_json
from robointervlm.data import images
from robointervlm.evaluate.questions import Question, Unreadable
from robointervlm.evaluate.recipe import DecodingSettings
from robointervlm.evaluate.records import SCHEMA, Requested, digest
from robointervlm.inference.judging import Problem, unasked
from robointervlm.inference.prompting import Prompted, Sees, prompted
from robointervlm.tasks import Task, task_named


class Answerer(Sees, Protocol):
    """What a question has to know of the model it is put to; every `Model` is one."""

    @property
    def fingerprint(self) -> str: ...


@dataclass(frozen=True)
class Asked:
    """One question ready to be asked, or the `problem` that keeps it from being asked.

    `space` is the coordinates in which the model is asked and answers; None without a picture. `sizes` are those of the
    stored pictures.
    """

    requested: Requested
    task: Task
    references: tuple[ImageRef, ...]
    messages: tuple[Message, ...]
    space: Space | None
    decoding: Decoding
    problem: Problem | None = None
    sizes: tuple[ImageSize, ...] = ()

    def prompt(self, load: Callable[[ImageRef], Picture] = images.load) -> Prompt:
        """The prompt with its pictures loaded. Raises `DataError` or `RefusedError` for a picture that is not good."""
        return Prompt(self.messages, tuple(load(ref) for ref in self.references))


class _PictureFacts(NamedTuple):
    size: ImageSize
    digest: str


class Asker:
    """Prepares samples for one model; pictures that samples share are looked at once."""

    def __init__(self, model: Answerer, settings: DecodingSettings, style: str) -> None:
        self._model = model
        self._settings = settings
        self._style = style
        self._facts: dict[ImageRef, _PictureFacts] = {}

    def asked(self, question: Question) -> Asked:
        """The question as it is put to the model, its pictures checked and hashed but not decoded."""
        task = task_named(question.task)
        if isinstance(question, Unreadable):
            return _not_asked(question, task)
        return self._asked(question, task)

    def _asked(self, sample: Sample, task: Task) -> Asked:
        decoding = self._settings.decoding(task)
        facts: list[_PictureFacts] = []
        put, problem = Prompted((), None), None
        try:
            looked_at = [self._picture_facts(ref) for ref in sample.images]
            first = looked_at[0].size if looked_at else None
            put, facts = prompted(sample, task, self._model, first, style=self._style), looked_at
        except (DataError, RefusedError) as error:
            problem = unasked(error)
        key = self._key(sample, facts, put.messages, space=put.space, decoding=decoding)
        sizes = tuple(fact.size for fact in facts)
        return Asked(requested_of(sample, key), task, sample.images, put.messages, put.space, decoding, problem, sizes)

    def _picture_facts(self, ref: ImageRef) -> _PictureFacts:
        if ref not in self._facts:
            content, size = images.content_and_size(ref)
            self._facts[ref] = _PictureFacts(size, content)
        return self._facts[ref]

    def _key(
        self,
        sample: Sample,
        facts: list[_PictureFacts],
        messages: tuple[Message, ...],
        *,
        space: Space | None,
        decoding: Decoding,
    ) -> str:
        """Differs whenever the answer may: schema, question, picture bytes, decoding, model, coordinates, sizes."""
        return digest(
            [
                SCHEMA,
                sample.task,
                sample.id,
                [ref.path for ref in sample.images] if not facts else [fact.digest for fact in facts],
                [[message.role, message.text] for message in messages],
                [decoding.max_new_tokens, decoding.temperature, decoding.seed],
                self._model.fingerprint,
                self._model.coordinates.value,
                None if space is None else [space.image, space.processed],
            ]
        )


def _not_asked(question: Unreadable, task: Task) -> Asked:
    requested = Requested(
        key=digest([SCHEMA, "unreadable", question.task, question.dataset, question.id, question.reason]),
        id=question.id,
        dataset=question.dataset,
        task=question.task,
        episode="",
        images=(),
        image_size=None,
        answer=None,
        raw_answer="",
    )
    return Asked(requested, task, (), (), None, Decoding(), Problem(question.status, question.reason))


def requested_of(sample: Sample, key: str) -> Requested:
    """The sample's entry in the list of requested questions."""
    return Requested(
        key=key,
        id=sample.id,
        dataset=sample.dataset,
        task=sample.task,
        episode=sample.episode,
        images=tuple((str(ref.root), ref.path) for ref in sample.images),
        image_size=None if sample.size is None else (sample.size.width, sample.size.height),
        answer=answer_to_json(sample.answer),
        raw_answer=sample.raw_answer,
        skill=skill_of(sample),
        follow_links=any(ref.follow_links for ref in sample.images),
    )


def skill_of(sample: Sample) -> str:
    """What the robot does in a sample's episode, as its record says; empty where it says nothing."""
    said = sample.extra.get("skill") or sample.extra.get("primitive")
    return said if isinstance(said, str) else ""
