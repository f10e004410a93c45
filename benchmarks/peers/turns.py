"""What every side of benchmarks/training.py does the same way: its arguments, its turns, its clock, its memory.

A side is a process of its own. It says one JSON line per event on standard output and waits for a line on standard
input before each step, so that the sides' steps take turns. Needs torch and nothing else, as it runs in the
environment of the side.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

# Large enough for the full speed of a core, small enough to be measured before every step.
GEMM = 2048
GEMM_TRIES = 5

LEARNING_RATE = 1e-5
CLIP = 1.0


def arguments(description: str | None, **more: Any) -> argparse.Namespace:
    """The command line of a side; `more` are options of its own, each with its choices."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="the folder that training_data.py wrote")
    parser.add_argument("--work", type=Path, required=True, help="a folder for what the trainer writes")
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--samples", type=int, required=True, help="samples of a step: the whole of the data")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--bf16", action="store_true")
    for name, choices in more.items():
        parser.add_argument(f"--{name}", choices=choices, default=choices[0])
    return parser.parse_args()


class Turns:
    """A side's conversation with the benchmark."""

    def __init__(self, device: str) -> None:
        self.device = device
        self._began = self._began_cpu = self._gflops = 0.0
        self._out = os.fdopen(os.dup(1), "w", buffering=1)
        os.dup2(2, 1)  # what the libraries print must not stand between the lines

    def say(self, **values: object) -> None:
        """One line about an event, with the memory used so far."""
        print(json.dumps(values | {"memory_mb": self._memory()}), file=self._out)

    def begin(self) -> None:
        """Wait for the turn, measure what the machine can do now, start the clock."""
        if not sys.stdin.readline():
            sys.exit("nobody waits for this side any more")
        self._gflops = gemm_gflops(self.device)
        self._synchronise()
        self._began, self._began_cpu = time.perf_counter(), time.process_time()

    def end(self) -> None:
        """Stop the clock and tell how long the step took."""
        self._synchronise()
        seconds, cpu_seconds = time.perf_counter() - self._began, time.process_time() - self._began_cpu
        self.say(seconds=seconds, cpu_seconds=cpu_seconds, gemm_gflops=self._gflops)

    def _synchronise(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()

    def _memory(self) -> float:
        """The most memory so far, in MB: resident on the CPU, allocated on the GPU."""
        if self.device == "cuda":
            return torch.cuda.max_memory_allocated() / 1e6
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def gemm_gflops(device: str) -> float:
    """The best speed of a few matrix products in float32, in GFLOP/s.

    On a CPU by processor time divided by the threads: other work on the machine does not make it slower.
    """
    left, right = torch.ones(GEMM, GEMM, device=device), torch.ones(GEMM, GEMM, device=device)
    best = float("inf")
    for _ in range(GEMM_TRIES):
        started = _clock(device)
        left @ right
        best = min(best, _clock(device) - started)
    return 2 * GEMM**3 / best / 1e9


def _clock(device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time() / torch.get_num_threads()


def without_last_newline(ids: Tensor, labels: Tensor, turn_end: int) -> Tensor:
    """The labels (tokens,) without the line break after the end of the turn, which some trainers teach, others not."""
    after = torch.cat([torch.zeros(1, dtype=torch.bool), ids[:-1] == turn_end])
    return labels.masked_fill(after, -100)


def summed_loss(network: Any, batches: Any, turn_end: int) -> dict[str, float]:
    """The summed loss of a Hugging Face trainer's batches of one sample each, and how many tokens are in it.

    `taught` counts the labels as the trainer has them, with the line break that `supervised` and `loss` leave out.
    """
    total, supervised, taught = 0.0, 0, 0
    with torch.no_grad():
        for batch in batches:
            inputs = {name: value for name, value in batch.items() if isinstance(value, Tensor)}
            labels = inputs.pop("labels")[0].cpu()
            taught += int((labels[1:] != -100).sum())
            labels = without_last_newline(inputs["input_ids"][0].cpu(), labels, turn_end)[1:]
            kept = (labels != -100).nonzero()[:, 0]
            device = inputs["input_ids"].device
            logits = network(**inputs, use_cache=False, logits_to_keep=kept.to(device)).logits[0]
            total += float(F.cross_entropy(logits.float(), labels[kept].to(device), reduction="sum"))
            supervised += len(kept)
    return {"loss": total, "supervised": supervised, "taught": taught}
