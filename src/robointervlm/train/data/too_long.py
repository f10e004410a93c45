"""Samples that have more tokens than a recipe allows, counted before the first step: none of them is ever cut.

Without packing nothing else has to know how long a sample is, so most are not tokenized: a text has at most as many
tokens as bytes, and what a picture takes follows from its size. Only what may exceed the limit by that is counted.
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from robointervlm.core.errors import DataError, RoboInterError
from robointervlm.data import images
from robointervlm.runs.files import write_atomically
from robointervlm.train.data.dataset import TrainingDataset
from robointervlm.train.recipe import BatchSection
from robointervlm.train.setting_names import name_of, written

logger = logging.getLogger(__name__)

TOO_LONG = "too_long.json"
# How many are named.
NAMED = 5
# Fewer samples are looked at by one process.
_ALONE = 1000
_BLOCK = 512
# What Unicode's composed form can make of a character's bytes, at most.
_NORMALISED = 3


@dataclass(frozen=True)
class TooLong:
    """How many of the mixture's samples are longer than `max_tokens`; the first ones by id and number of tokens."""

    count: int
    samples: int
    max_tokens: int
    first: tuple[tuple[str, int], ...]

    def __str__(self) -> str:
        named = ", ".join(f"{name} ({tokens:,} tokens)" for name, tokens in self.first)
        more = ", …" if self.count > len(self.first) else ""
        return (
            f"{self.count:,} of {self.samples:,} samples are longer than {name_of('batch.max_tokens')}="
            f"{self.max_tokens:,}: {named}{more}"
        )


def judge(found: TooLong, batch: BatchSection) -> None:
    """Say how many are left out, or raise `DataError` where the recipe leaves none out or nothing would be left."""
    if not found.count:
        return
    if found.count < found.samples and batch.too_long == "drop":
        logger.warning("%s. They are left out, as %s says.", found, written({"batch.too_long": "drop"}))
        return
    drop = "" if found.count == found.samples else f"leave them out with {written({'batch.too_long': 'drop'})}, "
    raise DataError(
        f"{found}. Nothing was trained: a sample is never cut. To go on, {drop}raise "
        f"{name_of('batch.max_tokens')}, or lower {name_of('model.max_pixels')}, which makes pictures smaller."
    )


def too_long_in(feed: TrainingDataset, folder: Path, *, begun: bool, processes: int) -> TooLong:
    """Those of a mixture that is not packed; of a run that has begun, as they were counted then."""
    path = folder / TOO_LONG
    if begun and path.is_file():
        try:
            values = {**json.loads(path.read_text(encoding="utf-8"))}
            return TooLong(**{**values, "first": tuple((name, tokens) for name, tokens in values["first"])})
        except (OSError, ValueError, TypeError, KeyError) as error:
            logger.warning("%s cannot be read (%s); the samples are counted again", path, error)
    found = counted(feed, processes)
    if not begun:
        write_atomically(path, json.dumps(vars(found), indent=1) + "\n")
    return found


def counted(feed: TrainingDataset, processes: int) -> TooLong:
    """Count by looking at every record, and at the headers of pictures whose size is not said."""
    count, samples = 0, 0
    first: list[tuple[str, int]] = []
    for positions in feed.mixture.positions:
        # A record that is taken several times is looked at once.
        records, places, times = np.unique(positions, return_index=True, return_counts=True)
        blocks = np.array_split(places + samples, max(1, len(records) // _BLOCK))
        found = dict(each for block in _made(feed, blocks, processes) for each in block)
        repeated = dict(zip((places + samples).tolist(), times.tolist(), strict=True))
        count += sum(repeated[index] for index in found)
        first += [(feed.mixture[index].id, found[index]) for index in sorted(found)[: NAMED - len(first)]]
        samples += len(positions)
    return TooLong(count, samples, feed.max_tokens, tuple(first))


Lengths = list[tuple[int, int]]


def _made(feed: TrainingDataset, blocks: Sequence[np.ndarray], processes: int) -> Iterator[Lengths]:
    if processes <= 1 or len(blocks) <= _ALONE // _BLOCK:
        yield from (_lengths(feed, block.tolist()) for block in blocks)
        return
    logger.info("looking for samples that are longer than %d tokens …", feed.max_tokens)
    # Forked, as the loading processes are: the tokenizer and the places of the records are there already.
    with multiprocessing.get_context("fork").Pool(processes, _begin, (feed,)) as pool:
        yield from pool.imap(_work, [block.tolist() for block in blocks])


_mine: list[TrainingDataset] = []
"""The feed of a process that only looks; empty in every other one."""


def _begin(feed: TrainingDataset) -> None:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    _mine[:] = [feed]


def _work(indices: list[int]) -> Lengths:
    return _lengths(_mine[0], indices)


def _lengths(feed: TrainingDataset, indices: Sequence[int]) -> Lengths:
    """The samples among these that are too long, with their tokens; what cannot be read the loop counts and names."""
    found = []
    for index in indices:
        try:
            tokens = _tokens(feed, index)
        except RoboInterError:
            continue
        if tokens > feed.max_tokens:
            found.append((index, tokens))
    return found


def _tokens(feed: TrainingDataset, index: int) -> int:
    """How many tokens a sample has; 0 if that is known to be few enough. Random crops are not looked at."""
    sample, chat = feed.mixture[index], feed.encoder.chat
    sizes = [reference.size or images.size(reference) for reference in sample.images]
    grids = [feed.encoder.limits.grid(size) for size in sizes]
    messages = feed.messages(sample, sample.turns, sizes[0] if sizes else None)
    text = chat.rendered(messages, open_answer=False)
    most = len(text) if text.isascii() else _NORMALISED * len(text.encode("utf-8", "replace"))
    if most + sum(grid.tokens for grid in grids) <= feed.max_tokens:
        return 0
    return len(chat.supervised(messages, grids).ids)
