"""How alike two sentences are: BLEU in the two published recipes, and the well-kept one of `sacrebleu`.

All values are between 0 and 1. The two published recipes are those of nltk's `sentence_bleu`, written anew so that
scoring does not need it; a test holds the numbers against nltk's.
"""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from sacrebleu.metrics.bleu import BLEU

Smoothing = Literal["none", "method1"]

# What nltk puts in place of an order without a match: next to nothing if not smoothed, a tenth of a match if so.
_NOTHING = sys.float_info.min
_EPSILON = 0.1
_ORDERS = 4

# The published weights by the length of the reference: short ones repeat their highest order, and three orders are
# weighted .33 each, which makes .99 and the value a little too high (trap 25, kept as a convention).
_WEIGHTS: tuple[tuple[float, ...], ...] = ((1.0,), (0.5, 0.5), (0.33, 0.33, 0.33), (0.25, 0.25, 0.25, 0.25))


class Bleu(NamedTuple):
    """BLEU of the orders 1 to 4, each with its own weights, and their mean."""

    bleu1: float
    bleu2: float
    bleu3: float
    bleu4: float

    @property
    def mean(self) -> float:
        return sum(self) / _ORDERS


def published_bleu(predicted: str, reference: str, smoothing: Smoothing = "method1") -> Bleu:
    """BLEU-1 to BLEU-4 as the published scorers count them, their oddities included.

    Words are what stands between single spaces, so two spaces in a row hold an empty word, and two empty texts are
    equal (trap 24). `method1` is the planning scorer's smoothing; `none` is the language script's, in which an order
    without a match gives 1e-77 or less (trap 26).
    Source: Papineni et al. 2002 with the smoothing of Chen and Cherry 2014, as nltk's `sentence_bleu` computes it.
    """
    return bleu_of_words(predicted.split(" "), reference.split(" "), smoothing)


def strict_bleu(predicted: str, reference: str, smoothing: Smoothing = "method1") -> Bleu:
    """The published recipe over real words: any white space separates them, and an empty text scores 0."""
    words = predicted.split()
    if not words:
        return Bleu(0.0, 0.0, 0.0, 0.0)
    return bleu_of_words(words, reference.split(), smoothing)


def bleu_of_words(predicted: Sequence[str], reference: Sequence[str], smoothing: Smoothing) -> Bleu:
    """BLEU-1 to BLEU-4 of two lists of words with the published weights."""
    precisions: list[float] = []
    for order in range(1, _ORDERS + 1):
        mine, theirs = _ngrams(predicted, order), _ngrams(reference, order)
        found = sum(min(count, theirs[ngram]) for ngram, count in mine.items())  # each as often as the reference has it
        possible = max(1, mine.total())
        if order == 1 and not found:
            return Bleu(0.0, 0.0, 0.0, 0.0)
        nothing = _EPSILON / possible if smoothing == "method1" else _NOTHING
        precisions.append(found / possible if found else nothing)
    brevity = min(1.0, math.exp(1 - len(reference) / len(predicted)))
    values: list[float] = []
    for order in range(1, _ORDERS + 1):
        weights = _WEIGHTS[min(order, max(len(reference), 1)) - 1]  # no n-gram longer than the reference
        logarithms = (weight * math.log(value) for weight, value in zip(weights, precisions, strict=False))
        values.append(brevity * math.exp(math.fsum(logarithms)))
    return Bleu(*values)


def sacre_bleu(predicted: str, reference: str) -> float:
    """Sentence BLEU of sacrebleu, from 0 to 1: its 13a tokens, effective order, exponential smoothing, case kept.

    An empty answer scores 0, whatever the reference is.
    Source: Post 2018; signature nrefs:1|case:mixed|eff:yes|tok:13a|smooth:exp.
    """
    if not predicted.strip():
        return 0.0
    # Its values end a few units of the last place above 100.
    return min(1.0, float(_sacrebleu().sentence_score(predicted, [reference]).score) / 100)


@cache
def _sacrebleu() -> BLEU:
    # Loaded when the first plan is scored: boxes and letters do not need it.
    from sacrebleu.metrics.bleu import BLEU  # noqa: PLC0415

    return BLEU(effective_order=True)


def _ngrams(words: Sequence[str], order: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(words[start : start + order]) for start in range(len(words) - order + 1))
