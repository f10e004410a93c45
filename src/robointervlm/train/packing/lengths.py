"""What packing has to know of every sample, measured once and kept: length, what it shares, what its pictures hold.

No picture is decoded; each file is read once for its hash and header. Of a large dataset the measures are kept in the
cache (see `data.index`), under everything they depend on: the annotation file, the dataset's entry, the tokenizer and
its template, the pixel limits and the edition of the code that writes conversations. Each row also holds a stamp of
the sample's picture files, sizes and times, so that a changed picture is noticed. A row is whole or not there, so that
work which was interrupted goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import json
import logging
import multiprocessing
import os
import struct
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tokenizers
import transformers
from numpy.typing import NDArray

from robointervlm.core import plugins
from robointervlm.core.coordinates import ImageSize, Point
from robointervlm.core.errors import RoboInterError
from robointervlm.core.sample import ImageRef, Sample, Turn
from robointervlm.data import images, index
from robointervlm.data.records import Annotations
from robointervlm.models.qwen2_5_vl.encoder import Encoded, Encoder
from robointervlm.models.qwen2_5_vl.images import Grid
from robointervlm.models.qwen2_5_vl.packed import shareable
from robointervlm.tasks import is_ours
from robointervlm.train.data.augment import MARGIN, moved_turns
from robointervlm.train.data.dataset import TrainingDataset
from robointervlm.train.data.too_long import NAMED, TooLong, judge
from robointervlm.train.packing.plan import Lengths
from robointervlm.train.recipe import BatchSection

logger = logging.getLogger(__name__)

# Tokens of the sample and of its prefix, 0 of one that cannot be read; a hash of pictures and prefix; the stamp, 0 of
# one that was not measured yet. 32 bytes, so that no row lies across two pages.
MEASURE = np.dtype([("tokens", "<i4"), ("shared", "<i4"), ("key", "<u8", (2,)), ("stamp", "<u8")])
# Raised whenever the code between a record and its tokens makes other tokens of the same record: reading, tasks,
# conversations, what is shared. A test holds what each edition makes, and fails when that changes and this does not.
EDITION = 1
# Fewer samples are measured in a second or two; more are measured once.
STORE_FROM_SAMPLES = 1000
BLOCK = 512
# How many samples of a dataset whose measures are kept are held against their picture files before a run begins.
CHECKED = 500
# How many pictures a process remembers: samples about one picture stand near each other.
REMEMBERED = 20_000

Measures = NDArray[Any]
"""Rows of `MEASURE`, one for each record that a dataset takes."""
Progress = Callable[[int, int], None]


def stamp(sample: Sample, status: Callable[[ImageRef], bytes] | None = None) -> int:
    """Size and time of change of the files of each of the sample's pictures, as one number that is not 0.

    `status` may know them already.
    """
    digest = hashlib.blake2b(digest_size=8)
    for reference in sample.images:
        digest.update((status or _status)(reference))
    return int.from_bytes(digest.digest(), "little") or 1


def _status(reference: ImageRef) -> bytes:
    """Size and time of change of a picture's file, or of those it lies in, or that one is missing."""
    try:
        return _changed(os.path.join(reference.root, reference.path))  # noqa: PTH118 - for millions
    except (OSError, ValueError):
        pass  # in an archive or an episode, or missing
    try:
        return b"".join([_changed(file) for file in images.files(reference)])
    except (OSError, RoboInterError):
        return b"missing;"


def _changed(file: str | Path) -> bytes:
    status = os.stat(file)  # noqa: PTH116 - for millions
    return f"{status.st_size} {status.st_mtime_ns};".encode()


class _Facts(NamedTuple):
    """A picture's content by its hash, its size, and the patches that are made of it."""

    content: str
    size: ImageSize
    grid: Grid


