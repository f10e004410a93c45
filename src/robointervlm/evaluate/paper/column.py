"""The paper column of a run: what the published scorer makes of each of its answers.

It is handed the model's reply and the reference in the model's own units, as the published output files hold both, or
for imported files the record as it was. An answer that never came has no published number: the release drops it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from robointervlm.core.answer import Answer
from robointervlm.core.coordinates import CoordinateFormat
from robointervlm.evaluate.paper import PaperScore, paper_score
from robointervlm.evaluate.records import Requested, space_of
from robointervlm.runs.journal import Entry
from robointervlm.tasks import task_named

# The units the published scorer knows by the kind of model; it converts nothing for other names.
_SOURCES = {
    CoordinateFormat.RESIZED: "qwen",
    CoordinateFormat.UNIT: "llava",
    CoordinateFormat.PER_MILLE: "intern",
    CoordinateFormat.PIXEL: "pixel",
}


def published_score(requested: Requested, record: Entry, reference: Answer | None) -> PaperScore | None:
    """The published result of one answer; None where there is no answer, no reference, or no published scorer."""
    foreign = record.get("foreign")
    if isinstance(foreign, Mapping):
        # Whatever we make of it: the published scorer has a number for records without a readable reference, too.
        return _scored(requested.task, foreign, _source(record))
    if record.get("status") not in ("ok", "unparsable") or reference is None:
        return None
    space = space_of(record)
    text = requested.raw_answer if space is None else task_named(requested.task).write(reference, space)
    ours = {"id": requested.id, "pred": record.get("reply"), "gt": text, "image_size": requested.image_size}
    return _scored(requested.task, ours, _source(record))


def _scored(task: str, record: Mapping[str, object], source: str) -> PaperScore | None:
    found = paper_score(task, record, source)
    return found if found.values or found.error else None


def _source(record: Entry) -> str:
    answer, reference = record.get("format"), record.get("reference_format")
    if answer == "pixel" and reference == "resized":
        return "api"
    return _SOURCES[CoordinateFormat(answer)] if answer else ""


def paper_summary(name: str, scores: Sequence[PaperScore | None]) -> dict[str, object] | None:
    """The published mean of a metric over the answers it counts, and how many; None if it is not published."""
    values = [score.values[name] for score in scores if score is not None and score.counted and name in score.values]
    return {"mean": sum(values) / len(values), "n": len(values)} if values else None


def quirk_counts(scores: Sequence[PaperScore | None]) -> dict[str, int]:
    """How many answers each published fault changed the result of, the most frequent first."""
    counts: dict[str, int] = {}
    for score in scores:
        for quirk in score.quirks if score is not None else ():
            counts[quirk] = counts.get(quirk, 0) + 1
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
