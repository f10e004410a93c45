"""Leaves questions out until every answer is as frequent as the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from robointervlm.episodes.questions import Balance


class Thinning:
    """Which questions are kept: of each group as many of every class, and all that want no balance.

    All are counted first and then asked about in their order, so that no more than the counts has to be held. Those
    left out are spread evenly. A group in which a class is missing is left out wholly.
    """

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str]] = Counter()
        self._classes: dict[str, int] = {}
        self._seen: Counter[tuple[str, str]] = Counter()
        self._least: dict[str, int] | None = None

    def count(self, item: Balance | None) -> None:
        """Takes note of a question."""
        if item is not None:
            self._counts[item.group, item.answer] += 1
            self._classes.setdefault(item.group, item.classes)

    def keeps(self, item: Balance | None) -> bool:
        """Whether the next question is kept; every one that was counted is asked about once."""
        if item is None:
            return True
        if self._least is None:
            self._least = self._least_frequent()
        key = (item.group, item.answer)
        least, count, seen = self._least[item.group], self._counts[key], self._seen[key]
        self._seen[key] += 1
        return (seen + 1) * least // count > seen * least // count

    def _least_frequent(self) -> dict[str, int]:
        counts: dict[str, list[int]] = {}
        for (group, _), count in self._counts.items():
            counts.setdefault(group, []).append(count)
        return {group: min(found) if len(found) == self._classes[group] else 0 for group, found in counts.items()}


def balanced(wanted: Sequence[Balance | None]) -> list[bool]:
    """Which of these questions a `Thinning` keeps."""
    thinning = Thinning()
    for item in wanted:
        thinning.count(item)
    return [thinning.keeps(item) for item in wanted]