@dataclass
class Measurer:
    """Measures the samples of one dataset."""

    feed: TrainingDataset
    annotations: Annotations
    # By path: all pictures of a dataset have one root.
    _seen: OrderedDict[str, _Facts] = field(default_factory=OrderedDict)

    def rows(self, positions: Sequence[int], known: Sequence[int]) -> Measures:
        """The measures of samples; of one whose stamp is still the known one nothing but the stamp is set."""
        rows = np.zeros(len(positions), dtype=MEASURE)
        states: dict[str, bytes] = {}

        def status(reference: ImageRef) -> bytes:
            if reference.path not in states:
                states[reference.path] = _status(reference)
            return states[reference.path]

        for row, (position, before) in enumerate(zip(positions, known, strict=True)):
            try:
                sample = self.annotations[position]
            except RoboInterError:
                rows[row]["stamp"] = 1  # the feed names it and counts it
                continue
            now = stamp(sample, status)
            rows[row] = (*(self._measured(sample) if now != before else (0, 0, (0, 0))), now)
        return rows

    def _measured(self, sample: Sample) -> tuple[int, int, tuple[int, ...]]:
        chat = self.feed.encoder.chat
        try:
            pictures = [self._picture(reference) for reference in sample.images]
            size = pictures[0].size if pictures else None
            grids = [picture.grid for picture in pictures]
            written = [
                chat.supervised(self.feed.messages(sample, turns, size), grids)
                for turns in self._variants(sample.turns, size if len(pictures) == 1 else None)
            ]
        except RoboInterError:
            return 0, 0, (0, 0)
        shared = shareable(Encoded(written[0].ids, written[0].labels, [], grids), chat.image_token_id)
        digest = hashlib.sha256("".join([picture.content for picture in pictures]).encode())
        digest.update(written[0].ids[:shared].tobytes())
        return max(len(each.ids) for each in written), shared, struct.unpack("<2Q", digest.digest()[:16])

    def _picture(self, reference: ImageRef) -> _Facts:
        found = self._seen.get(reference.path)
        if found is None:
            if len(self._seen) >= REMEMBERED:
                self._seen.popitem(last=False)
            content, size = images.content_and_size(reference)
            found = self._seen[reference.path] = _Facts(content, size, self.feed.encoder.limits.grid(size))
        return found

    def _variants(self, turns: tuple[Turn, ...], size: ImageSize | None) -> Iterator[tuple[Turn, ...]]:
        """The conversation as it is and, where crops move its places, with the longest numbers these can become."""
        yield turns
        if size is not None and self.feed.augment.crop_min < 1:
            for share in (1 + MARGIN, -MARGIN):

                def corner(_: Point, share: float = share, size: ImageSize = size) -> Point:
                    return share * size.width, share * size.height

                yield moved_turns(turns, corner)


@dataclass(frozen=True)
class Work:
    """How measures are made: by how many processes, and who is told of the progress."""

    processes: int = 1
    progress: Progress | None = None
    check: bool = False
    """Whether every sample is held against its picture files, rather than some."""


def cores() -> int:
    """How many processes this one may use at once."""
    return len(os.sched_getaffinity(0))


def measures_of(feed: TrainingDataset, annotations: Annotations, work: Work) -> Measures:
    """The measures of a dataset: those that are kept, completed. One process makes them, others wait for it."""
    count = len(annotations)
    if count >= STORE_FROM_SAMPLES:
        try:
            path = index.place("measures", annotations.file.path, _key(feed, annotations))
            path.parent.mkdir(parents=True, exist_ok=True)
            with index.locked(path):
                rows = _opened(path, count)
                _complete(rows, feed, annotations, work)
                rows.flush()
                index.forget_others(path)
            return rows
        except OSError as error:
            logger.warning(
                "the measures of '%s' are kept in memory only: %s; set %s to a folder that can be written",
                *(annotations.spec.name, error, index.CACHE_VARIABLE),
            )
    held = np.zeros(count, dtype=MEASURE)
    _complete(held, feed, annotations, work)
    return held


def _opened(path: Path, count: int) -> np.memmap[Any, Any]:
    """The kept rows, to be completed; rows of zeros if there are none."""
    try:
        rows: np.memmap[Any, Any] = np.lib.format.open_memmap(path, mode="r+")
        if rows.dtype == MEASURE and rows.shape == (count,):
            return rows
    except (FileNotFoundError, ValueError, EOFError):
        pass
    made: np.memmap[Any, Any] = np.lib.format.open_memmap(path, mode="w+", dtype=MEASURE, shape=(count,))
    return made


def _complete(rows: Measures, feed: TrainingDataset, annotations: Annotations, work: Work) -> None:
    """Measure what is not measured, could not be read, or (as far as that is checked) has other pictures now."""
    measurer = Measurer(feed, annotations)
    before = np.flatnonzero(rows["tokens"] > 0)
    fill(rows, measurer, np.arange(len(rows)) if work.check else np.flatnonzero(rows["tokens"] == 0), work)
    if work.check or not len(before):
        return
    some = np.unique(before[np.linspace(0, len(before) - 1, min(CHECKED, len(before))).astype(np.int64)])
    if fill(rows, measurer, some, Work()):
        logger.warning("pictures of '%s' changed since they were measured; all are looked at", annotations.spec.name)
        fill(rows, measurer, before, work)


