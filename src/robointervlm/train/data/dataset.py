"""Samples on their way to the model: which ones make each step, and how each is loaded, varied and encoded.

The order is a function of the mixture, the seed and the step alone; so are the random variations of each sample. A run
that resumes at step k therefore sees exactly what an undisturbed one would have seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from robointervlm.core.coordinates import ImageSize
from robointervlm.core.errors import RoboInterError
from robointervlm.core.prompt import Message, Picture
from robointervlm.core.sample import ImageRef, Sample, Turn
from robointervlm.data import images
from robointervlm.data.annotations import RecordError, RecordProblem, RefusedRecordError
from robointervlm.data.mixture import Mixture
from robointervlm.inference.prompting import refuse_other_size
from robointervlm.models.qwen2_5_vl.encoder import Batch, Encoded, Encoder
from robointervlm.train.data.augment import augmented
from robointervlm.train.data.image_cache import Cut, Loaded, PixelCache, PixelCounts, cut
from robointervlm.train.data.labels import model_space, taught
from robointervlm.train.data.workers import naming_lost_workers
from robointervlm.train.recipe import AugmentSection, TrainRecipe
from robointervlm.train.setting_names import name_of, written

# How many samples of a dataset tell how long its samples usually are.
LENGTH_SAMPLES = 8


@dataclass(frozen=True)
class Bad:
    """A sample that could not be loaded: counted, never replaced by another one."""

    id: str
    reason: str


@dataclass
class MicroBatch:
    """What one process handles at once: the samples in `ids`, which is all that is left without the others."""

    ids: list[str]
    batch: Batch
    bad: list[Bad]
    too_long: list[Bad]
    pixels: PixelCounts = PixelCounts()


class Plan:
    """The sampler, which samples make each step: position p of the run is sample p mod n of epoch p div n.

    The samples of one step are put into micro-batches by their usual length, so that little is padded; the loss is a
    mean over all tokens of the step, so this changes no gradient. `lengths` is the usual length for each dataset.
    """

    def __init__(self, mixture: Mixture, recipe: TrainRecipe, processes: int, lengths: Sequence[float]) -> None:
        self.mixture = mixture
        self.per_device = recipe.batch.per_device
        self.accumulate = recipe.batch.accumulate
        self.processes = processes
        self.step_size = self.per_device * self.accumulate * processes
        if recipe.run.max_steps is not None:
            self.steps = recipe.run.max_steps
        else:
            # A step that the last epoch cannot fill is left out; at least one is made.
            self.steps = max(1, int(recipe.run.epochs * len(mixture)) // self.step_size)
        self._lengths = lengths
        self._epoch = -1
        self._order = np.empty(0, dtype=np.int64)

    def step_samples(self, step: int) -> list[tuple[int, int]]:
        """The samples of a step as (epoch, index in the mixture), shortest first."""
        start = step * self.step_size
        samples = [self._sample_at(position) for position in range(start, start + self.step_size)]
        # Sorting is stable: samples of one dataset keep the order of the epoch.
        return sorted(samples, key=lambda sample: self._lengths[self.mixture.locate(sample[1])[0]])

    def micro_batch(self, rank: int, number: int) -> list[tuple[int, int]]:
        """This rank's micro-batch of this number, counted over the whole run: `accumulate` of them make a step."""
        step, turn = divmod(number, self.accumulate)
        # Every other turn the ranks take them in reverse, so that no rank has all the longer ones.
        place = turn * self.processes + (rank if turn % 2 == 0 else self.processes - 1 - rank)
        return self.step_samples(step)[place * self.per_device : (place + 1) * self.per_device]

    def _sample_at(self, position: int) -> tuple[int, int]:
        epoch, place = divmod(position, len(self.mixture))
        if epoch != self._epoch:
            self._epoch, self._order = epoch, self.mixture.order(epoch)
        return epoch, int(self._order[place])


