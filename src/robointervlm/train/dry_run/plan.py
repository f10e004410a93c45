"""`robointer train --plan`: what a recipe will train on what, and what it takes, before it does.

The counts are exact: every sample's text and picture header is read. Memory is an estimate (see `train.estimate`), and
time one from a speed that is given, or from one step measured here.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.table import Table

from robointervlm.core.errors import DataError, RoboInterError
from robointervlm.models.qwen2_5_vl.network import Qwen25VL, SupervisedLoss, skeleton
from robointervlm.runs.files import write_atomically
from robointervlm.runs.log import console
from robointervlm.train.callbacks.progress import duration, short
from robointervlm.train.data.dataset import MicroBatch
from robointervlm.train.data.image_cache import room_for
from robointervlm.train.dry_run.memory import GIB, STRATEGIES, RowSize, activation_bytes, memory, operations, sizes_of
from robointervlm.train.packing.lengths import lengths_of
from robointervlm.train.packing.plan import Lengths
from robointervlm.train.packing.sequences import PackedPlan
from robointervlm.train.recipe import TrainRecipe
from robointervlm.train.setting_names import written
from robointervlm.train.setup import Setup, loaded, mixture_of, model_section, precision_of

PLAN = "plan.json"
# How many micro-batches, spread over the run, tell how much of them is padding.
_LOOKED_AT = 2000
# How many of the longest samples are named.
_NAMED = 5
# How many samples that cannot be trained on are named.
_LISTED, _SHOWN = 200, 20
# How many micro-batches are encoded to see how many of their tokens are learned.
_ENCODED = 8
# What a measured step computes in, by `run.precision`; "no" is the float32 of the weights.
_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass
class Forecast:
    """A recipe with its samples measured. `plan` is what the training would follow on so many processes."""

    recipe: TrainRecipe
    processes: int
    model: Qwen25VL

    def __post_init__(self) -> None:
        recipe = self.recipe
        self.setup = Setup(recipe, self.model, mixture_of(recipe), self.processes)
        self.mixture, self.feed = self.setup.mixture, self.setup.feed
        # Without a limit, so that the length of what is too long is known as well.
        unlimited = dataclasses.replace(self.feed, max_tokens=2**62)
        self.whole, stamps = lengths_of(unlimited, recipe.batch)
        self.too_long = self.whole.tokens > recipe.batch.max_tokens
        own = self.whole.group.max() + 1 + np.arange(len(self.too_long))
        self.lengths = Lengths(
            np.where(self.too_long, 0, self.whole.tokens),
            np.where(self.too_long, 0, self.whole.shared),
            np.where(self.too_long, own, self.whole.group),
        )
        self.plan = self.setup.planned((self.lengths, stamps))
        self.load = self.setup.load

    def record(self) -> dict[str, Any]:
        """The whole of `plan.json`, without time."""
        recipe, plan, tokens = self.recipe, self.plan, self.lengths.tokens
        batches = list(self._batches())
        computed, filled = sum(each[0] for each in batches), sum(each[1] for each in batches)
        return {
            "processes": self.processes,
            "steps": plan.steps,
            "rows_per_step": plan.accumulate * self.processes,
            "samples": len(self.mixture),
            "samples_per_step": plan.step_size,
            "tokens": int(tokens.sum()),
            "unreadable": int((self.whole.tokens == 0).sum()),
            "problems": self._problems(),
            "too_long": int(self.too_long.sum()),
            "too_long_means": recipe.batch.too_long,
            "max_tokens": recipe.batch.max_tokens,
            "padding_share": 1 - filled / computed if computed else 0.0,
            "padding_looked_at": len(batches),
            "tokens_per_step": computed / max(1, len(batches)) * plan.accumulate * self.processes,
            "longest": self._longest(),
            "datasets": self._datasets(),
            "sharing": self._sharing(),
            "pixel_cache": self._pixel_cache(),
            "parameters": [vars(row) for row in self.setup.parts],
            "memory": self._memory(max((each[0] for each in batches), default=0)),
        }

    def _batches(self) -> Iterator[tuple[int, int]]:
        """Of micro-batches spread over the run: the tokens that are computed, and those that are no padding."""
        count = self.plan.steps * self.plan.accumulate
        for number in np.unique(np.linspace(0, count - 1, min(count, _LOOKED_AT)).astype(int)).tolist():
            for rank in range(self.processes):
                yield self._size(self.plan.micro_batch(rank, number))

    def _size(self, wanted: Sequence[Any]) -> tuple[int, int]:
        if isinstance(self.plan, PackedPlan):
            room = sum(self.lengths.room(group.samples) for group in wanted)
            return room, room
        tokens = [int(self.lengths.tokens[index]) for _, index in wanted]
        present = [each for each in tokens if each]
        return max(present, default=0) * len(present), sum(present)

    def _problems(self) -> list[str]:
        """What is wrong with the samples that cannot be trained on, of the first of them."""
        found = map(self.feed.problem, np.flatnonzero(self.whole.tokens == 0)[:_LISTED].tolist())
        return list(dict.fromkeys(str(problem) for problem in found if problem is not None))

    def _longest(self) -> list[dict[str, Any]]:
        order = np.argsort(-self.whole.tokens, kind="stable")[:_NAMED].tolist()
        return [
            {"id": self.mixture[index].id, "tokens": int(self.whole.tokens[index])}
            for index in order
            if self.whole.tokens[index]
        ]

    def _datasets(self) -> list[dict[str, Any]]:
        found, start = [], 0
        for row in self.mixture.table():
            part = slice(start, start + row.taken)
            start += row.taken
            found.append(
                {
                    "dataset": row.name,
                    "task": row.task,
                    "records": row.records,
                    "taken": row.taken,
                    "too_long": int(self.too_long[part].sum()),
                    "unreadable": int((self.whole.tokens[part] == 0).sum()),
                    "tokens": _quantiles(self.whole.tokens[part]),
                }
            )
        return found

    def _sharing(self) -> dict[str, int] | None:
        """What the first epoch's rows hold against what they would hold if nothing were shared."""
        if not isinstance(self.plan, PackedPlan):
            return None
        rows = self.plan.rows(0)
        rooms = rows.rooms(self.lengths)
        pictures = {index: self._pictures(index) for row in rows for group in row for index in group.samples}
        return {
            "rows": len(rows),
            "longest_row": int(rooms.max()),
            "tokens": int(rooms.sum()),
            "tokens_alone": int(self.lengths.tokens.sum()),
            "pictures": sum(pictures[group.samples[0]] for row in rows for group in row),
            "pictures_alone": sum(pictures.values()),
        }

    def _pixel_cache(self) -> dict[str, int] | None:
        """How many pictures would be kept, by their places, and how many bytes their pixels take at most."""
        if self.recipe.data.pixel_cache is None:
            return None
        kept = self.feed.same_in_each_epoch()
        return {
            "pictures": len(kept),
            "bytes": room_for(kept, self.model.encoder.limits),
            "limit": int(self.recipe.data.pixel_cache_gb * 1e9),
        }

    def _pictures(self, index: int) -> int:
        try:
            return len(self.mixture[index].images) if self.lengths.tokens[index] else 0
        except RoboInterError:
            return 0

    def _memory(self, longest_row: int) -> dict[str, Any]:
        """The estimate for the longest row, were all of its tokens learned that are no picture: the most it can be."""
        network, config, run = self.model.network, self.model.network.config, self.recipe.run
        bf16 = run.precision in ("auto", "bf16")
        row = RowSize(longest_row, min(longest_row, self._learned(longest_row)), 0)
        kept = activation_bytes(config, row, bf16=bf16, checkpointing=run.gradient_checkpointing)
        sizes = sizes_of(network)
        asks = self.recipe.watch.validation is not None
        return {
            "estimated_for": {"tokens": longest_row, "supervised": row.supervised, "bf16": bf16},
            "gib": {name: memory(name, sizes, kept, self.processes, bf16=bf16).gib() for name in STRATEGIES},
            "whole_copy_gib": round(sizes.all * (2 if bf16 else 4) / GIB, 3) if asks else None,
        }

    def _learned(self, tokens: int) -> int:
        """How many of so many tokens have a label, at the rate of the first micro-batches."""
        seen = [micro.batch for micro in self.first() if micro.ids]
        total = sum(batch.tokens for batch in seen)
        return round(tokens * sum(batch.supervised for batch in seen) / total) if total else tokens

    def first(self) -> list[MicroBatch]:
        """The first micro-batches of the first process, encoded."""
        if not hasattr(self, "_first"):
            count = min(_ENCODED, self.plan.steps * self.plan.accumulate)
            self._first = [self.load(self.plan.micro_batch(0, number)) for number in range(count)]
        return self._first

    def operations(self) -> float:
        """Of a step of one process, as the mean of the first micro-batches."""
        batches = [micro.batch for micro in self.first()]
        rows = [
            RowSize(each.tokens, each.supervised, 0 if each.pixels_PC is None else len(each.pixels_PC))
            for each in batches
        ]
        checkpointing = self.recipe.run.gradient_checkpointing
        network = self.model.network
        each = [operations(network, network.config, row, checkpointing=checkpointing) for row in rows]
        return sum(each) / len(each) * self.plan.accumulate

    def measured(self) -> float:
        """Seconds of a step here: forwards and backwards of the first micro-batches, after one to warm up."""
        self.setup.compute_as_trained()
        network = self.model.network
        device = network.device
        precision = precision_of(self.recipe, on_cpu=device.type == "cpu")
        loss = SupervisedLoss(network).train()
        seconds = []
        for micro in [self.first()[0], *self.first()]:
            started = time.perf_counter()
            with torch.autocast(device.type, _AUTOCAST.get(precision), enabled=precision in _AUTOCAST):
                computed = loss(micro.batch.to(device))
            computed.backward()
            if device.type == "cuda":
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - started)
        return sum(seconds[1:]) / len(seconds[1:]) * self.plan.accumulate


