"""Which samples each step had, one JSON line per step and process: `samples.rank0.jsonl` in the run's folder.

For whoever wants to know what a jump of the loss came from, and the proof that a resumed run leaves none out.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from robointervlm.runs.files import write_atomically, writing_to
from robointervlm.train.data.dataset import MicroBatch


class SampleLog:
    """The samples of one process, appended; opened by its first line."""

    def __init__(self, folder: Path, rank: int) -> None:
        self.path = folder / f"samples.rank{rank}.jsonl"
        self._descriptor: int | None = None

    def write(self, step: int, micro_batches: Sequence[MicroBatch]) -> None:
        """The ids of a step (counted from 1) in the order they were handled; what was left out is named apart."""
        line: dict[str, object] = {"step": step, "ids": [each for micro in micro_batches for each in micro.ids]}
        if left_out := [each.id for micro in micro_batches for each in [*micro.bad, *micro.too_long]]:
            line["left_out"] = left_out
        with writing_to(self.path):
            if self._descriptor is None:
                self._descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
            os.write(self._descriptor, (json.dumps(line, ensure_ascii=False) + "\n").encode("utf-8", "replace"))


def forget_after(step: int, lines: Path) -> None:
    """Drop the JSON lines of steps made after the checkpoint: they are made again. A torn last line goes too."""
    if not lines.is_file():
        return
    kept = []
    for line in lines.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True):
        try:
            if line.endswith("\n") and json.loads(line)["step"] <= step:
                kept.append(line)
        except (ValueError, KeyError, TypeError):
            continue
    write_atomically(lines, "".join(kept))
