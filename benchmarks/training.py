"""Training speed: packed rows beside one sample at a time, beside TRL and ms-swift; same model, same data, one run.

    python benchmarks/training.py --models 40M 190M --workloads G P --sides shared none trl-answers swift
    python benchmarks/training.py --quick        a smoke run of our own sides with a tiny model

The peers have environments of their own, made once (docs/training_speed.md). Every side is a process; all are ready
before the first step, then their steps take turns. Each first tells its summed loss of the same samples, so that the
work is seen to be the same. A step is all samples of the workload: the data is one step long, and every epoch
repeats it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
import training_data
import transformers
from models_for_speed import SHAPES, random_model
from training_flops import Work, step_flops

from robointervlm.models.qwen2_5_vl.encoder import Encoder
from robointervlm.models.qwen2_5_vl.packed import packed

HERE = Path(__file__).parent
SIDES = {
    "shared": ("ours.py", ["--pack", "shared"], ""),
    "none": ("ours.py", ["--pack", "none"], ""),
    "trl": ("with_trl.py", ["--head", "own"], "trl"),
    "trl-answers": ("with_trl.py", ["--head", "answers"], "trl"),
    "swift": ("with_swift.py", [], "swift"),
}
# Relative difference of the summed loss: our two ways do the same arithmetic; the peers resize pictures in other code.
SAME, SAME_AS_PEER = 1e-5, 1e-4


Step = dict[str, float]
"""What a side tells of a step: seconds, processor seconds, the speed of a matrix product, memory."""


@dataclass
class Side:
    """A process that trains in turns, and what it has told."""

    name: str
    process: subprocess.Popen[str]
    ready: dict[str, Any] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    done: dict[str, Any] = field(default_factory=dict)

    def hear(self) -> dict[str, Any]:
        """The next line it says. Exits if it says none."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"the side {self.name} ended with exit code {self.process.wait()}; see its .log in the folder")
        said: dict[str, Any] = json.loads(line)
        return said

    def take_turn(self) -> None:
        """Let it do one step."""
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        self.steps.append(self.hear())


