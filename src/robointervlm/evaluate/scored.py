"""One question with what became of it, and its line of `samples.jsonl`."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from robointervlm.core.answer import Answer, Unparsed
from robointervlm.core.coordinates import ImageSize
from robointervlm.core.reading import Reading, answer_from_json
from robointervlm.core.writing import answer_to_json
from robointervlm.evaluate.paper import PaperScore
from robointervlm.evaluate.paper.scores import published_score
from robointervlm.evaluate.records import Requested
from robointervlm.inference.judging import Status
from robointervlm.runs.journal import Entry


@dataclass(frozen=True)
class Scored:
    """One requested question with what became of it; `values` is filled with each metric of a readable answer."""

    requested: Requested
    record: Entry
    status: Status
    reason: str
    reading: Reading | None = None
    values: dict[str, float] = field(default_factory=dict)

    @cached_property
    def predicted(self) -> Answer | None:
        """The answer in pixels of the stored picture; None if there is none."""
        answer = None if self.reading is None else self.reading.answer
        return None if isinstance(answer, Unparsed) else answer

    @cached_property
    def reference(self) -> Answer | None:
        """The true answer in the same pixels; None for a record that could not be read."""
        return None if self.requested.answer is None else answer_from_json(self.requested.answer)

    @cached_property
    def image_size(self) -> ImageSize | None:
        size = self.record.get("image_size") or self.requested.image_size
        return ImageSize(*size) if isinstance(size, list | tuple) else None

    @cached_property
    def paper(self) -> PaperScore | None:
        """What the published scorer makes of it; None where it makes nothing."""
        return published_score(self.requested, self.record, self.reference)

    @cached_property
    def cluster(self) -> str:
        """What the interval resamples: the episode, or the question itself where none is known."""
        return cluster_of(self.requested.episode, self.requested.key)


def cluster_of(episode: str, key: str) -> str:
    """The cluster of a question: its episode, or the question itself where none is known."""
    return episode or f"question {key}"


def sample_entry(scored: Scored) -> dict[str, object]:
    """One line of `samples.jsonl`: all there is to look at one answer, without times."""
    return {
        **vars(scored.requested),
        "image_size": scored.image_size,
        "status": scored.status,
        "reason": scored.reason,
        "prompt": scored.record.get("prompt"),
        "reply": scored.record.get("reply"),
        "finish_reason": scored.record.get("finish_reason"),
        "tier": None if scored.reading is None else scored.reading.tier,
        "notes": [] if scored.reading is None else list(scored.reading.notes),
        "predicted": None if scored.predicted is None else answer_to_json(scored.predicted),
        "strict": dict(scored.values),
        "paper": {} if scored.paper is None else dict(scored.paper.values),
        "paper_counted": scored.paper is not None and scored.paper.counted,
        "quirks": [] if scored.paper is None else list(scored.paper.quirks),
    }
