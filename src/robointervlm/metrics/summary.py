"""Means with honest intervals, and counts."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

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
    return cluster_intervals([values], clusters, seed, resamples)[0]


def cluster_intervals(
    columns: Sequence[Sequence[float]], clusters: Sequence[Hashable], seed: int, resamples: int = 2000
) -> list[Interval]:
    """The intervals of several means over the same questions, by the same draws; each as `cluster_interval` gives it.

    NaN in a column is a question that its mean leaves out. Drawing once for all columns is what makes a report of a
    hundred thousand questions a matter of seconds.
    """
    lengths = {len(column) for column in columns} - {len(clusters)}
    if lengths:
        raise ValueError(f"{lengths.pop()} values belong to {len(clusters)} clusters: one for each is needed")
    numbers: dict[Hashable, int] = {}
    index = np.array([numbers.setdefault(cluster, len(numbers)) for cluster in clusters], dtype=np.intp)
    sums, sizes = _by_cluster(columns, index, len(numbers))
    sampled = _resampled(np.concatenate([sums, sizes], axis=1), seed, resamples)
    with np.errstate(invalid="ignore"):  # a draw without any question of a column
        means = sampled[:, : len(columns)] / sampled[:, len(columns) :]
    known = np.count_nonzero(sizes, axis=0) >= 2
    return [
        Interval(*np.nanquantile(column, (0.025, 0.975)).tolist()) if enough else Interval(math.nan, math.nan)
        for column, enough in zip(means.T, known, strict=True)
    ]


def _by_cluster(columns: Sequence[Sequence[float]], index: NDArray[np.intp], count: int) -> tuple[Floats, Floats]:
    """The sum and the number of the values of each cluster, a column for each of `columns`."""
    sums, sizes = np.zeros((count, len(columns))), np.zeros((count, len(columns)))
    for place, column in enumerate(columns):
        values = np.asarray(column, dtype=np.float64)
        there = ~np.isnan(values)
        sums[:, place] = np.bincount(index[there], weights=values[there], minlength=count)
        sizes[:, place] = np.bincount(index[there], minlength=count)
    return sums, sizes


def _resampled(totals: Floats, seed: int, resamples: int) -> Floats:
    """The totals of so many draws of whole clusters, shape (resamples, columns)."""
    count = len(totals)
    if not count:
        return np.full((resamples, totals.shape[1]), math.nan)
    generator = np.random.default_rng(seed)
    sampled = []
    for start in range(0, resamples, block := max(1, _BLOCK // count)):
        drawn = generator.integers(0, count, size=(min(block, resamples - start), count))
        times = np.stack([np.bincount(row, minlength=count) for row in drawn])
        sampled.append(times @ totals)
    return np.concatenate(sampled)