@dataclass(frozen=True)
class TrainingDataset:
    """Loads, varies and encodes samples; picklable, so that data-loading processes can have it."""

    mixture: Mixture
    encoder: Encoder
    augment: AugmentSection
    seed: int
    max_tokens: int
    pixels: PixelCache | None = None

    def __call__(self, wanted: Sequence[tuple[int, int]]) -> MicroBatch:
        ids: list[str] = []
        encoded: list[Encoded] = []
        bad: list[Bad] = []
        too_long: list[Bad] = []
        for epoch, index in wanted:
            sample_id = f"#{index}"
            try:
                sample = self.mixture[index]
                sample_id = sample.id
                encoded.append(self._encoded(sample, epoch, index))
                ids.append(sample_id)
            except TooLongError as error:
                too_long.append(Bad(sample_id, str(error)))
            except RoboInterError as error:
                bad.append(Bad(sample_id, str(error)))
        batch = self.encoder.batch(encoded) if encoded else self.encoder.blank()
        return MicroBatch(ids, batch, bad, too_long, self.pixel_counts())

    def usual_lengths(self) -> list[float]:
        """The mean number of tokens of the first samples of each dataset of the mixture; 0 where none is readable."""
        lengths: list[list[int]] = [[] for _ in self.mixture.table()]
        start = 0
        for part, row in enumerate(self.mixture.table()):
            for index in range(start, start + min(row.taken, LENGTH_SAMPLES)):
                with suppress(RoboInterError):
                    lengths[part].append(len(self.example(index)[2].ids))
            start += row.taken
        return [sum(found) / len(found) if found else 0.0 for found in lengths]

    def example(self, index: int) -> tuple[tuple[Turn, ...], list[Picture], Encoded]:
        """A sample as the model will first meet it: the turns in pixels, the pictures, the tokens."""
        sample = self.mixture[index]
        pictures = [images.load(reference) for reference in sample.images]
        refuse_other_size(sample, stored_size(pictures))
        turns = sample.turns
        if self._varies(sample.images):
            turns, pictures[0] = self._varied(sample, pictures[0], 0, index)
        return turns, pictures, self._tokens(sample, turns, pictures)

    def problem(self, index: int) -> RecordProblem | None:
        """What keeps a sample from being trained on, with its place in the annotation file; None if nothing does."""
        try:
            self.example(index)
        except (RecordError, RefusedRecordError) as error:
            return error.problem
        except RoboInterError as error:
            part, position = self.mixture.locate(index)
            sample = self.mixture[index]
            return self.mixture.datasets[part].problem(position, "images" * bool(sample.images), str(error), sample.id)
        return None

    def loaded(self, references: Sequence[ImageRef]) -> list[Loaded]:
        """The pictures of a sample: as they are, if they are to be varied, and cut already otherwise."""
        if self.pixels is not None and not self._varies(references):
            return [self.pixels.cut(reference, self.encoder.limits) for reference in references]
        pictures = [images.load(reference) for reference in references]
        return list(pictures) if self._varies(references) else [cut(each, self.encoder.limits) for each in pictures]

    def same_in_each_epoch(self) -> set[ImageRef]:
        """The places of all pictures of the mixture that are never varied, which are those worth keeping."""
        found: set[ImageRef] = set()
        for index in range(len(self.mixture)):
            with suppress(RoboInterError):
                sample = self.mixture[index]
                found.update(() if self._varies(sample.images) else sample.images)
        return found

    def pixel_counts(self) -> PixelCounts:
        """What the cache of pixels did in this process since it was asked last."""
        return PixelCounts() if self.pixels is None else self.pixels.counts()

    def refuse_too_long(self, tokens: int) -> None:
        """Raise `TooLongError` for a sample of more tokens than the recipe allows."""
        if tokens > self.max_tokens:
            raise TooLongError(
                f"{tokens} tokens, {name_of('batch.max_tokens')} is {self.max_tokens}; leave such samples out with "
                f"{written({'batch.too_long': 'drop'})}, which a run that has begun takes, too."
            )

    def messages(self, sample: Sample, turns: tuple[Turn, ...], size: ImageSize | None) -> tuple[Message, ...]:
        """The conversation as it is taught, its places in the coordinates of a first picture of this size."""
        space = model_space(self.encoder.coordinates, size, self.encoder.limits.processed(size) if size else None)
        return taught(sample.task, turns, space)

    def _encoded(self, sample: Sample, epoch: int, index: int) -> Encoded:
        loaded, turns = self.loaded(sample.images), sample.turns
        refuse_other_size(sample, stored_size(loaded))
        if len(loaded) == 1 and not isinstance(loaded[0], Cut):
            turns, loaded[0] = self._varied(sample, loaded[0], epoch, index)
        encoded = self._tokens(sample, turns, loaded)
        self.refuse_too_long(len(encoded.ids))
        return encoded

    def _tokens(self, sample: Sample, turns: tuple[Turn, ...], loaded: Sequence[Loaded]) -> Encoded:
        cuts = [cut(each, self.encoder.limits) for each in loaded]
        grids = [each.grid for each in cuts]
        tokens = self.encoder.chat.supervised(self.messages(sample, turns, cuts[0].size if cuts else None), grids)
        return Encoded(tokens.ids, tokens.labels, [each.patches for each in cuts], grids)

    def _varies(self, references: Sequence[ImageRef]) -> bool:
        """Whether a sample with these pictures looks different in each epoch."""
        return len(references) == 1 and (self.augment.crop_min < 1 or self.augment.brightness > 0)

    def _varied(self, sample: Sample, picture: Picture, epoch: int, index: int) -> tuple[tuple[Turn, ...], Picture]:
        random = np.random.default_rng([self.seed, epoch, index])
        varied, turns = augmented(picture, sample.turns, self.augment, random)
        return turns, varied


