"""What a dataset holds, counted: tasks, sources, where boxes are and how large, lengths of paths, answers."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robointervlm.core.answer import Answer, Box, Choice, Trajectory, YesNo
from robointervlm.core.coordinates import ImageSize
from robointervlm.core.sample import Sample
from robointervlm.data.annotations import RecordProblem
from robointervlm.data.prepare.ranges import over_ranges
from robointervlm.data.records import Annotations, RecordError, RefusedRecordError
from robointervlm.data.spec import DatasetSpec

# Cells of the map of box centres, across and down; classes of box sizes.
GRID = (16, 16)
SIZE_CLASSES = 20


@dataclass
class TaskStatistics:
    """The answers of one task.

    `positions` counts box centres in cells of the picture, shape (rows, columns); `sizes` counts boxes by the square
    root of their share of the picture's area, in equal classes from 0 to 1; `waypoints` counts trajectories by length.
    """

    samples: int = 0
    positions: NDArray[np.int64] = field(default_factory=lambda: np.zeros(GRID[::-1], np.int64))
    sizes: NDArray[np.int64] = field(default_factory=lambda: np.zeros(SIZE_CLASSES, np.int64))
    waypoints: Counter[int] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)

    def add(self, answer: Answer, size: ImageSize | None) -> None:
        """Count one answer, in pixels of a picture of this size."""
        match answer:
            case Box() if size is not None:
                self._add_box(answer, size)
            case Trajectory():
                self.waypoints[len(answer.points)] += 1
            case Choice():
                self.answers[answer.letter] += 1
            case YesNo():
                self.answers["yes" if answer.yes else "no"] += 1

    def _add_box(self, box: Box, size: ImageSize) -> None:
        columns, rows = GRID
        column = int((box.x1 + box.x2) / 2 / size.width * columns)
        row = int((box.y1 + box.y2) / 2 / size.height * rows)
        # A centre outside the picture counts in the cell at its edge.
        self.positions[min(max(row, 0), rows - 1), min(max(column, 0), columns - 1)] += 1
        side = (box.area / (size.width * size.height)) ** 0.5
        self.sizes[min(int(side * SIZE_CLASSES), SIZE_CLASSES - 1)] += 1

    def merge(self, other: TaskStatistics) -> None:
        """Add what was counted elsewhere."""
        self.samples += other.samples
        self.positions += other.positions
        self.sizes += other.sizes
        self.waypoints.update(other.waypoints)
        self.answers.update(other.answers)

    def as_json(self) -> dict[str, Any]:
        """The counts as JSON values; what does not occur is left out."""
        boxes = {"positions": self.positions.tolist(), "sizes": self.sizes.tolist()} if self.sizes.any() else {}
        paths = {"waypoints": {str(n): self.waypoints[n] for n in sorted(self.waypoints)}} if self.waypoints else {}
        answers = {"answers": dict(sorted(self.answers.items()))} if self.answers else {}
        return {"samples": self.samples, **boxes, **paths, **answers}


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