def forecast(recipe: TrainRecipe, *, processes: int, tflops: float | None, measure: bool) -> dict[str, Any]:
    """Print and write the plan of a recipe; its weights are loaded only to measure a step."""
    on_gpu = recipe.model.device != "cpu" and torch.cuda.is_available()
    # Also where the training shares the model out, a step is measured on one device.
    section = model_section(recipe, on_cpu=not on_gpu).model_copy(update={"device": recipe.model.device})
    made = Forecast(recipe, processes, loaded(recipe, section, on_gpu=on_gpu) if measure else skeleton(section))
    record = made.record() | {"time": _time(made, tflops, measure=measure)}
    _show(record)
    recipe.run.dir.mkdir(parents=True, exist_ok=True)
    write_atomically(recipe.run.dir / PLAN, json.dumps(record, indent=2) + "\n")
    console().print(f"Nothing was trained. The numbers are in {recipe.run.dir / PLAN}", highlight=False)
    _refuse_many_bad(record, recipe)
    return record


def _refuse_many_bad(record: dict[str, Any], recipe: TrainRecipe) -> None:
    """Raises `DataError` where the training would stop because of samples that cannot be loaded."""
    if record["unreadable"] > recipe.data.max_bad_rate * record["samples"]:
        raise DataError(
            f"{record['unreadable']:,} of {record['samples']:,} samples cannot be trained on, more than "
            f"data.max_bad_rate={recipe.data.max_bad_rate} allows; the first: {record['problems'][0]}"
        )