def start(name: str, chosen: argparse.Namespace, model: Path, data: Path, stack: ExitStack) -> Side:
    """The process of a side, not yet heard of."""
    script, own, peer = SIDES[name]
    python = chosen.peers / peer / "bin" / "python" if peer else Path(sys.executable)
    if not python.exists():
        sys.exit(f"{python} is missing: docs/training_speed.md tells how the environment of {name} is made")
    samples = len(json.loads((data / "questions.json").read_text()))
    work = chosen.folder / "runs" / f"{model.name}-{data.name}-{name}"
    work.mkdir(parents=True, exist_ok=True)
    command = [python.absolute(), HERE / "peers" / script, *own, "--model", model, "--data", data, "--work", work]
    command += ["--steps", chosen.warmup + chosen.rounds, "--samples", samples, "--device", chosen.device]
    command += ["--bf16"] if chosen.bf16 else []
    threads = {name: str(chosen.threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    environment = os.environ | threads | {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    if peer:
        environment.pop("PYTHONPATH", None)
    log = stack.enter_context((work.parent / f"{work.name}.log").open("w"))
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": log, "text": True}
    process = subprocess.Popen([str(word) for word in command], env=environment, **pipes)
    return Side(name, stack.enter_context(process))


def compare(chosen: argparse.Namespace, model: Path, data: Path) -> list[Side]:
    """All sides on one model and workload, their steps in turn."""
    with ExitStack() as stack:
        sides = []
        for name in chosen.sides:  # one after the other: loading and the first loss are not timed
            sides.append(side := start(name, chosen, model, data, stack))
            side.ready = side.hear()
            print(f"  {name}: loss {side.ready['loss']:.4f} of {side.ready['supervised']} tokens", file=sys.stderr)
        refuse_different_losses(sides)
        for turn in range(chosen.warmup + chosen.rounds):
            for side in sides:
                side.take_turn()
                print(f"  {turn} {side.name}: {side.steps[-1]}", file=sys.stderr)
                if turn == chosen.warmup + chosen.rounds - 1:
                    side.done = side.hear()
    for side in sides:
        side.steps = side.steps[chosen.warmup :]
    return sides


def refuse_different_losses(sides: list[Side]) -> None:
    """Exit if a side's summed loss of the samples, or the number of tokens in it, is not the first one's."""
    first = sides[0].ready
    for side in sides[1:]:
        allowed = SAME_AS_PEER if SIDES[side.name][2] else SAME
        difference = abs(side.ready["loss"] / first["loss"] - 1)
        if difference > allowed or side.ready["supervised"] != first["supervised"]:
            sys.exit(f"{side.name} does other work than {sides[0].name}: {side.ready} against {first}")


def saved_model(name: str, folder: Path) -> Encoder:
    """Writes the model of this size for the sides to load; only its encoder is kept in memory."""
    model = random_model(name, training_data.texts())
    model.save(folder)
    return model.encoder


def works(encoder: Encoder, workload: training_data.Workload, folder: Path) -> dict[str, Work]:
    """What a step passes through the model: apart, apart with every token scored, and packed."""
    groups: dict[int, list[Any]] = {}
    for record in training_data.records(workload):
        groups.setdefault(record.group, []).append(training_data.encoded(record, folder, encoder))
    everyone = [sample for group in groups.values() for sample in group]
    scored = sum(int((sample.labels[1:] != -100).sum()) for sample in everyone)
    segments = packed(encoder, list(groups.values())).segments
    assert segments is not None

    def grids(samples: list[Any]) -> list[tuple[int, int]]:
        return [(grid.rows, grid.columns) for sample in samples for grid in sample.grids]

    alone = [(len(sample.ids), 0) for sample in everyone]
    return {
        "apart": Work(alone, grids(everyone), scored),
        "apart, every token scored": Work(alone, grids(everyone), sum(own - 1 for own, _ in alone)),
        "packed": Work(
            [(part.length, part.prefix) for part in segments.parts],
            grids([group[0] for group in groups.values()]),
            scored,
        ),
    }


WORK_OF = {"shared": "packed", "trl": "apart, every token scored"}


def spread(values: list[float], digits: int = 2) -> str:
    """The median, and the smallest and largest."""
    return f"{median(values):.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def table(sides: list[Side], samples: int, flops: dict[str, float], busy: Callable[[Step], float]) -> list[str]:
    """The lines of a Markdown table about one model and workload.

    `flops` are a step's operations on each side, `busy` is how long the hardware was at work on a step.
    """
    first = sides[0]
    lines = [
        f"| side | samples/s | {first.name} is faster by | by processor time | peak MB | FLOP utilisation | "
        "loss differs by |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for side in sides:
        pairs = list(zip(first.steps, side.steps, strict=True))
        peak = 1e9 * max(step["gemm_gflops"] for step in side.steps)
        cells = [
            side.name,
            spread([samples / step["seconds"] for step in side.steps], 3),
            *(spread([other[unit] / own[unit] for own, other in pairs]) for unit in ("seconds", "cpu_seconds")),
            f"{side.done['memory_mb']:.0f}",
            spread([100 * flops[side.name] / busy(step) / peak for step in side.steps], 0) + " %",
            f"{abs(side.ready['loss'] / first.ready['loss'] - 1):.0e}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def counted(kinds: dict[str, Work], names: list[str]) -> list[str]:
    """The operations of a step, apart and packed, for shapes that are timed and for the real one."""
    lines = ["| shape | TFLOP apart | packed | ratio | output layer's part apart |", "| --- | --- | --- | --- | --- |"]
    for name in [*names, "3B"]:
        apart, together = (step_flops(SHAPES[name], kinds[kind]) for kind in ("apart", "packed"))
        none = step_flops(SHAPES[name], Work(kinds["apart"].segments, kinds["apart"].grids, 0))
        lines.append(
            f"| {name} | {apart / 1e12:.3g} | {together / 1e12:.3g} | {apart / together:.2f} | {1 - none / apart:.0%} |"
        )
    return lines


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=["1M", "40M", "190M"], default=["40M", "190M"])
    parser.add_argument("--workloads", nargs="+", choices=[*training_data.WORKLOADS], default=["G", "P"])
    parser.add_argument("--sides", nargs="+", choices=[*SIDES], default=["shared", "none", "trl-answers", "swift"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--warmup", type=int, default=1, help="steps before the clock counts")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="cuda has not been run yet")
    parser.add_argument("--bf16", action="store_true", help="float32 weights, computed with in bfloat16, for all sides")
    parser.add_argument("--peers", type=Path, default=Path(".bench"), help="the folder with the peers' environments")
    parser.add_argument("--folder", type=Path, default=Path(".bench/training"), help="models, data, logs, results")
    parser.add_argument(
        "--question-words",
        type=int,
        nargs=2,
        default=training_data.QUESTION_WORDS,
        metavar=("LEAST", "MOST"),
        help="how long the questions are; the longer, the less there is to share",
    )
    parser.add_argument("--quick", action="store_true", help="a smoke run: our sides, a tiny model, one round")
    chosen = parser.parse_args()
    if chosen.quick:
        chosen.models, chosen.workloads, chosen.sides, chosen.rounds = ["1M"], ["quick"], ["shared", "none"], 1
    return chosen


def main() -> None:
    chosen = arguments()

    def busy(step: Step) -> float:
        return step["seconds"] if chosen.device == "cuda" else step["cpu_seconds"] / chosen.threads

    workloads = {
        name: replace(workload, question_words=tuple(chosen.question_words))
        for name, workload in (training_data.WORKLOADS | {"quick": training_data.QUICK}).items()
    }
    print(
        f"torch {torch.__version__}, transformers {transformers.__version__}, {platform.machine()}, {chosen.device}, "
        f"{'bfloat16' if chosen.bf16 else 'float32'}, {chosen.threads} thread(s), {os.cpu_count()} cores, load "
        f"{os.getloadavg()[0]:.1f}; questions of {chosen.question_words[0]} to {chosen.question_words[1]} words; "
        f"warm-up {chosen.warmup}, rounds {chosen.rounds}: median (smallest-largest)"
    )
    for model_name in chosen.models:
        folder = chosen.folder / "models" / model_name
        encoder = saved_model(model_name, folder)
        for name in chosen.workloads:
            data = (chosen.folder / "data" / name).absolute()
            training_data.write(workloads[name], data)
            kinds = works(encoder, workloads[name], data)
            sides = compare(chosen, folder.absolute(), data)
            print(f"\n{model_name}, {name}: {workloads[name].samples} samples a step\n")
            flops = {
                side.name: step_flops(SHAPES[model_name], kinds[WORK_OF.get(side.name, "apart")]) for side in sides
            }
            print("\n".join(table(sides, workloads[name].samples, flops, busy)), "\n", flush=True)
            print("\n".join(counted(kinds, chosen.models)), flush=True)
            told = [{"side": s.name, "ready": s.ready, "steps": s.steps, "done": s.done} for s in sides]
            (chosen.folder / f"{model_name}-{name}.json").write_text(json.dumps(told, indent=2) + "\n")
    print("\nThe output layer dominates small models, so the small models' ratios are not results for a 3B model.")


if __name__ == "__main__":
    main()
