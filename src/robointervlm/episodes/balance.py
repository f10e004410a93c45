"""Leaves questions out until every answer is as frequent as the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from robointervlm.episodes.questions import Balance


def balanced(wanted: Sequence[Balance | None]) -> list[bool]:
    """Which of these questions are kept: of each group as many of every class, and all that want no balance.

    Those left out are spread evenly over the list. A group in which a class is missing is left out wholly.
    """
    counts = Counter((item.group, item.answer) for item in wanted if item is not None)
    least: dict[str, int] = {}
    for item in wanted:
        if item is not None and item.group not in least:
            of_group = [count for (group, _), count in counts.items() if group == item.group]
            least[item.group] = min(of_group) if len(of_group) == item.classes else 0
    seen: Counter[tuple[str, str]] = Counter()
    kept = []
    for item in wanted:
        if item is None:
            kept.append(True)
            continue
        key = (item.group, item.answer)
        share = least[item.group], counts[key]
        kept.append((seen[key] + 1) * share[0] // share[1] > seen[key] * share[0] // share[1])
        seen[key] += 1
    return kept