def fill(rows: Measures, measurer: Measurer, todo: NDArray[np.int64], work: Work) -> int:
    """Measure these samples unless their stamp is still the same; returns how many had another one."""
    changed = 0
    blocks = [todo[start : start + BLOCK] for start in range(0, len(todo), BLOCK)]
    tasks = [(block, np.where(rows["tokens"][block] > 0, rows["stamp"][block], 0)) for block in blocks]
    for number, (block, found) in enumerate(zip(blocks, _made(measurer, tasks, work.processes), strict=True)):
        new = found["stamp"] != tasks[number][1]
        rows[block[new]] = found[new]
        changed += int((new & (tasks[number][1] > 0)).sum())
        if work.progress is not None:
            work.progress(min(len(todo), (number + 1) * BLOCK), len(todo))
    return changed


_Task = tuple[NDArray[np.int64], NDArray[np.uint64]]


def _made(measurer: Measurer, tasks: Sequence[_Task], processes: int) -> Iterator[Measures]:
    """The rows of each task, in order."""
    if processes <= 1 or len(tasks) <= 1:
        yield from (measurer.rows(positions.tolist(), known.tolist()) for positions, known in tasks)
        return
    # Forked, as the loading processes are: the tokenizer and the places of the records are there already.
    with multiprocessing.get_context("fork").Pool(processes, _begin, (measurer,)) as pool:
        yield from pool.imap(_work, tasks)


_mine: list[Measurer] = []
"""The measurer of a measuring process; empty in every other one."""


def _begin(measurer: Measurer) -> None:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    _mine[:] = [measurer]


def _work(task: _Task) -> Measures:
    return _mine[0].rows(task[0].tolist(), task[1].tolist())


# What a plan has to know of the samples of a mixture, and for each what its images were when it was measured.
Measured = tuple[Lengths, NDArray[np.uint64]]


def lengths_of(feed: TrainingDataset, batch: BatchSection) -> Measured:
    """What a plan has to know of the samples of the feed's mixture, and their stamps.

    Raises `DataError` if samples are longer than `batch.max_tokens`, unless these are dropped, which is said.
    """
    mixture = feed.mixture
    work = Work(processes=cores())
    rows = np.concatenate(
        [
            measures_of(feed, annotations, work)[positions]
            for annotations, positions in zip(mixture.datasets, mixture.positions, strict=True)
        ]
    )
    too_long = np.flatnonzero(rows["tokens"] > feed.max_tokens)
    first = tuple((mixture[int(index)].id, int(rows["tokens"][index])) for index in too_long[:NAMED])
    judge(TooLong(len(too_long), len(mixture), feed.max_tokens, first), batch)
    for name in ("tokens", "shared"):
        rows[name][too_long] = 0
    tokens, shared = rows["tokens"].astype(np.int64), rows["shared"].astype(np.int64)
    if batch.pack != "shared":
        shared[:] = 0
    return Lengths(tokens, shared, _groups(shared, rows["key"])), rows["stamp"]


def _groups(shared: NDArray[np.int64], keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    """One number for the samples of each key; a number of its own for a sample that shares nothing."""
    groups = np.arange(len(shared))
    sharing = np.flatnonzero(shared)
    if len(sharing):
        ordered = sharing[np.lexsort((keys[sharing, 1], keys[sharing, 0]))]
        begins = np.concatenate([[True], (keys[ordered[1:]] != keys[ordered[:-1]]).any(axis=1)])
        groups[ordered] = ordered[np.flatnonzero(begins)][np.cumsum(begins) - 1]
    return groups


def _key(feed: TrainingDataset, annotations: Annotations) -> str:
    """Everything a dataset's measures depend on, beside the annotation file and the pictures."""
    parts = (
        MEASURE.descr,
        annotations.spec.model_dump_json(),
        os.path.realpath(annotations.image_root),
        feed.augment.crop_min < 1,
        _encoder_key(feed.encoder),
        EDITION,
        _own_source(annotations.spec.task),
    )
    return repr(parts)


def _own_source(task: str) -> str:
    """The source of the plugins for a task of one, which no edition of ours tells apart; empty for one of ours."""
    return "" if is_ours(task) else plugins.source()


def _encoder_key(encoder: Encoder) -> str:
    tokenizer: Any = encoder.chat.tokenizer
    written = [tokenizer.backend_tokenizer.to_str(), json.dumps(tokenizer.chat_template)]
    written += [repr(encoder.limits), encoder.coordinates.value, tokenizers.__version__, transformers.__version__]
    return hashlib.sha256("\0".join(written).encode()).hexdigest()