def _time(made: Forecast, tflops: float | None, *, measure: bool) -> dict[str, Any]:
    operations_per_step = made.operations()
    found: dict[str, Any] = {"operations_per_step_and_process": operations_per_step, "seconds": None, "from": "nothing"}
    if measure:
        step = made.measured()
        found |= {"seconds_per_step": step, "seconds": step * made.plan.steps, "from": "a step measured here"}
    elif tflops is not None:
        step = operations_per_step / (tflops * 1e12)
        found |= {"seconds_per_step": step, "seconds": step * made.plan.steps, "from": f"{tflops:g} TFLOP/s given"}
    return found


def _quantiles(tokens: NDArray[np.int64]) -> dict[str, int]:
    known = tokens[tokens > 0]
    if not len(known):
        return {}
    names = ("min", "p25", "median", "p75", "p95", "max")
    values = np.quantile(known, (0, 0.25, 0.5, 0.75, 0.95, 1), method="inverted_cdf")
    return {name: int(value) for name, value in zip(names, values, strict=True)}


def _show(record: dict[str, Any]) -> None:
    say = console().print
    say(_dataset_table(record))
    parts = Table("part", "parameters", "learning", title="What learns")
    for part in record["parameters"]:
        parts.add_row(part["part"], f"{part['parameters']:,}", f"{part['trainable']:,}")
    say(parts)
    for line in record["problems"][:_SHOWN]:
        say(line, highlight=False, markup=False, soft_wrap=True)
    for line in _lines(record):
        say(line, highlight=False, markup=False)
    say(_memory_table(record))
    say(_time_line(record), highlight=False, markup=False)


