"""Rows of several samples: which of them share their pictures, which row each stands in, and the row as a batch.

The plan is a function of the mixture, the seed and the token lengths alone. Lengths are those of the samples' texts and
picture sizes, an upper bound where a random crop may write longer numbers, so that no row exceeds `batch.max_tokens`.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from robointervlm.core.coordinates import ImageSize, Point
from robointervlm.core.errors import DataError, RoboInterError
from robointervlm.core.prompt import Picture
from robointervlm.core.sample import ImageRef, Sample, Turn
from robointervlm.data import images
from robointervlm.data.mixture import Mixture
from robointervlm.models.qwen2_5_vl.encoder import Encoded
from robointervlm.models.qwen2_5_vl.packed import packed, shareable
from robointervlm.train.augment import MARGIN, augmented_together, moved_turns
from robointervlm.train.feed import Bad, Feed, MicroBatch, TooLongError, refuse_other_size
from robointervlm.train.recipe import BatchSection, TrainRecipe

# How many rows are open for the next group at once: enough to leave little of a row unused, few enough to stay mixed.
OPEN_ROWS = 16


class Group(NamedTuple):
    """Samples of one epoch that share their pictures, by their place in the mixture."""

    epoch: int
    samples: tuple[int, ...]


Row = tuple[Group, ...]


@dataclass(frozen=True)
class Lengths:
    """What the plan knows of each sample; arrays of shape (samples,).

    `tokens` is the length, 0 for a sample that cannot be read or is too long: it takes no room and is counted when its
    turn comes. Samples of one `group` have the same pictures and the same first `shared` tokens.
    """

    tokens: NDArray[np.int64]
    shared: NDArray[np.int64]
    group: NDArray[np.int64]

    @classmethod
    def of(cls, feed: Feed, batch: BatchSection) -> Lengths:
        """Read every sample's text and pictures' headers and hashes once; no picture is decoded.

        Raises `DataError` for the first sample that is longer than `batch.max_tokens`, unless these are dropped.
        """
        measure = _Measure(feed)
        numbers: dict[tuple[object, ...], int] = {}
        rows = np.zeros((len(feed.mixture), 3), dtype=np.int64)
        for index in range(len(rows)):
            measured = measure(index)
            try:
                feed.refuse_too_long(measured.tokens)
            except TooLongError as error:
                if batch.too_long == "error":
                    raise DataError(f"sample {feed.mixture[index].id}: {error}") from None
                measured = _Measured(0, 0, "")
            alone = batch.pack != "shared" or not measured.shared
            key = (index,) if alone else (measured.shared, measured.key)
            rows[index] = measured.tokens, 0 if alone else measured.shared, numbers.setdefault(key, len(numbers))
        return cls(rows[:, 0], rows[:, 1], rows[:, 2])

    def room(self, samples: Sequence[int]) -> int:
        """How many tokens a group takes at most: what is shared once, the rest of each sample."""
        places = list(samples)
        shared = int(self.shared[places[0]])
        return shared + int((self.tokens[places] - shared).sum())


class _Measured(NamedTuple):
    tokens: int
    shared: int
    key: str


@dataclass
class _Measure:
    """Measures samples; each picture file is looked at once."""

    feed: Feed
    seen: dict[ImageRef, tuple[str, ImageSize]] = field(default_factory=dict)

    def __call__(self, index: int) -> _Measured:
        try:
            sample = self.feed.mixture[index]
            pictures = [self._picture(reference) for reference in sample.images]
            return self._measured(sample, pictures)
        except RoboInterError:
            return _Measured(0, 0, "")  # the feed names it and counts it

    def _picture(self, reference: ImageRef) -> tuple[str, ImageSize]:
        if reference not in self.seen:
            self.seen[reference] = images.content_hash(reference), images.size(reference)
        return self.seen[reference]

    def _measured(self, sample: Sample, pictures: Sequence[tuple[str, ImageSize]]) -> _Measured:
        encoder = self.feed.encoder
        size = pictures[0][1] if pictures else None
        grids = [encoder.limits.grid(each) for _, each in pictures]
        written = [
            encoder.chat.supervised(self.feed.messages(sample, turns, size), grids)
            for turns in self._variants(sample.turns, size if len(pictures) == 1 else None)
        ]
        tokens = max(len(each.ids) for each in written)
        shared = shareable(Encoded(written[0].ids, written[0].labels, [], grids), encoder.chat.image_token_id)
        digest = hashlib.sha256(repr([name for name, _ in pictures]).encode() + written[0].ids[:shared].tobytes())
        return _Measured(tokens, shared, digest.hexdigest())

    def _variants(self, turns: tuple[Turn, ...], size: ImageSize | None) -> Iterator[tuple[Turn, ...]]:
        """The conversation as it is and, where crops move its places, with the longest numbers these can become."""
        yield turns
        if size is not None and self.feed.augment.crop_min < 1:
            for share in (1 + MARGIN, -MARGIN):

                def corner(_: Point, share: float = share, size: ImageSize = size) -> Point:
                    return share * size.width, share * size.height

                yield moved_turns(turns, corner)


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
        self.identity = recipe.batch.model_dump(include={"pack", "max_tokens", "max_questions_per_image", "too_long"})
        self._max_tokens = recipe.batch.max_tokens
        self._most = recipe.batch.max_questions_per_image
        self._epochs: dict[int, list[Row]] = {}
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

    def rows(self, epoch: int) -> list[Row]:
        """All rows of an epoch, in order."""
        if epoch not in self._epochs:
            # A step may hold the end of one epoch and the beginning of the next.
            self._epochs = {near: rows for near, rows in self._epochs.items() if abs(near - epoch) <= 1}
            rows = [tuple(Group(epoch, samples) for samples in row) for row in self._filled(self._groups(epoch))]
            self._epochs[epoch] = self._longest_first(rows) if epoch == 0 else rows
        return self._epochs[epoch]

    def _longest_first(self, rows: list[Row]) -> list[Row]:
        """The rows with the longest one at the head of the second step, and the next one at the head of the first.

        If memory does not suffice, that shows at once; from the second step on the optimizer's state takes its share.
        """
        second = self.accumulate * self.processes
        places = (second, 0) if second < len(rows) else (0,)
        for row, place in zip(heapq.nlargest(2, rows, key=self.room), places, strict=False):
            other = rows.index(row)
            rows[place], rows[other] = row, rows[place]
        return rows

    def room(self, row: Row) -> int:
        """How many tokens a row has at most."""
        return sum(self.lengths.room(group.samples) for group in row)

    def summary(self) -> str:
        """What the first epoch's rows hold, and what they would hold if nothing were shared, in one line."""
        found = self.numbers()
        return (
            f"{found.samples:,} samples in {found.rows:,} rows an epoch, up to {found.longest:,} tokens in a row; "
            f"{found.tokens:,} tokens in all, {found.alone:,} if nothing were shared"
        )

    def numbers(self) -> PlanNumbers:
        """What the first epoch's rows hold."""
        rooms = [self.room(row) for row in self.rows(0)]
        return PlanNumbers(
            samples=len(self.mixture),
            left_out=int((self.lengths.tokens == 0).sum()),
            rows=len(rooms),
            tokens=sum(rooms),
            alone=int(self.lengths.tokens.sum()),
            longest=max(rooms),
            unused=len(rooms) * self._max_tokens - sum(rooms),
        )

    def _start(self, epoch: int) -> int:
        """The number of the first row of an epoch, counted over the whole run."""
        while len(self._starts) <= epoch:
            self._starts.append(self._starts[-1] + len(self.rows(len(self._starts) - 1)))
        return self._starts[epoch]

    def _groups(self, epoch: int) -> list[tuple[int, ...]]:
        """The samples in the order of the epoch, those that share their pictures drawn together to the first one."""
        groups: list[list[int]] = []
        latest: dict[int, list[int]] = {}
        for index in self.mixture.order(epoch).tolist():
            group = latest.get(int(self.lengths.group[index]))
            if group is None or len(group) == self._most or self.lengths.room([*group, index]) > self._max_tokens:
                group = latest[int(self.lengths.group[index])] = []
                groups.append(group)
            group.append(index)
        return [tuple(group) for group in groups]

    def _filled(self, groups: list[tuple[int, ...]]) -> Iterator[list[tuple[int, ...]]]:
        """Each group in the first open row that has room for it and does not hold its pictures yet."""
        rows: list[_OpenRow] = []
        for samples in groups:
            room, kind = self.lengths.room(samples), int(self.lengths.group[samples[0]])
            row = next((row for row in rows if row.tokens + room <= self._max_tokens and kind not in row.kinds), None)
            if row is None:
                if len(rows) == OPEN_ROWS:
                    fullest = max(rows, key=lambda row: row.tokens)
                    rows.remove(fullest)
                    yield fullest.groups
                row = _OpenRow()
                rows.append(row)
            row.groups.append(samples)
            row.kinds.add(kind)
            row.tokens += room
        yield from (row.groups for row in rows)