def stored_size(pictures: Sequence[Loaded]) -> ImageSize | None:
    """The size, as stored, of the first of a sample's pictures in memory; None where it has none."""
    if not pictures:
        return None
    first = pictures[0]
    return first.size if isinstance(first, Cut) else ImageSize(first.shape[1], first.shape[0])


class TooLongError(RoboInterError):
    """A sample that has more tokens than the recipe allows; never cut."""


class Planned(Protocol):
    """What the loop and the loader need to know of a plan."""

    @property
    def steps(self) -> int: ...
    @property
    def accumulate(self) -> int: ...
    @property
    def processes(self) -> int: ...
    @property
    def step_size(self) -> int: ...

    def micro_batch(self, rank: int, number: int) -> Sequence[Any]:
        """What the loading function is given for this rank's micro-batch of this number."""
        ...


Load = Callable[[Any], MicroBatch]
"""Makes a micro-batch of what a plan holds: `TrainingDataset` for a `Plan`, `PackedDataset` for a `PackedPlan`."""


def loader(  # noqa: PLR0913 - all by name
    load: Load, plan: Planned, *, rank: int, first_step: int, workers: int, timeout: float = 60
) -> Iterator[MicroBatch]:
    """This rank's micro-batches in order, prepared by `workers` processes (0: by this one).

    Raises `LostProcessError` if one of them dies or they give nothing for `timeout` seconds.
    """
    wanted = _Wanted(load, plan, rank, first_step)
    if not workers:
        yield from (wanted[index] for index in range(len(wanted)))
        return
    prepared = torch.utils.data.DataLoader(
        wanted,
        batch_size=None,
        num_workers=workers,
        prefetch_factor=4,
        timeout=timeout,
        multiprocessing_context="fork",
    )
    yield from naming_lost_workers(iter(prepared), timeout)


class _Wanted(torch.utils.data.Dataset[MicroBatch]):
    """The micro-batches of one rank from a step on, by number."""

    def __init__(self, load: Load, plan: Planned, rank: int, first_step: int) -> None:
        self.load, self.plan, self.rank = load, plan, rank
        self.first = first_step * plan.accumulate

    def __len__(self) -> int:
        return self.plan.steps * self.plan.accumulate - self.first

    def __getitem__(self, index: int) -> MicroBatch:
        return self.load(self.plan.micro_batch(self.rank, self.first + index))
