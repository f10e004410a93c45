"""What can be answered without looking: a question whose words give its answer away measures nothing.

Three answerers are trained on the training questions and asked the others: the most frequent answer; naive Bayes over
the words of the question and of each lettered option; naive Bayes over each option by itself, with how long it is, how
much it has in common with the other options, and how much with the question. All of them ought to be at chance.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from robointervlm.core.reading import options_in

Record = dict[str, Any]


@dataclass(frozen=True)
class Blind:
    """How often each answerer is right about ``asked`` questions, and how often any answer would be by ``chance``.

    ``options`` is None where the options have no words.
    """

    asked: int
    chance: float
    majority: float
    words: float
    options: float | None

    @property
    def farthest(self) -> float:
        """The largest distance of an answerer from chance."""
        found = (self.majority, self.words, self.options)
        return max(abs(share - self.chance) for share in found if share is not None)


class NaiveBayes:
    """Bernoulli naive Bayes over the features that are present, smoothed by one (Manning et al. 2008, 13.3)."""

    def __init__(self, examples: Iterable[tuple[set[str], str]]) -> None:
        self._labels: Counter[str] = Counter()
        self._features: dict[str, Counter[str]] = {}
        for features, label in examples:
            self._labels[label] += 1
            self._features.setdefault(label, Counter()).update(features)

    def scores(self, features: set[str]) -> dict[str, float]:
        """The logarithm of each label's likelihood, up to a constant; features that were never seen say nothing."""
        known = {feature for feature in features if any(feature in seen for seen in self._features.values())}
        return {
            label: math.log(count)
            + sum(math.log((self._features[label][feature] + 1) / (count + 2)) for feature in known)
            for label, count in self._labels.items()
        }


def blind(train: Sequence[Record], test: Sequence[Record]) -> Blind:
    """How the answerers do on ``test``, records of one task with letters or yes and no as answers."""
    answers = {record["gt"] for record in (*train, *test)}
    majority = Counter(record["gt"] for record in train).most_common(1)[0][0]
    by_words = NaiveBayes((_word_features(record), record["gt"]) for record in train)

    def guess(record: Record) -> str:
        scores = by_words.scores(_word_features(record))
        return max(sorted(scores), key=scores.__getitem__)

    return Blind(
        len(test),
        1 / len(answers),
        _share(test, lambda _: majority),
        _share(test, guess),
        _by_options(train, test),
    )


def _share(records: Sequence[Record], answer: Callable[[Record], str]) -> float:
    return sum(bool(answer(record) == record["gt"]) for record in records) / len(records)


def _by_options(train: Sequence[Record], test: Sequence[Record]) -> float | None:
    if not all(options_in(_question(record)) for record in (*train, *test)):
        return None
    examples = []
    for record in train:
        features = _option_features(record)
        examples += [(found, "right" if letter == record["gt"] else "wrong") for letter, found in features.items()]
    bayes = NaiveBayes(examples)

    def guess(record: Record) -> str:
        leads = {}
        for letter, features in _option_features(record).items():
            scores = bayes.scores(features)
            leads[letter] = scores["right"] - scores["wrong"]
        return max(sorted(leads), key=leads.__getitem__)

    return _share(test, guess)


def _question(record: Record) -> str:
    text: str = record["conversations"][0]["value"]
    return text


def _word_features(record: Record) -> set[str]:
    """Words and pairs of words of the question, and those of its options behind their letters."""
    question = _question(record)
    found = _grams(question)
    for letter, option in options_in(question).items():
        found |= {f"{letter}: {gram}" for gram in _grams(option)}
    return found


def _option_features(record: Record) -> dict[str, set[str]]:
    question = _question(record)
    options = options_in(question)
    asked = _words(question.partition("\nA. ")[0])
    words = {letter: _words(option) for letter, option in options.items()}
    features = {}
    for letter, own in words.items():
        others = [other for name, words_of in words.items() if name != letter for other in words_of]
        shared = sum(word in others for word in set(own))
        alike = sum(_same_places(own, words_of) for name, words_of in words.items() if name != letter)
        features[letter] = _grams(options[letter]) | {
            f"letter {letter}",
            f"words {len(own)}",
            f"characters {len(options[letter]) // 3}",
            f"shared {shared}",
            f"alike {alike}",
            f"in question {sum(word in asked for word in set(own))}",
        }
    return features


def _same_places(one: Sequence[str], other: Sequence[str]) -> int:
    return sum(a == b for a, b in zip(one, other, strict=False))


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def _grams(text: str) -> set[str]:
    words = _words(text)
    return {*words, *(" ".join(pair) for pair in zip(words, words[1:], strict=False))}
