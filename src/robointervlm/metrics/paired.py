"""Two models asked the same questions: tests of their difference, its interval, and how many questions would show it.

A difference is always first minus second, question by question. Questions about one episode are not independent: what
is flipped, drawn and counted here is the episode, the cluster.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Hashable, Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

ALPHA = 0.05
POWER = 0.8

# Up to this many clusters every pattern of signs is tried: 2 ** 12 are 4096.
_EXACT_CLUSTERS = 12
_BLOCK = 2_000_000


class Permutation(NamedTuple):
    """The two-sided p value of a permutation test, over so many patterns of signs: all there are if `exact`."""

    p: float
    exact: bool
    patterns: int


def mcnemar(first_only: int, second_only: int) -> float:
    """The exact two-sided p value of two accuracies on the same questions, from those that only one of them got right.

    Under the null hypothesis either is right as often as the other: the smaller count is binomial with 1/2, and its
    lower tail is doubled, 1 at most. Where nothing is discordant the two cannot differ: 1.
    Source: McNemar 1947 in its exact form (Fay 2010, "Two-sided exact tests and matching confidence intervals").
    """
    if min(first_only, second_only) < 0:
        raise ValueError(f"{first_only} and {second_only} questions: counts are 0 or more")
    discordant = first_only + second_only
    patterns = tail = 1
    for right in range(min(first_only, second_only)):
        patterns = patterns * (discordant - right) // (right + 1)
        tail += patterns
    # Whole numbers to the end: thousands of questions leave no room for rounding.
    return min(1.0, 2 * tail / (1 << discordant))


def paired_permutation(
    differences: Sequence[float], clusters: Sequence[Hashable], seed: int, draws: int = 10_000
) -> Permutation:
    """Tests whether paired differences are 0 on average: each cluster's differences change their sign together.

    If the two models were alike, the sign of an episode's sum would be an accident. With at most 12 episodes that
    differ at all, all patterns are counted; with more, so many random ones, and p is (b + 1) / (m + 1) for b of m that
    are as far from 0 as the observed sum. A p value is then never 0, and the same for the same seed.
    Source: Fisher 1935 (randomisation of signs); Phipson and Smyth 2010 for the estimate.
    """
    sums = _by_cluster(differences, clusters).sums
    sums = sums[sums != 0]
    # What rounding makes of two equal sums must not count as smaller.
    observed = abs(float(sums.sum())) - 1e-9 * float(np.abs(sums).sum())
    if len(sums) <= _EXACT_CLUSTERS:
        signs = np.array(list(itertools.product((1.0, -1.0), repeat=len(sums)))).reshape(2 ** len(sums), len(sums))
        return Permutation(float(np.mean(np.abs(signs @ sums) >= observed)), exact=True, patterns=len(signs))
    # Clusters of one size are interchangeable: how many of them are positive is binomial.
    sizes, counts = np.unique(np.abs(sums), return_counts=True)
    generator = np.random.default_rng(seed)
    reached = 0
    for start in range(0, draws, block := max(1, _BLOCK // len(sizes))):
        positive = generator.binomial(counts, 0.5, size=(min(block, draws - start), len(sizes)))
        reached += int(np.count_nonzero(np.abs((2 * positive - counts) @ sizes) >= observed))
    return Permutation((reached + 1) / (draws + 1), exact=False, patterns=draws)


def design_effect(differences: Sequence[float], clusters: Sequence[Hashable]) -> float:
    """How many times more questions are needed because those of one cluster resemble one another; 1 at least.

    The variance of the mean by clusters over that of as many independent questions; 1 where nothing is known.
    Source: Kish 1965, with the linearised variance of a mean over clusters of different size.
    """
    sums, sizes = _by_cluster(differences, clusters)
    total, count = float(sizes.sum()), len(sums)
    if count < 2 or count == total:
        return 1.0
    average = float(sums.sum()) / total
    independent = float(np.var(np.asarray(differences, dtype=np.float64), ddof=1)) / total
    clustered = count / (count - 1) * float(((sums - average * sizes) ** 2).sum()) / total**2
    return max(1.0, clustered / independent) if independent > 0 else 1.0


def pairs_for_accuracy(discordance: float, difference: float) -> int:
    """How many independent questions show this difference of two accuracies, with power 0.8 at 5 %, two-sided.

    `discordance` is the share of questions that only one of the two gets right; it is at least the difference.
    n = (z(0.975) sqrt(discordance) + z(0.8) sqrt(discordance - difference^2))^2 / difference^2.
    Source: Connor 1987, "Sample size for testing differences in proportions for the paired-sample design".
    """
    delta = _needed(difference)
    share = max(discordance, delta)
    if share > 1:
        raise ValueError(
            f"discordance {discordance} and difference {difference} are shares of the questions: 1 at most"
        )
    spread = _z(1 - ALPHA / 2) * math.sqrt(share) + _z(POWER) * math.sqrt(share - delta**2)
    return math.ceil((spread / delta) ** 2)


def pairs_for_distance(variance: float, difference: float) -> int:
    """How many independent questions show this mean of the paired differences, with power 0.8 at 5 %, two-sided.

    `variance` is that of the paired differences. n = (z(0.975) + z(0.8))^2 variance / difference^2, and 2 at least.
    Source: the normal approximation for paired means (Chow, Shao and Wang 2008, 3.1).
    """
    delta = _needed(difference)
    return max(2, math.ceil((_z(1 - ALPHA / 2) + _z(POWER)) ** 2 * variance / delta**2))


def holm(p_values: Sequence[float]) -> list[float]:
    """The p values adjusted for their number, in the given order: the i-th smallest times those not yet passed.

    Below 0.05 after this, the chance that any one of them is an accident is below 5 %. Source: Holm 1979.
    """
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda index: p_values[index])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = largest
    return adjusted


class _Clusters(NamedTuple):
    """The sum of the differences of each cluster, and how many there are of them; shapes (clusters,)."""

    sums: Floats
    sizes: Floats


def _by_cluster(differences: Sequence[float], clusters: Sequence[Hashable]) -> _Clusters:
    values = np.asarray(differences, dtype=np.float64)
    if len(values) != len(clusters):
        raise ValueError(f"{len(values)} differences belong to {len(clusters)} clusters: one for each is needed")
    numbers: dict[Hashable, int] = {}
    index = np.array([numbers.setdefault(cluster, len(numbers)) for cluster in clusters], dtype=np.intp)
    return _Clusters(
        np.bincount(index, weights=values, minlength=len(numbers)).astype(np.float64),
        np.bincount(index, minlength=len(numbers)).astype(np.float64),
    )


def _needed(difference: float) -> float:
    if not difference:
        raise ValueError("no number of questions shows a difference of 0")
    return abs(difference)


def _z(share: float) -> float:
    return NormalDist().inv_cdf(share)
