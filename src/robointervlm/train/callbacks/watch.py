"""All that looks at a run while it trains: bar, metrics, samples, curves, trackers, validation, the saved command.

None of it changes what is learned. Everything but answering questions is done by the first process alone.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from accelerate import Accelerator

from robointervlm.models.qwen2_5_vl.parts import Part
from robointervlm.runs.files import write_atomically, writing_to
from robointervlm.runs.log import MetricsLog, console
from robointervlm.runs.signals import StopFlag
from robointervlm.train.callbacks.after_save import AfterSave
from robointervlm.train.callbacks.curves import METRICS, write_curves
from robointervlm.train.callbacks.progress import Rates, StepLine, StepProgress, log_line, memory_gib, plain
from robointervlm.train.callbacks.trackers import Trackers
from robointervlm.train.callbacks.validation import Validating
from robointervlm.train.data.dataset import MicroBatch
from robointervlm.train.engines.engine import Engine
from robointervlm.train.recipe import TrainRecipe

logger = logging.getLogger(__name__)


@dataclass
class Watch:
    """Open from the first step of a process to its last. `lr` is the peak learning rate of each part that learns."""

    recipe: TrainRecipe
    accelerator: Accelerator
    steps: int
    first_step: int
    lr: Mapping[Part, float]
    after_save: AfterSave
    validating: Validating | None
    stop: StopFlag
    _opened: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> Watch:
        main = self.accelerator.is_main_process
        folder, at_terminal = self.recipe.run.dir, console().is_terminal
        self._log = self._opened.enter_context(MetricsLog(folder / METRICS))
        self._trackers = Trackers(self.recipe, first_step=self.first_step) if main else None
        self._line = StepLine(self.steps, self.accelerator.device)
        self._bar = self._opened.enter_context(
            StepProgress(console(), total=self.steps, done=self.first_step, disable=not (main and at_terminal))
        )
        return self

    def step(
        self, step: int, numbers: Mapping[str, float], lr_scale: float, rates: Rates, counts: Mapping[str, int]
    ) -> None:
        """This step is done. `counts` are the sums of the run so far, `rates` what this step went through."""
        if not self.accelerator.is_main_process:
            return
        self._line.add(rates)
        if console().is_terminal:
            self._bar.show(step, self._line.text(step, numbers["loss"]))
        elif self._line.due(step):
            log_line(step, self.steps, self._line.text(step, numbers["loss"]))
        if step % self.recipe.run.log_every == 0:
            measured: dict[str, Any] = {
                **numbers,
                "lr_scale": lr_scale,
                "lr": {part: lr_scale * peak for part, peak in self.lr.items()},
                "seconds": rates.seconds,
                **rates.per_second(),
                "memory_gib": memory_gib(self.accelerator.device),
                **counts,
            }
            self._log.write(step=step, **measured)
            self._track(step, {f"train/{name}": value for name, value in plain(measured).items()})
        self.after_save.poll()

    def ask(self, step: int, engine: Engine) -> None:
        """Ask the validation's questions if it is time; in every process."""
        if self.validating is None:
            return
        found = self.validating.ask(step, self.steps, engine, self.stop)
        if found and self.accelerator.is_main_process:
            self._track(step, found)

    def saved(self, step: int, model: Path) -> None:
        """A checkpoint is whole; `model` is its model's folder."""
        if self.accelerator.is_main_process:
            self._draw()
            self.after_save.saved(step, model)

    def _track(self, step: int, values: Mapping[str, float]) -> None:
        if self._trackers is not None:
            self._trackers.log(step, values)

    def _draw(self) -> None:
        try:
            write_curves(self.recipe.run.dir)
        except Exception as error:  # noqa: BLE001 - a drawing never ends a training
            logger.warning("the curves are not drawn: %s", error)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.close()
        if self._trackers is not None:
            self._trackers.close()
        if self.accelerator.is_main_process:
            self._draw()


class SampleLog:
    """Which samples each step had, one JSON line per step and process: `samples.rank0.jsonl` in the run's folder.

    For whoever wants to know what a jump of the loss came from, and the proof that a resumed run leaves none out.
    Appended; opened by its first line.
    """

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
