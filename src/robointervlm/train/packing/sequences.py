"""Rows of several samples: which of them share their pictures, which row each stands in, and the row as a batch.

The plan is a function of the mixture, the seed and the token lengths alone. Lengths are those of the samples' texts and
picture sizes, an upper bound where a random crop may write longer numbers, so that no row exceeds `batch.max_tokens`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from robointervlm.core.errors import DataError, RoboInterError
from robointervlm.core.sample import Sample
from robointervlm.data.mixture import Mixture
from robointervlm.inference.prompting import refuse_other_size
from robointervlm.models.qwen2_5_vl.encoder import Encoded
from robointervlm.models.qwen2_5_vl.packed import packed
from robointervlm.train.data.augment import augmented_together
from robointervlm.train.data.dataset import Bad, MicroBatch, TooLongError, TrainingDataset, stored_size
from robointervlm.train.data.image_cache import Cut, Loaded, cut
from robointervlm.train.packing.lengths import Measured, lengths_of, stamp
from robointervlm.train.packing.plan import Group, Lengths, Row, Rows, rows_of
from robointervlm.train.recipe import TrainRecipe


class PlanNumbers(NamedTuple):
    """What an epoch's rows hold: samples, and of these the ones that are too long or cannot be read; rows; tokens.

    `alone`: the tokens if nothing were shared; `longest`: those of the longest row; `unused`: what the rows leave of
    `batch.max_tokens`. Nothing is padded.
    """

    samples: int
    left_out: int
    rows: int
    tokens: int
    alone: int
    longest: int
    unused: int


class PackedPlan:
    """Which samples make each step: row r of the run is a row of its epoch, `accumulate` x processes rows a step.

    Every sample of the mixture stands in exactly one row of each epoch.
    """

    def __init__(self, mixture: Mixture, recipe: TrainRecipe, processes: int, lengths: Lengths) -> None:
        self.mixture = mixture
        self.lengths = lengths
        self.accumulate = recipe.batch.accumulate
        self.processes = processes
        self._max_tokens = recipe.batch.max_tokens
        self._most = recipe.batch.max_questions_per_image
        self._epochs: dict[int, Rows] = {}
        self._starts = [0]
        rows_per_step = self.accumulate * processes
        if recipe.run.max_steps is not None:
            self.steps = recipe.run.max_steps
        else:
            whole, part = divmod(recipe.run.epochs, 1)
            rows = self._start(int(whole)) + (int(part * len(self.rows(int(whole)))) if part else 0)
            # A step that the last epoch cannot fill is left out; at least one is made.
            self.steps = max(1, rows // rows_per_step)
        # How many samples a step has on average; the rows decide how many each really has.
        self.step_size = max(1, round(len(mixture) * rows_per_step / len(self.rows(0))))

    def micro_batch(self, rank: int, number: int) -> Row:
        """This rank's row of this number, counted over the whole run: `accumulate` of them make a step."""
        place = number * self.processes + rank
        epoch = 0
        while self._start(epoch + 1) <= place:
            epoch += 1
        return self.rows(epoch)[place - self._starts[epoch]]

    def rows(self, epoch: int) -> Rows:
        """All rows of an epoch, in order."""
        if epoch not in self._epochs:
            # A step may hold the end of one epoch and the beginning of the next.
            self._epochs = {near: rows for near, rows in self._epochs.items() if abs(near - epoch) <= 1}
            rows = rows_of(self.mixture.order(epoch), epoch, self.lengths, most=self._most, max_tokens=self._max_tokens)
            if epoch == 0:
                # If memory does not suffice, that shows at once; from step 2 on the optimizer's state takes its share.
                rows = rows.longest_first(self.lengths, (self.accumulate * self.processes, 0))
            self._epochs[epoch] = rows
        return self._epochs[epoch]

    def summary(self) -> str:
        """What the first epoch's rows hold, and what they would hold if nothing were shared, in one line."""
        found = self.numbers()
        return (
            f"{found.samples:,} samples in {found.rows:,} rows an epoch, up to {found.longest:,} tokens in a row; "
            f"{found.tokens:,} tokens in all, {found.alone:,} if nothing were shared"
        )

    def numbers(self) -> PlanNumbers:
        """What the first epoch's rows hold."""
        rooms = self.rows(0).rooms(self.lengths)
        return PlanNumbers(
            samples=len(self.mixture),
            left_out=int((self.lengths.tokens == 0).sum()),
            rows=len(rooms),
            tokens=int(rooms.sum()),
            alone=int(self.lengths.tokens.sum()),
            longest=int(rooms.max()),
            unused=len(rooms) * self._max_tokens - int(rooms.sum()),
        )

    def _start(self, epoch: int) -> int:
        """The number of the first row of an epoch, counted over the whole run."""
        while len(self._starts) <= epoch:
            self._starts.append(self._starts[-1] + len(self.rows(len(self._starts) - 1)))
        return self._starts[epoch]


