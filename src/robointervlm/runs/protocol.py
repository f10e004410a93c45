"""What was asked and how it is scored, as one hash: only results of one protocol may stand side by side.

Part of it: every question with its reference and the size of its picture, the prompt style, the decoding, the metrics,
and the edition of our reading and scoring. Not part of it, because it belongs to the model and not to the question: the
coordinates the model writes in, the size its processor makes of a picture, its name, its batch size. Scoring happens in
pixels of the stored picture whatever a model writes in. Nor are the names of datasets and folders: a copy of the same
questions is the same protocol.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

# Raised whenever the same reply to the same question is read or scored otherwise than before.
SCORING_EDITION = 1
SCORED_IN = "pixels of the stored picture"
# Readable in a table, and no two protocols of anybody's will ever share it by accident.
_HASH_LETTERS = 16

Protocol = Mapping[str, Any]


class AskedQuestion(NamedTuple):
    """One question as the protocol knows it; `reference` and `image_size` as the list of requested questions has them.

    `image_size` is (width, height), None without a picture.
    """

    task: str
    id: str
    reference: Mapping[str, object] | None
    image_size: Sequence[int] | None


def protocol_of(
    questions: Iterable[AskedQuestion],
    metrics: Mapping[str, Sequence[str]],
    *,
    style: str,
    decoding: Mapping[str, object],
) -> dict[str, object]:
    """The protocol of a run as `report.json` holds it: its parts, and their hash. `metrics` are names by task.

    The order of the questions is no part of it; their number is.
    """
    lines: dict[str, list[str]] = {}
    for each in questions:
        said = json.dumps([each.id, each.reference, each.image_size], sort_keys=True, separators=(",", ":"))
        lines.setdefault(each.task, []).append(said)
    # Of the decoding, what decides an answer: greedy decoding draws nothing, so that its seed means nothing.
    settings = dict(sorted(decoding.items()))
    if "seed" in settings and not settings.get("temperature"):
        settings["seed"] = None
    parts: dict[str, object] = {
        "edition": SCORING_EDITION,
        "coordinates": SCORED_IN,
        "style": style,
        "decoding": settings,
        "tasks": {
            task: {"questions": len(said), "digest": _hash("\n".join(sorted(said))), "metrics": list(metrics[task])}
            for task, said in sorted(lines.items())
        },
    }
    return {"hash": _hash(json.dumps(parts, sort_keys=True)), **parts}


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_HASH_LETTERS]


def differences(first: Protocol, second: Protocol, tasks: Collection[str] | None = None) -> list[str]:
    """What two protocols differ in, each as `what: first / second`; nothing if their results may stand side by side.

    With `tasks`, only those are looked at.
    """
    found = [
        f"{label}: {_said(first.get(name))} / {_said(second.get(name))}"
        for name, label in (
            ("edition", "scoring edition"),
            ("coordinates", "scored in"),
            ("style", "prompt style"),
            ("decoding", "decoding"),
        )
        if first.get(name) != second.get(name)
    ]
    wanted = [*dict.fromkeys([*first["tasks"], *second["tasks"]])]
    for task in wanted if tasks is None else [task for task in wanted if task in tasks]:
        found += _task_differences(task, first["tasks"].get(task), second["tasks"].get(task))
    return found


def _task_differences(task: str, first: Protocol | None, second: Protocol | None) -> list[str]:
    if first is None or second is None:
        return [f"{task}: {'not asked' if first is None else 'asked'} / {'not asked' if second is None else 'asked'}"]
    if first["questions"] != second["questions"]:
        return [f"{task}: {first['questions']} questions / {second['questions']} questions"]
    if first["digest"] != second["digest"]:
        return [f"{task}: {first['questions']} other questions, references or picture sizes"]
    if first["metrics"] != second["metrics"]:
        return [f"metrics of {task}: {', '.join(first['metrics'])} / {', '.join(second['metrics'])}"]
    return []


def _said(value: object) -> str:
    if isinstance(value, Mapping):
        return " ".join(f"{key}={part}" for key, part in value.items() if part is not None) or "not known"
    return str(value) if value not in (None, "") else "not known"
