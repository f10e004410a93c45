"""Means with honest intervals, and counts."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import ArrayLike

Status = Literal["ok", "unparsable", "model_error", "input_error", "refused"]

# Draws times clusters held in memory at once: 2 million int64 are 16 MB.
_BLOCK = 2_000_000


class Interval(NamedTuple):
    """A 95 % confidence interval; both ends are NaN where nothing is known about the spread."""

    low: float
    high: float


def mean(values: ArrayLike) -> float:
    """The arithmetic mean. There is none of no values: `ValueError`."""
    array = np.asarray(values, dtype=np.float64)
    if not array.size:
        raise ValueError("there is no mean of no values; a report says n = 0 instead")
    return float(array.mean())


def cluster_interval(
    values: Sequence[float], clusters: Sequence[Hashable], seed: int, resamples: int = 2000
) -> Interval:
    """The 95 % interval of the mean, by drawing whole clusters (episodes) with replacement; the same for the same seed.

    Questions about one episode are not independent, so the spread is that between episodes. With fewer than two
    clusters nothing is known about it. Source: percentile bootstrap over clusters (Davison and Hinkley 1997, 3.8).
    """
    array = np.asarray(values, dtype=np.float64)
    if len(array) != len(clusters):
        raise ValueError(f"{len(array)} values belong to {len(clusters)} clusters: one for each is needed")
    numbers: dict[Hashable, int] = {}
    index = np.array([numbers.setdefault(cluster, len(numbers)) for cluster in clusters], dtype=np.intp)
    count = len(numbers)
    if count < 2:
        return Interval(math.nan, math.nan)
    sums, sizes = np.bincount(index, weights=array), np.bincount(index).astype(np.float64)
    generator = np.random.default_rng(seed)
    means = []
    for start in range(0, resamples, block := max(1, _BLOCK // count)):
        drawn = generator.integers(0, count, size=(min(block, resamples - start), count))
        means.append(sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1))
    low, high = np.quantile(np.concatenate(means), (0.025, 0.975))
    return Interval(float(low), float(high))


def status_counts(statuses: Iterable[Status]) -> dict[Status, int]:
    """How many samples ended in each way, those that never happened included; their sum is the number requested."""
    counts: dict[Status, int] = dict.fromkeys(get_args(Status), 0)
    for status in statuses:
        counts[status] += 1  # a status of another name is a KeyError, never a sample that is not counted
    return counts
