"""The training loop: for every step of the plan, the loss of its samples, backward, step, record, maybe checkpoint.

The loss of a step is the mean over all its supervised tokens - across micro-batches and processes - so that the same
samples give the same gradient however they are split.
"""

from __future__ import annotations

import json
import logging
import math
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import nn

from robointervlm.core.errors import DataError, NonFiniteLossError, RecipeError
from robointervlm.data.mixture import Mixture
from robointervlm.models.qwen2_5_vl.attention import use_packed_attention
from robointervlm.models.qwen2_5_vl.learned import learned_state, load_learned_state
from robointervlm.models.qwen2_5_vl.network import Qwen25VL, SupervisedLoss
from robointervlm.runs.files import write_atomically
from robointervlm.runs.log import MetricsLog, console
from robointervlm.runs.signals import StopFlag
from robointervlm.train import checkpoint as checkpoints
from robointervlm.train.feed import Bad, Feed, Load, MicroBatch, Plan, Planned, loader
from robointervlm.train.optimizer import let_learn, optimizers, schedule
from robointervlm.train.packing import packing
from robointervlm.train.recipe import TrainRecipe

logger = logging.getLogger(__name__)

METRICS = "metrics.jsonl"
CHECKPOINTS = "checkpoints"
# How many samples, at most, have to be seen before a bad one counts as more than its share.
RATE_SAMPLES = 1000


@dataclass
class Counts:
    """What went through the loop so far."""

    samples: int = 0
    tokens: int = 0
    supervised: int = 0
    bad: int = 0
    too_long: int = 0


class StepNumbers(NamedTuple):
    """What a step is judged by: the mean loss of its supervised tokens, the norm of the gradient before clipping."""

    loss: float
    grad_norm: float