@dataclass(frozen=True)
class PackedDataset:
    """Loads, varies and encodes the samples of a row, each shared picture once; picklable, as `TrainingDataset` is.

    A group has one random variation, drawn from (seed, epoch, its first sample): a group of one is varied as it would
    be without packing. `stamps` are those of the samples' pictures as the plan knows them; a sample with another one
    is bad, since it may have been planned with samples that it shares nothing with any more.
    """

    feed: TrainingDataset
    stamps: NDArray[np.uint64]

    def __call__(self, wanted: Row) -> MicroBatch:
        encoder = self.feed.encoder
        micro = MicroBatch([], encoder.blank(), [], [])
        groups = [encoded for group in wanted if (encoded := self._encoded(group, micro))]
        if groups:
            micro.batch = packed(encoder, groups)
        micro.pixels = self.feed.pixel_counts()
        return micro

    def _encoded(self, group: Group, micro: MicroBatch) -> list[Encoded]:
        """The samples that can be used; the others, and the ids of these, are noted in `micro`."""
        samples, loaded = self._loaded(group, micro.bad)
        turns = [sample.turns for sample in samples]
        if samples and len(loaded) == 1 and not isinstance(loaded[0], Cut):
            random = np.random.default_rng([self.feed.seed, group.epoch, group.samples[0]])
            loaded[0], turns = augmented_together(loaded[0], turns, self.feed.augment, random)
        cuts = [cut(each, self.feed.encoder.limits) for each in loaded]
        size = cuts[0].size if cuts else None
        patches, grids = [each.patches for each in cuts], [each.grid for each in cuts]
        found = []
        for sample, conversation in zip(samples, turns, strict=True):
            try:
                tokens = self.feed.encoder.chat.supervised(self.feed.messages(sample, conversation, size), grids)
                self.feed.refuse_too_long(len(tokens.ids))
            except TooLongError as error:
                micro.too_long.append(Bad(sample.id, str(error)))
            except RoboInterError as error:
                micro.bad.append(Bad(sample.id, str(error)))
            else:
                found.append(Encoded(tokens.ids, tokens.labels, patches, grids))
                micro.ids.append(sample.id)
        return found

    def _loaded(self, group: Group, bad: list[Bad]) -> tuple[list[Sample], list[Loaded]]:
        """The readable samples of a group and their pictures, decoded once: the same for all of them."""
        samples: list[Sample] = []
        loaded: list[Loaded] | None = None
        for index in group.samples:
            sample_id = f"#{index}"
            try:
                sample = self.feed.mixture[index]
                sample_id = sample.id
                if self.stamps[index] != stamp(sample):
                    raise DataError("its pictures changed since they were measured; start again.")
                if loaded is None:
                    loaded = self.feed.loaded(sample.images)
                refuse_other_size(sample, stored_size(loaded))
                samples.append(sample)
            except RoboInterError as error:
                bad.append(Bad(sample_id, str(error)))
        return samples, loaded or []


def packing(
    feed: TrainingDataset, recipe: TrainRecipe, processes: int, measured: Measured | None = None
) -> tuple[PackedDataset, PackedPlan]:
    """How a recipe with `batch.pack` other than none gets its batches; its samples are measured if they are not yet."""
    lengths, stamps = lengths_of(feed, recipe.batch) if measured is None else measured
    return PackedDataset(feed, stamps), PackedPlan(feed.mixture, recipe, processes, lengths)
