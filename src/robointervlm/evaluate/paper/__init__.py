"""The published arithmetic, reproduced exactly, its faults included: the `paper` column, never the headline.

Nothing outside this package uses it to score: the strict column is `tasks` and `metrics`. What is wrong on purpose is
marked in the code with the number of the trap, and `QUIRKS` explains each by name; docs/scoring.md shows both columns.
Source of the behaviour: the public RoboInter release, commit 481acfbf, 2026-02-15.
"""

from __future__ import annotations

from robointervlm.evaluate.paper.answers import published_source, score_planning, score_record
from robointervlm.evaluate.paper.quirks import QUIRKS, Quirk
from robointervlm.evaluate.paper.scores import PaperAggregate, PaperScore, paper_aggregate, paper_score

__all__ = [
    "QUIRKS",
    "PaperAggregate",
    "PaperScore",
    "Quirk",
    "paper_aggregate",
    "paper_score",
    "published_source",
    "score_planning",
    "score_record",
]
