"""The questions of a recipe: every record of its data, the ones that cannot be read included."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass

from robointervlm.core.errors import DataError
from robointervlm.core.sample import Sample
from robointervlm.data.annotations import RecordError, RefusedRecordError
from robointervlm.data.mixture import Mixture
from robointervlm.data.spec import Catalog, DatasetSpec, spec_of_file
from robointervlm.evaluate.recipe import Data, EvaluationRecipe
from robointervlm.inference.judging import Status
from robointervlm.tasks import task_named

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
    questions = list(_read(mixture, count))
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
        return Mixture([_spec_of(data)], seed=data.seed, root=data.root, follow_links=data.follow_links)
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


def _spec_of(data: Data) -> DatasetSpec:
    assert data.file is not None
    assert data.task is not None  # the recipe was checked
    task_named(data.task)
    if not data.file.is_file():
        raise DataError(f"data.file: {data.file} does not exist.")
    spec = spec_of_file(data.file, task=data.task, images=data.image_dir, coordinates=data.coordinates)
    return spec.model_copy(update={"resize_limits": data.resize_limits})


def _read(mixture: Mixture, count: int) -> Iterator[Question]:
    for index in range(count):
        try:
            yield mixture[index]
        except (RecordError, RefusedRecordError) as error:
            part, record = mixture.locate(index)
            spec = mixture.datasets[part].spec
            status: Status = "refused" if isinstance(error, RefusedRecordError) else "input_error"
            yield Unreadable(error.problem.id or f"record {record}", spec.name, spec.task, str(error), status)