@dataclass
class _OpenRow:
    groups: list[tuple[int, ...]] = field(default_factory=list)
    kinds: set[int] = field(default_factory=set)
    tokens: int = 0


@dataclass(frozen=True)
class PackedFeed:
    """Loads, varies and encodes the samples of a row, each shared picture once; picklable, as `Feed` is.

    A group has one random variation, drawn from (seed, epoch, its first sample): a group of one is varied as it would
    be without packing.
    """

    feed: Feed

    def __call__(self, wanted: Row) -> MicroBatch:
        encoder = self.feed.encoder
        micro = MicroBatch([], encoder.blank(), [], [])
        groups = [encoded for group in wanted if (encoded := self._encoded(group, micro))]
        if groups:
            micro.batch = packed(encoder, groups)
        return micro

    def _encoded(self, group: Group, micro: MicroBatch) -> list[Encoded]:
        """The samples that can be used; the others, and the ids of these, are noted in `micro`."""
        samples, pictures = self._loaded(group, micro.bad)
        turns = [sample.turns for sample in samples]
        if samples and len(pictures) == 1:
            random = np.random.default_rng([self.feed.seed, group.epoch, group.samples[0]])
            picture, turns = augmented_together(pictures[0], turns, self.feed.augment, random)
            pictures = [picture]
        size = ImageSize(pictures[0].shape[1], pictures[0].shape[0]) if pictures else None
        patches, grids = self.feed.encoder.pixels(pictures)
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

    def _loaded(self, group: Group, bad: list[Bad]) -> tuple[list[Sample], list[Picture]]:
        """The readable samples of a group and their pictures, decoded once: the same for all of them."""
        samples: list[Sample] = []
        pictures: list[Picture] | None = None
        for index in group.samples:
            sample_id = f"#{index}"
            try:
                sample = self.feed.mixture[index]
                sample_id = sample.id
                if pictures is None:
                    pictures = [images.load(reference) for reference in sample.images]
                refuse_other_size(sample, pictures)
                samples.append(sample)
            except RoboInterError as error:
                bad.append(Bad(sample_id, str(error)))
        return samples, pictures or []


def packing(feed: Feed, recipe: TrainRecipe, processes: int) -> tuple[PackedFeed, PackedPlan]:
    """How a recipe with `batch.pack` other than none gets its batches."""
    lengths = Lengths.of(feed, recipe.batch)
    return PackedFeed(feed), PackedPlan(feed.mixture, recipe, processes, lengths)
