"""The questions of a recipe, those that cannot be read included, and each as it is put to one model.

As it is put: its text in the model's coordinates, and the key that its answer is kept under.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from robointervlm.core.coordinates import ImageSize, Space
from robointervlm.core.errors import DataError, RefusedError
from robointervlm.core.prompt import Decoding, Message, Picture, Prompt
from robointervlm.core.sample import ImageRef, Sample
from robointervlm.core.writing import answer_to_json
from robointervlm.data import images
from robointervlm.data.annotations import RecordError, RefusedRecordError
from robointervlm.data.mixture import Mixture
from robointervlm.data.spec import Catalog, spec_of_file
from robointervlm.evaluate.recipe import Data, DecodingSettings, EvaluationRecipe
from robointervlm.evaluate.records import SCHEMA, Requested, digest
from robointervlm.inference.judging import Problem, Status, unasked
from robointervlm.inference.prompting import Prompted, Sees, prompted
from robointervlm.tasks import Task, task_named

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Unreadable:
    """A record that no question could be made of. It was asked for, so it is counted.

    `status` is `refused` for one that names a file it must not, else `input_error`.
    """

    id: str
    dataset: str
    task: str
    reason: str
    status: Status = "input_error"


Question = Sample | Unreadable


def questions_of(recipe: EvaluationRecipe) -> list[Question]:
    """Every question of the recipe's data, in order.

    Raises `DataError` where no record at all can be read, which is a wrong recipe rather than a few bad records.
    """
    mixture = mixture_of(recipe.data)
    count = len(mixture) if recipe.limit is None else min(recipe.limit, len(mixture))
    questions: list[Question] = []
    for index in range(count):
        try:
            questions.append(mixture[index])
        except (RecordError, RefusedRecordError) as error:
            part, record = mixture.locate(index)
            spec = mixture.datasets[part].spec
            status: Status = "refused" if isinstance(error, RefusedRecordError) else "input_error"
            name = error.problem.id or f"record {record}"
            questions.append(Unreadable(name, spec.name, spec.task, str(error), status))
    bad = [question for question in questions if isinstance(question, Unreadable)]
    if bad and len(bad) == len(questions):
        raise DataError(f"none of the {len(bad)} records can be read. The first: {bad[0].reason}")
    for question in bad[:20]:
        logger.warning("%s", question.reason)
    if bad:
        logger.warning(
            "%d of %d records cannot be read; they count as failed. `robointer data check` lists them.",
            len(bad),
            len(questions),
        )
    return questions


def mixture_of(data: Data) -> Mixture:
    """The recipe's data as a mixture: of catalogued datasets, or of the one file it names."""
    if data.file is not None:
        assert data.task is not None  # the recipe was checked
        task_named(data.task)
        if not data.file.is_file():
            raise DataError(f"data.file: {data.file} does not exist.")
        spec = spec_of_file(data.file, task=data.task, images=data.image_dir, coordinates=data.coordinates)
        spec = spec.model_copy(update={"resize_limits": data.resize_limits})
        return Mixture([spec], seed=data.seed, root=data.root, follow_links=data.follow_links)
    mixture = Mixture(
        data.mixture,
        seed=data.seed,
        root=data.root,
        catalog=Catalog(*data.catalog),
        split="val",
        follow_links=data.follow_links,
    )
    trained = [dataset.spec.name for dataset in mixture.datasets if dataset.spec.split == "train"]
    if trained:
        logger.warning("evaluating on training sets, which a model may know by heart: %s", ", ".join(trained))
    return mixture


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
            problem = Problem(question.status, question.reason)
            return Asked(_requested_unread(question), task, (), (), None, Decoding(), problem)
        decoding = self._settings.decoding(task)
        facts: list[_PictureFacts] = []
        put, found = Prompted((), None), None
        try:
            for ref in question.images:
                if ref not in self._facts:
                    content, size = images.content_and_size(ref)
                    self._facts[ref] = _PictureFacts(size, content)
            looked_at = [self._facts[ref] for ref in question.images]
            first = looked_at[0].size if looked_at else None
            put, facts = prompted(question, task, self._model, first, style=self._style), looked_at
        except (DataError, RefusedError) as error:
            found = unasked(error)
        requested = requested_of(question, self._key(question, facts, put, decoding))
        sizes = tuple(fact.size for fact in facts)
        return Asked(requested, task, question.images, put.messages, put.space, decoding, found, sizes)

    def _key(self, sample: Sample, facts: list[_PictureFacts], put: Prompted, decoding: Decoding) -> str:
        """Differs whenever the answer may: schema, question, picture bytes, decoding, model, coordinates, sizes."""
        return digest(
            [
                SCHEMA,
                sample.task,
                sample.id,
                [ref.path for ref in sample.images] if not facts else [fact.digest for fact in facts],
                [[message.role, message.text] for message in put.messages],
                [decoding.max_new_tokens, decoding.temperature, decoding.seed],
                self._model.fingerprint,
                self._model.coordinates.value,
                None if put.space is None else [put.space.image, put.space.processed],
            ]
        )


def _requested_unread(question: Unreadable) -> Requested:
    return Requested(
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


def requested_of(sample: Sample, key: str) -> Requested:
    """The sample's entry in the list of requested questions."""
    skill = sample.extra.get("skill") or sample.extra.get("primitive")  # what the robot does, where the record says it
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
        skill=skill if isinstance(skill, str) else "",
        follow_links=any(ref.follow_links for ref in sample.images),
    )