def _dataset_table(record: dict[str, Any]) -> Table:
    table = Table(title=f"{record['samples']:,} samples")
    table.add_column("dataset", overflow="fold")
    for name in ("taken", "too long", "unreadable", "tokens: median", "95 %", "longest"):
        table.add_column(name, justify="right")
    for row in record["datasets"]:
        tokens = [str(row["tokens"].get(name, "–")) for name in ("median", "p95", "max")]
        table.add_row(row["dataset"], f"{row['taken']:,}", f"{row['too_long']:,}", f"{row['unreadable']:,}", *tokens)
    return table


def _lines(record: dict[str, Any]) -> Iterator[str]:
    yield (
        f"{record['steps']:,} steps of about {record['samples_per_step']:,} samples on {record['processes']} "
        f"processes, {record['rows_per_step']} rows each, {record['tokens_per_step']:,.0f} tokens a step"
    )
    yield f"padding: {record['padding_share']:.1%} of the tokens of {record['padding_looked_at']:,} rows looked at"
    longest = ", ".join(f"{each['id']} ({each['tokens']:,})" for each in record["longest"])
    yield f"longest samples (tokens): {longest}"
    if record["too_long"]:
        what = (
            "are left out"
            if record["too_long_means"] == "drop"
            else (f"STOP the training before it begins; {written({'batch.too_long': 'drop'})} leaves them out")
        )
        yield f"{record['too_long']:,} samples are longer than batch.max_tokens={record['max_tokens']:,} and {what}"
    if cache := record["pixel_cache"]:
        yield (
            f"kept pixels: up to {cache['bytes'] / 1e9:.2f} GB for {cache['pictures']:,} pictures; "
            f"data.pixel_cache_gb={cache['limit'] / 1e9:g}"
        )
    if copied := record["memory"]["whole_copy_gib"]:
        yield (
            f"while watch.validation is answered, a GPU of zero3, zero3_offload or fsdp also holds the whole model, "
            f"{copied:.2f} GiB; no activations are kept then"
        )
    if sharing := record["sharing"]:
        saved = 1 - sharing["tokens"] / max(1, sharing["tokens_alone"])
        yield (
            f"an epoch: {sharing['rows']:,} rows, up to {sharing['longest_row']:,} tokens; sharing saves {saved:.1%} "
            f"of {sharing['tokens_alone']:,} tokens, and {sharing['pictures_alone'] - sharing['pictures']:,} of "
            f"{sharing['pictures_alone']:,} pictures through the vision tower"
        )


def _memory_table(record: dict[str, Any]) -> Table:
    said = record["memory"]["estimated_for"]
    table = Table(
        *("GiB", "weights", "gradients", "optimizer", "activations", "a GPU", "host"),
        title=f"Estimated memory of one of {record['processes']}, for a row of {said['tokens']:,} tokens",
    )
    for name, gib in record["memory"]["gib"].items():
        parts = ("weights", "gradients", "optimizer", "activations", "gpu", "host")
        table.add_row(name, *(f"{gib[part]:.2f}" for part in parts))
    return table


def _time_line(record: dict[str, Any]) -> str:
    found = record["time"]
    counted = f"{short(found['operations_per_step_and_process'] / 1e9)} GFLOP a step and process"
    if found["seconds"] is None:
        return f"time: {counted}; give --tflops (what a GPU really reaches), or --measure a step on this machine"
    whole = duration(found["seconds"])
    return f"time: about {whole}, {found['seconds_per_step']:.3g} s a step ({found['from']}; {counted})"
