"""What a dataset holds, counted: tasks, sources, where boxes are and how large, lengths of paths, answers."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from robointervlm.core.answer import GRID, SIZE_CLASSES, Answer
from robointervlm.core.coordinates import ImageSize
from robointervlm.core.sample import Sample
from robointervlm.data.annotations import RecordProblem
from robointervlm.data.prepare.ranges import over_ranges
from robointervlm.data.records import Annotations, RecordError, RefusedRecordError
from robointervlm.data.spec import DatasetSpec

# The histograms that come first, in their order; others follow by their names.
_FIRST = ("positions", "sizes", "waypoints", "answers")


@dataclass
class TaskStatistics:
    """The answers of one task; `counts` are the histograms that its answers are counted in, by their names.

    `positions` counts box centres in cells of the picture, (row, column); `sizes` counts boxes by the square root of
    their share of the picture's area, in equal classes from 0 to 1; `waypoints` counts trajectories by length.
    """

    samples: int = 0
    counts: dict[str, Counter[Hashable]] = field(default_factory=lambda: defaultdict(Counter))

    def add(self, answer: Answer, size: ImageSize | None) -> None:
        """Count one answer, in pixels of a picture of this size."""
        for name, label in answer.counted(size):
            self.counts[name][label] += 1

    @property
    def answers(self) -> dict[str, int]:
        """How often each of a few answers was given, such as a letter."""
        return {str(answer): count for answer, count in self.counts.get("answers", {}).items()}

    def merge(self, other: TaskStatistics) -> None:
        """Add what was counted elsewhere."""
        self.samples += other.samples
        for name, counts in other.counts.items():
            self.counts[name].update(counts)

    def as_json(self) -> dict[str, Any]:
        """The counts as JSON values; what does not occur is left out."""
        found: dict[str, Any] = {"samples": self.samples}
        for name in [*(name for name in _FIRST if name in self.counts), *sorted(self.counts.keys() - set(_FIRST))]:
            counts: Mapping[Any, int] = self.counts[name]
            if name == "positions":  # rows of cells
                found[name] = [[counts.get((row, column), 0) for column in range(GRID[0])] for row in range(GRID[1])]
            elif name == "sizes":  # a list of classes
                found[name] = [counts.get(place, 0) for place in range(SIZE_CLASSES)]
            else:
                found[name] = {str(label): counts[label] for label in sorted(counts)}
        return found


@dataclass
class Statistics:
    """The counts of one dataset; `pictures` counts samples by how many pictures they have."""

    records: int = 0
    unreadable: int = 0
    tasks: dict[str, TaskStatistics] = field(default_factory=lambda: defaultdict(TaskStatistics))
    pictures: Counter[int] = field(default_factory=Counter)

    def add(self, sample: Sample) -> None:
        """Count what a sample holds; whoever calls counts the records."""
        self.pictures[len(sample.images)] += 1
        task = self.tasks[sample.task]
        task.samples += 1
        for turn in sample.turns:
            task.add(turn.answer, sample.size)

    def merge(self, other: Statistics) -> None:
        """Add what was counted of another range."""
        self.records += other.records
        self.unreadable += other.unreadable
        self.pictures.update(other.pictures)
        for task, counts in other.tasks.items():
            self.tasks[task].merge(counts)

    def as_json(self) -> dict[str, Any]:
        """The counts as JSON values."""
        return {
            "records": self.records,
            "unreadable": self.unreadable,
            "pictures": {str(n): self.pictures[n] for n in sorted(self.pictures)},
            "tasks": {task: self.tasks[task].as_json() for task in sorted(self.tasks)},
        }


def statistics_of(
    spec: DatasetSpec,
    root: Path | None = None,
    *,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    left_out: Callable[[RecordProblem], object] = id,  # which forgets it
) -> Statistics:
    """Counts every record of a dataset; those that cannot be read are counted as such, and `left_out` told of them.

    `DataError` without a file.
    """
    annotations = Annotations(spec, root)
    total = Statistics()
    for part, (counted, problems) in over_ranges(_of_range, annotations, root, workers):
        total.merge(counted)
        for problem in problems:
            left_out(problem)
        if progress is not None:
            progress(part.stop, len(annotations))
    return total


def _of_range(annotations: Annotations, part: range) -> tuple[Statistics, list[RecordProblem]]:
    counted, problems = Statistics(records=len(part)), []
    for index in part:
        try:
            sample = annotations[index]
        except (RecordError, RefusedRecordError) as error:
            counted.unreadable += 1
            problems.append(error.problem)
            continue
        counted.add(sample)
    return counted, problems
