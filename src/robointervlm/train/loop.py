"""The training loop: for every step of the plan, the loss of its samples, backward, step, record, maybe checkpoint.

The loss of a step is the mean over all its supervised tokens - across micro-batches and processes - so that the same
samples give the same gradient however they are split.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator

from robointervlm.core.errors import DataError, RecipeError
from robointervlm.data.mixture import Mixture
from robointervlm.models.qwen2_5_vl.network import Qwen25VL
from robointervlm.models.qwen2_5_vl.state_dict import frozen_digest
from robointervlm.runs.signals import StopFlag
from robointervlm.train import checkpoint as checkpoints
from robointervlm.train.callbacks.after_save import AfterSave
from robointervlm.train.callbacks.curves import METRICS
from robointervlm.train.callbacks.progress import Rates
from robointervlm.train.callbacks.validation import VALIDATION, Validating, Validation
from robointervlm.train.callbacks.watch import SampleLog, Watch, forget_after
from robointervlm.train.data.dataset import Bad, Load, MicroBatch, Planned, TrainingDataset, loader
from robointervlm.train.data.image_cache import PixelCache, PixelCounts
from robointervlm.train.data.too_long import judge, too_long_in
from robointervlm.train.devices import keep_freed_memory
from robointervlm.train.engines import engine_for
from robointervlm.train.engines.engine import Engine, restore_generators, save_generators, write_state
from robointervlm.train.inputs import Inputs, refuse_other_inputs
from robointervlm.train.non_finite import how_to_go_on, non_finite
from robointervlm.train.optimizer import PartSummary, schedule
from robointervlm.train.packing.lengths import cores
from robointervlm.train.ranks import Together, by_first, together
from robointervlm.train.recipe import TrainRecipe
from robointervlm.train.same_recipe import Difference, begun_with, recorded, refuse_other_recipe
from robointervlm.train.setup import Setup

logger = logging.getLogger(__name__)

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

    def since(self, before: Counts, seconds: float) -> Rates:
        """What went through the loop between two moments that far apart."""
        return Rates(
            self.samples - before.samples, self.tokens - before.tokens, self.supervised - before.supervised, seconds
        )


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
    feed: TrainingDataset = field(init=False)
    parts: list[PartSummary] = field(init=False)
    engine: Engine = field(init=False)
    step: int = 0
    counts: Counts = field(default_factory=Counts)
    pixels: PixelCounts = PixelCounts()
    after_save: AfterSave = field(init=False)
    inputs: Inputs | None = None
    """What is read beside the recipe: kept in each checkpoint, and compared with the one that is gone on from."""
    changes: list[Difference] = field(default_factory=list)
    """What was changed on purpose since the checkpoint that is gone on from."""

    def __post_init__(self) -> None:
        recipe = self.recipe
        self.after_save = AfterSave(recipe.watch.after_save, recipe.run.dir)
        cache = recipe.data.pixel_cache
        pixels = None if cache is None else PixelCache.opened(cache, recipe.data.pixel_cache_gb)
        setup = Setup(recipe, self.model, self.mixture, self.accelerator.num_processes, pixels)
        self.feed, self.parts = setup.feed, setup.parts
        if recipe.batch.pack == "none":
            begun = checkpoints.newest_step(self.checkpoint_root) is not None
            found = by_first(
                Together(self.accelerator),
                lambda: too_long_in(self.feed, recipe.run.dir, begun=begun, processes=cores()),
            )
            judge(found, recipe.batch)
        self.plan, self.load = setup.planned(), setup.load
        setup.compute_as_trained()
        self._frozen = frozen_digest(self.model.network)
        self.engine = engine_for(recipe, self.model.network, self.accelerator)

    @property
    def checkpoint_root(self) -> Path:
        return self.recipe.run.dir / CHECKPOINTS

    def resume(self) -> None:
        """Go on from the newest whole checkpoint of this run's folder, if there is one."""
        ranks = Together(self.accelerator)
        found = by_first(ranks, lambda: checkpoints.newest(self.checkpoint_root))
        if found is not None:
            together(ranks, lambda: self._restore(found))
            logger.info("going on from %s", found.folder)
        by_first(ranks, self._check_room)
        if self.accelerator.is_main_process:
            forget_after(self.step, self.recipe.run.dir / METRICS)
        forget_after(self.step, self.sample_log.path)

    @cached_property
    def sample_log(self) -> SampleLog:
        """Which samples this process handled in each step."""
        return SampleLog(self.recipe.run.dir, self.accelerator.process_index)

    def _check_room(self) -> None:
        """Refuse a disk on which not one checkpoint has room: at least what learns, and two moments of each."""
        least = 3 * torch.float32.itemsize * sum(part.trainable for part in self.parts)
        checkpoints.refuse_full_disk(self.checkpoint_root, least, self.recipe.run.keep)

    def _restore(self, found: checkpoints.Checkpoint) -> None:
        state = torch.load(found.state, map_location="cpu", weights_only=True)
        recorded_changes = recorded(self.recipe.run.dir)
        before = begun_with(state, self.recipe, str(found.state))
        self.changes = refuse_other_recipe(before, self.recipe, found.folder, recorded_changes)
        if self.inputs is not None and state.get("inputs") is not None:
            refuse_other_inputs(state["inputs"], self.inputs, found.folder)
        ours, theirs = self._plan_identity(), state["plan"]
        if differing := [key for key, value in ours.items() if theirs.get(key, value) != value]:
            raise RecipeError(
                f"{found.folder} belongs to another recipe ({', '.join(differing)} differ); "
                "choose another run.dir, or repeat the recipe it was written with."
            )
        self.engine.load(found.folder)
        restore_generators(found.rank_state(self.accelerator.process_index))
        self.step = found.step
        self.counts = Counts(**state["counts"])

    def run(self, stop: StopFlag) -> None:
        """Train to the end of the plan, or until a signal asks to stop; then a checkpoint holds where it was."""
        recipe, accelerator = self.recipe, self.accelerator
        if self._on_cpu:
            keep_freed_memory()
        workers = recipe.data.workers if recipe.data.workers is not None else (0 if self._on_cpu else 4)
        batches = loader(
            *(self.load, self.plan),
            rank=accelerator.process_index,
            first_step=self.step,
            workers=workers,
            timeout=recipe.data.timeout_seconds,
        )
        with self._watch(stop) as watch, self._telling_of_pixels():
            while self.step < self.plan.steps:
                watch.ask(self.step, self.engine)
                started, before = time.perf_counter(), self.counts
                scale = schedule(self.step, self.plan.steps, recipe.optim)
                numbers = self._one_step(list(islice(batches, recipe.batch.accumulate)), scale)
                self.step += 1
                if numbers is not None:
                    rates = self.counts.since(before, time.perf_counter() - started)
                    watch.step(self.step, numbers._asdict(), scale, rates, vars(self.counts))
                # Whether a process was asked to stop; all of them have to hear it at the same step.
                stopping = self._over_all(stop.requested)[0] > 0
                if self.step % recipe.run.save_every == 0 or stopping:
                    self.save()
                    watch.saved(self.step, checkpoints.at(self.checkpoint_root, self.step).model)
                if stopping:
                    self.after_save.stop()
                    return
            watch.ask(self.step, self.engine)

    def _watch(self, stop: StopFlag) -> Watch:
        """What looks at the run; questions that were asked after the step it goes on from are asked again."""
        recipe, validating = self.recipe, None
        if (validation := Validation.of(recipe, self.model, self.accelerator)) is not None:
            if self.accelerator.is_main_process:
                forget_after(self.step, recipe.run.dir / VALIDATION)
            validating = Validating.begun(validation, recipe.run.dir)
        lr = {row.part: row.lr for row in self.parts if row.lr is not None}
        return Watch(recipe, self.accelerator, self.plan.steps, self.step, lr, self.after_save, validating, stop)

    @contextmanager
    def _telling_of_pixels(self) -> Iterator[None]:
        """Says what the cache of pixels was good for, once the steps in between are done."""
        yield
        if self.feed.pixels is not None:
            found, kept, damaged, left_out = self.pixels
            logger.info(
                "kept pixels in %s: %d pictures found, %d made and kept, %d made and not kept; %d found were damaged",
                *(self.feed.pixels.folder, found, kept, left_out, damaged),
            )

    def save(self) -> None:
        """Write a checkpoint of this step."""
        ranks = Together(self.accelerator)
        checkpoints.save(self.checkpoint_root, self.step, self._write, keep=self.recipe.run.keep, ranks=ranks)

    def _one_step(self, micro_batches: list[MicroBatch], scale: float) -> StepNumbers | None:
        """The step, done; None if none of its samples could be loaded, and nothing was changed."""
        supervised = self._counted(micro_batches)
        if not supervised:
            logger.warning("step %d skipped: none of its samples could be loaded", self.step + 1)
            return None
        losses = []
        for index, micro in enumerate(micro_batches):
            last = index == len(micro_batches) - 1
            losses.append(self.engine.accumulate(micro.batch.to(self.accelerator.device), 1 / supervised, last=last))
        mean = self._over_all(torch.stack(losses).sum())[0] / supervised
        norm = self.engine.step(scale) if math.isfinite(mean) else math.nan
        # In fp16 scales are tried that are too high; such a step is left out and the scale lowered.
        if not (math.isfinite(mean) and (math.isfinite(norm) or self.engine.finds_scale)):
            advice = how_to_go_on(self.recipe, self.parts, checkpoints.newest_step(self.checkpoint_root))
            raise non_finite(Together(self.accelerator), self.step + 1, micro_batches, losses, norm, advice=advice)
        return StepNumbers(mean, norm)

    def _over_all(self, *values: float | torch.Tensor) -> list[float]:
        """The sum of each number over all processes."""
        tensor = torch.stack([torch.as_tensor(value, dtype=torch.float64) for value in values])
        summed: list[float] = self.accelerator.reduce(tensor.to(self.accelerator.device), "sum").tolist()
        return summed

    def _counted(self, micro_batches: list[MicroBatch]) -> int:
        """The number of supervised tokens of this step in all processes; adds its samples to the counts."""
        self.sample_log.write(self.step + 1, micro_batches)
        bad = [each for micro in micro_batches for each in micro.bad]
        too_long = [each for micro in micro_batches for each in micro.too_long]
        for micro in micro_batches:
            self.pixels = self.pixels.plus(micro.pixels)
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
                f"data.max_bad_rate={self.recipe.data.max_bad_rate} allows.{last} "
                "`robointer data check --model` lists all."
            )

    def _write(self, into: checkpoints.Checkpoint) -> None:
        weights = self.engine.weights()  # all processes exchange something here, before one of them can fail to write
        self.engine.save(into.folder)
        save_generators(into.rank_state(self.accelerator.process_index))
        if self.accelerator.is_main_process:
            self.model.save(into.model, weights)
            kept = {"recipe": self.recipe.model_dump(mode="json"), "inputs": self.inputs}
            write_state(into.state, {"plan": self._plan_identity(), "counts": vars(self.counts), **kept})

    def _plan_identity(self) -> dict[str, Any]:
        """What has to be the same for the samples after a step to be the same, beside recipe and inputs."""
        return {
            "records": len(self.mixture),
            "step_size": self.plan.step_size,
            "processes": self.plan.processes,
            "steps": self.plan.steps,
            "strategy": self.engine.name,
            "weights that do not learn": self._frozen,
        }

    @property
    def _on_cpu(self) -> bool:
        return str(self.accelerator.device.type) == "cpu"
