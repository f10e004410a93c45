"""The published files of a split: their names, and how they are put together from the shards of its episodes."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from robointervlm.core.errors import DataError
from robointervlm.episodes.questions import ASKERS, Balance
from robointervlm.episodes.shards import partial_of, problem_file, shard_file, writing

_GENERATION = "Generation/meta/{split}/{source}/origin_format/full_single_multi_contact_obj_"
_UNDERSTANDING = "Understanding/meta/{split}/{source}/"
_FILES: dict[str, str] = {
    "current_box": _GENERATION + "current_box_qa.json",
    "final_box": _GENERATION + "final_box_qa.json",
    "contact_box": _GENERATION + "contact_box_qa.json",
    "gripper_det": _GENERATION + "gripper_det_qa.json",
    "contact_point": _GENERATION + "contact_point_qa.json",
    "traj": _GENERATION + "traj_qa.json",
    "traj_wo_init_pos": _GENERATION + "traj_qa_wo_init_pos.json",
    "grounding": _UNDERSTANDING + "grounding_qa.json",
    "naming": _UNDERSTANDING + "naming_qa.json",
}
_EPISODES = "Episodes/meta/{split}/{source}/episodes.jsonl"
# In validation the three families of planning questions are published apart, in training in one file.
_FAMILIES = {"planning": "planning", "planning_choice": "choice", "planning_decide": "decide"}


def annotation_file(task: str, split: str, source: str) -> str:
    """The file of a task's records, relative to the data root; several tasks may share one."""
    if task in _FAMILIES:
        folder = source if split == "train" else f"{source}/{_FAMILIES[task]}"
        return f"Task_planning/meta/{split}/{folder}/task_planning.json"
    return _FILES.get(task, _UNDERSTANDING + f"{task}.json").format(split=split, source=source)


def published_task(task: str) -> str:
    """The task that a file's records are of; two files may ask the same one in two ways."""
    return {"traj_direction_words": "traj_direction_choice"}.get(task, task)


def episodes_file(split: str, source: str) -> str:
    """The file of the episodes with all their labels."""
    return _EPISODES.format(split=split, source=source)


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
            counts: dict[str, list[int]] = {}
            for (group, _), frequency in self._counts.items():
                counts.setdefault(group, []).append(frequency)
            self._least = {
                group: min(found) if len(found) == self._classes[group] else 0 for group, found in counts.items()
            }
        key = (item.group, item.answer)
        least, count, seen = self._least[item.group], self._counts[key], self._seen[key]
        self._seen[key] += 1
        return (seen + 1) * least // count > seen * least // count


@dataclass(frozen=True)
class Assembly:
    """Which files are put together: of a source, with these tasks; ``empty`` ones are written only if wanted."""

    root: Path
    source: str
    tasks: Sequence[str] = tuple(ASKERS)
    empty: bool = False

    def split(self, split: str, numbers: Sequence[int]) -> dict[str, int]:
        """Writes the files of these episodes, in this order; returns the number of records by task.

        Of tasks that want it, questions are left out until their answers are equally frequent. The shards are read
        twice: once to count the answers, once to write; one is in memory at a time.
        """
        if not len(numbers):
            return {}
        thinnings = {task: Thinning() for task in self.tasks}
        for shard in self._shards(split, numbers):
            for task, records in shard["records"].items():
                for item in _balances(shard, task, len(records)):
                    thinnings[task].count(item)
        counts = self._write(split, numbers, thinnings)
        self._join(split, counts)
        return counts

    def _write(self, split: str, numbers: Sequence[int], thinnings: dict[str, Thinning]) -> dict[str, int]:
        """Writes the episodes, and the kept records of each task to a file of its own."""
        counts = dict.fromkeys(self.tasks, 0)
        listed = self.root / episodes_file(split, self.source)
        with writing(listed), ExitStack() as files:
            episodes = files.enter_context(_created(partial_of(listed)))
            parts = {task: files.enter_context(_created(self._part(split, task))) for task in self.tasks}
            for shard in self._shards(split, numbers):
                episodes.write(json.dumps(shard["episode"]).encode() + b"\n")
                for task, records in shard["records"].items():
                    balances = _balances(shard, task, len(records))
                    for record, item in zip(records, balances, strict=True):
                        if thinnings[task].keeps(item):
                            parts[task].write((b",\n" if counts[task] else b"") + json.dumps(record).encode())
                            counts[task] += 1
        partial_of(listed).replace(listed)
        return counts

    def _join(self, split: str, counts: dict[str, int]) -> None:
        """Makes a file of the records of each task, or of the tasks that share one."""
        sharing: dict[str, list[str]] = {}
        for task in self.tasks:
            sharing.setdefault(annotation_file(task, split, self.source), []).append(task)
        for name, tasks in sharing.items():
            path = self.root / name
            parts = [self._part(split, task) for task in tasks if counts[task]]
            if parts or self.empty:
                with writing(path):
                    _join(parts, partial_of(path))
                    partial_of(path).replace(path)
            for task in tasks:
                self._part(split, task).unlink()

    def _part(self, split: str, task: str) -> Path:
        return self.root / ".shards" / split / f".{task}.partial"

    def _shards(self, split: str, numbers: Sequence[int]) -> Iterator[dict[str, Any]]:
        for number in numbers:
            yield read_shard(shard_file(self.root, split, number))


def check_complete(root: Path, jobs: Iterable[tuple[str, int]]) -> None:
    """Raises `DataError` if an episode is neither made nor known to be unusable."""
    missing = [job for job in jobs if not shard_file(root, *job).is_file() and not problem_file(root, *job).is_file()]
    if missing:
        split, number = missing[0]
        raise DataError(
            f"{root}: {len(missing)} episodes are not made yet, the first is {number} of {split}; "
            "run the shares that were ended once more, then merge."
        )


def read_shard(file: Path) -> dict[str, Any]:
    """What an episode left; a `DataError` says how to get on if the file is damaged."""
    try:
        content: dict[str, Any] = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(f"{file} cannot be read: {error}; remove it, its episode is then made again.") from error
    return content


def _balances(shard: dict[str, Any], task: str, count: int) -> list[Balance | None]:
    marks = shard["balances"].get(task) or [None] * count
    return [Balance(*mark) if mark else None for mark in marks]


def _created(path: Path) -> BinaryIO:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.open("wb")


def _join(parts: Sequence[Path], joined: Path) -> None:
    with _created(joined) as content:
        content.write(b"[\n")
        for number, part in enumerate(parts):
            content.write(b",\n" if number else b"")
            with part.open("rb") as records:
                shutil.copyfileobj(records, content)
        content.write(b"\n]\n")