@dataclass
class Training:
    """A run in progress: the recipe, the model, what changes it, and where it is."""

    recipe: TrainRecipe
    model: Qwen25VL
    mixture: Mixture
    accelerator: Accelerator
    plan: Planned = field(init=False)
    load: Load = field(init=False)
    feed: Feed = field(init=False)
    step: int = 0
    counts: Counts = field(default_factory=Counts)

    def __post_init__(self) -> None:
        recipe = self.recipe
        let_learn(self.model.network, recipe.model, seed=recipe.run.seed)
        if recipe.run.gradient_checkpointing:
            network: Any = self.model.network
            network.activation_checkpointing_enable({"use_reentrant": False})
        self.feed = Feed(self.mixture, self.model.encoder, recipe.augment, recipe.run.seed, recipe.batch.max_tokens)
        processes = self.accelerator.num_processes
        if recipe.batch.pack == "none":
            self.load, self.plan = self.feed, Plan(self.mixture, recipe, processes, self.feed.usual_lengths())
        else:
            self.load, self.plan = packing(self.feed, recipe, processes)
            use_packed_attention(self.model.network)
        self._plain_optimizers = optimizers(self.model.network, recipe.optim)
        self.module: nn.Module = self.accelerator.prepare(SupervisedLoss(self.model.network))
        self.optimizers = [self.accelerator.prepare(optimizer) for optimizer in self._plain_optimizers]

    @property
    def checkpoint_root(self) -> Path:
        return self.recipe.run.dir / CHECKPOINTS

    def resume(self) -> None:
        """Go on from the newest whole checkpoint of this run's folder, if there is one."""
        with self.accelerator.main_process_first():  # it also tidies up
            found = checkpoints.newest(self.checkpoint_root) if self.checkpoint_root.is_dir() else None
        if found is not None:
            self._restore(found)
            logger.info("going on from %s", found.folder)
        if self.accelerator.is_main_process:
            _forget_after(self.step, self.recipe.run.dir / METRICS)

    def _restore(self, found: checkpoints.Checkpoint) -> None:
        state = torch.load(found.state, map_location="cpu", weights_only=True)
        ours = self._plan_identity()
        if differing := [key for key, value in state["plan"].items() if ours.get(key, value) != value]:
            raise RecipeError(
                f"{found.folder} belongs to another recipe ({', '.join(differing)} differ); "
                "choose another run.dir, or repeat the recipe it was written with."
            )
        load_learned_state(self.model.network, state["network"])
        for optimizer, saved in zip(self._plain_optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.step = found.step
        self.counts = Counts(**state["counts"])

    def run(self, stop: StopFlag) -> None:
        """Train to the end of the plan, or until a signal asks to stop; then a checkpoint holds where it was."""
        recipe, accelerator = self.recipe, self.accelerator
        workers = recipe.data.workers if recipe.data.workers is not None else (0 if self._on_cpu else 4)
        batches = loader(self.load, self.plan, rank=accelerator.process_index, first_step=self.step, workers=workers)
        self.module.train()
        with MetricsLog(recipe.run.dir / METRICS) as log, self._progress() as progress:
            bar = progress.add_task("training", total=self.plan.steps, completed=self.step, loss="", rate="")
            while self.step < self.plan.steps:
                started = time.perf_counter()
                scale = schedule(self.step, self.plan.steps, recipe.optim)
                numbers = self._one_step(list(islice(batches, recipe.batch.accumulate)), scale)
                self.step += 1
                seconds = time.perf_counter() - started
                if numbers is not None:
                    rate = f"{self.plan.step_size / seconds:.0f} samples/s"
                    progress.update(bar, completed=self.step, loss=f"loss {numbers.loss:.3f}", rate=rate)
                    self._say_so(numbers.loss, seconds)
                    if self.step % recipe.run.log_every == 0:
                        counts = vars(self.counts)
                        log.write(step=self.step, **numbers._asdict(), lr_scale=scale, seconds=seconds, **counts)
                stopping = self._anyone_asks(stop)
                if self.step % recipe.run.save_every == 0 or stopping:
                    self.save()
                if stopping:
                    return

    def save(self) -> None:
        """Write a checkpoint of this step."""
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            checkpoints.save(self.checkpoint_root, self.step, self._write, keep=self.recipe.run.keep)
        self.accelerator.wait_for_everyone()

    def _say_so(self, loss: float, seconds: float) -> None:
        """A line now and then where there is no terminal for the bar."""
        if not console().is_terminal and self.step % max(1, self.plan.steps // 20) == 0:
            rate = self.plan.step_size / seconds
            logger.info("step %d of %d  loss %.3f  %.0f samples/s", self.step, self.plan.steps, loss, rate)

    def _one_step(self, micro_batches: list[MicroBatch], scale: float) -> StepNumbers | None:
        """The step, done; None if none of its samples could be loaded, and nothing was changed."""
        supervised = self._counted(micro_batches)
        if not supervised:
            logger.warning("step %d: none of its samples could be loaded, nothing is learned in it", self.step + 1)
            return None
        summed = torch.zeros((), device=self.accelerator.device)
        for index, micro in enumerate(micro_batches):
            last = index == len(micro_batches) - 1
            with _synchronised(self.accelerator, self.module, last=last):
                loss = self.module(micro.batch.to(self.accelerator.device))
                # The wrapper averages gradients over the processes; the sum over all tokens is wanted.
                self.accelerator.backward(loss * (self.accelerator.num_processes / supervised))
            summed += loss.detach()
        mean = self._over_all(summed)[0] / supervised
        norm = float(self.accelerator.clip_grad_norm_(self.module.parameters(), self.recipe.optim.clip))
        # In fp16 the scaler tries scales that are too high; it leaves such a step out by itself and lowers the scale.
        scaled = self.accelerator.scaler is not None
        if not (math.isfinite(mean) and (math.isfinite(norm) or scaled)):
            ids = [identifier for micro in micro_batches for identifier in micro.ids]
            raise NonFiniteLossError(
                f"step {self.step + 1}: loss {mean}, gradient norm {norm}; the step was not applied. "
                f"Its samples: {', '.join(ids[:16])}."
            )
        self._apply(scale)
        return StepNumbers(mean, norm)

    def _apply(self, scale: float) -> None:
        for plain, optimizer in zip(self._plain_optimizers, self.optimizers, strict=True):
            for group in plain.param_groups:
                group["lr"] = group["peak_lr"] * scale
            optimizer.step()
            optimizer.zero_grad()

    def _over_all(self, *values: float | torch.Tensor) -> list[float]:
        """The sum of each number over all processes."""
        tensor = torch.stack([torch.as_tensor(value, dtype=torch.float64) for value in values])
        summed: list[float] = self.accelerator.reduce(tensor.to(self.accelerator.device), "sum").tolist()
        return summed

    def _anyone_asks(self, stop: StopFlag) -> bool:
        """Whether a process was asked to stop; all of them have to hear it at the same step."""
        return self._over_all(stop.requested)[0] > 0

    def _counted(self, micro_batches: list[MicroBatch]) -> int:
        """The number of supervised tokens of this step in all processes; adds its samples to the counts."""
        bad = [each for micro in micro_batches for each in micro.bad]
        too_long = [each for micro in micro_batches for each in micro.too_long]
        for each in bad + too_long:
            logger.warning("left out sample %s: %s", each.id, each.reason)
        totals = self._over_all(
            sum(len(micro.ids) for micro in micro_batches),
            sum(micro.batch.tokens for micro in micro_batches if micro.ids),
            sum(micro.batch.supervised for micro in micro_batches),
            len(bad),
            len(too_long),
        )
        samples, tokens, supervised, *left_out = (int(total) for total in totals)
        counts = self.counts
        self.counts = Counts(
            counts.samples + samples,
            counts.tokens + tokens,
            counts.supervised + supervised,
            counts.bad + left_out[0],
            counts.too_long + left_out[1],
        )
        if too_long and self.recipe.batch.too_long == "error":
            raise DataError(f"sample {too_long[0].id}: {too_long[0].reason}")
        self._refuse_many_bad(bad)
        return supervised

    def _refuse_many_bad(self, latest: list[Bad]) -> None:
        seen = self.counts.bad + self.counts.samples
        # Of a long run the first samples are judged together: one bad one among the first ten is not yet a rate.
        judged = max(seen, min(RATE_SAMPLES, self.plan.steps * self.plan.step_size))
        if self.counts.bad > self.recipe.data.max_bad_rate * judged:
            last = f" The last is {latest[-1].id}: {latest[-1].reason}" if latest else ""
            raise DataError(
                f"{self.counts.bad} of the first {seen} samples cannot be loaded, more than "
                f"data.max_bad_rate={self.recipe.data.max_bad_rate} allows.{last} `robointer data check` lists all."
            )

    def _write(self, into: checkpoints.Checkpoint) -> None:
        self.model.save(into.model)
        torch.save(
            {
                "plan": self._plan_identity(),
                "network": learned_state(self.model.network),
                "optimizers": [optimizer.state_dict() for optimizer in self._plain_optimizers],
                "counts": vars(self.counts),
            },
            into.state,
        )

    def _plan_identity(self) -> dict[str, Any]:
        """What has to be the same for the samples after a step to be the same."""
        return {
            "mixture": list(self.recipe.mixture),
            "records": len(self.mixture),
            "seed": self.recipe.run.seed,
            "step_size": self.plan.step_size,
            "processes": self.plan.processes,
            "steps": self.plan.steps,
            "packing": self.plan.identity,
            "augment": self.recipe.augment.model_dump(),
            "optim": self.recipe.optim.model_dump(),
        }

    @property
    def _on_cpu(self) -> bool:
        return str(self.accelerator.device.type) == "cpu"

    def _progress(self) -> Progress:
        return Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[loss]}  {task.fields[rate]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console(),
            disable=not self.accelerator.is_main_process or not console().is_terminal,
        )


def _synchronised(accelerator: Accelerator, module: nn.Module, *, last: bool) -> AbstractContextManager[None]:
    """Exchange gradients between processes only after the last micro-batch of a step."""
    context: AbstractContextManager[None] = nullcontext() if last else accelerator.no_sync(module)
    return context


def _forget_after(step: int, metrics: Path) -> None:
    """Drop the lines of steps that were made after the checkpoint: they are made again. A torn last line goes too."""
    if not metrics.is_file():
        return
    kept = []
    for line in metrics.read_text(encoding="utf-8").splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line + "\n")
        except (ValueError, KeyError, TypeError):
            continue
    write_atomically(metrics, "".join(kept))
