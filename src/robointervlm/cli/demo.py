"""`robointer demo`: simulate, train, predict, score and look, with nothing but this package."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from robointervlm.core.answer import Box
from robointervlm.core.coordinates import Space
from robointervlm.core.errors import ExitCode, ModelError, RecipeError

# What the demo trains on and asks about; the headline and one stricter or second number of each.
TASKS: dict[str, tuple[str, ...]] = {
    "gripper_det": ("ACC@IoU>0.5", "ACC@IoU>0.1"),
    "current_box": ("ACC@IoU>0.1", "ACC@IoU>0.5"),
    "contact_box": ("ACC@IoU>0.1", "ACC@IoU>0.5"),
    "final_box": ("ACC@IoU>0.1", "ACC@IoU>0.5"),
    "traj": ("DTW",),
}
# The share of the held-out questions that is asked; all of them would take as long as the training.
ASKED_PERCENT = 40
BATCH = 64
# A step is two rows, about 32 questions, however many processes share it; those on one picture read it once.
ROWS = 2
ROW_TOKENS = 1500

# Where there is no terminal to ask for its width, the table is as wide as it needs.
TABLE_WIDTH = 132

ASSETS = Path(__file__).resolve().parents[1] / "assets"


@dataclass(frozen=True)
class DemoSettings:
    """The size of the demo; the defaults are what `docs/demo.md` reports."""

    folder: Path
    seed: int
    episodes: int
    held_out: int
    steps: int
    processes: int

    @property
    def data(self) -> Path:
        return self.folder / "data"


def demo(  # noqa: PLR0913 - one per flag
    folder: Annotated[Path, typer.Option("--dir", help="The output folder.")] = Path("runs/demo"),
    *,
    seed: Annotated[int, typer.Option(help="Random seed of the episodes and of the training.", min=0)] = 0,
    episodes: Annotated[int, typer.Option(help="Number of simulated training episodes.", min=1)] = 1000,
    held_out: Annotated[int, typer.Option(help="Number of simulated held-out episodes.", min=1)] = 150,
    steps: Annotated[int, typer.Option(help="Number of training steps, of about 32 samples each.", min=1)] = 1300,
    processes: Annotated[
        int | None, typer.Option(help="Number of training processes; default: two if there are two cores.")
    ] = None,
) -> int:
    """Watch a small model learn what a robot needs to know, on simulated episodes; 6 to 20 minutes on two cores.

    A small Qwen2.5-VL that can only say where named things are is fine-tuned to answer: where is the gripper, which
    object is to move, where will it be touched, where will it end, along which path. Then it is asked about episodes it
    has never seen, beside itself before the training and two baselines that never look at the picture.

    Example: robointer demo --dir runs/demo
    """
    started = time.monotonic()
    settings = DemoSettings(folder, seed, episodes, held_out, steps, processes or min(2, os.cpu_count() or 1))
    if ROWS % settings.processes:
        raise RecipeError(f"--processes {processes}: a step of two rows is shared by 1 or 2 processes.")
    from robointervlm.episodes.build import BuildConfig, build

    _say("1/4  Simulating episodes of a robot arm on a tabletop")
    build(BuildConfig(seed, episodes, held_out, tasks=tuple(TASKS)), settings.data)
    trained = _trained(settings)
    reports = _asked(settings, trained)
    minutes = (time.monotonic() - started) / 60
    rows = summary_rows(reports)
    _write_summary(settings, minutes, rows)
    return 0


def _trained(settings: DemoSettings) -> Path:
    """The fine-tuned checkpoint; goes on where an interrupted demo stopped."""
    from robointervlm.launch.processes import launch
    from robointervlm.runs.settings import load_recipe, write_recipe
    from robointervlm.train.recipe import TrainRecipe

    recipe = TrainRecipe.model_validate(demo_recipe(settings))
    path = settings.folder / "train.yaml"
    if path.is_file() and load_recipe(TrainRecipe, path) != recipe:
        raise RecipeError(f"{settings.folder} holds a demo with other settings; choose another --dir or remove it.")
    write_recipe(recipe, path)
    finished = recipe.run.dir / "result.json"
    if finished.is_file():
        _say(f"2/4  Already trained: {recipe.run.dir / 'model'}")
        return recipe.run.dir / "model"
    _say(f"2/4  Fine-tuning on {settings.processes} process(es); the same by hand: robointer train {path}")
    code = launch(settings.processes, ["train", str(path)], on_cpu=True)
    if code == ExitCode.STOPPED:
        raise typer.Exit(code)
    if code or not finished.is_file():
        raise ModelError(f"the training ended with exit code {code}; its log is {recipe.run.dir / 'log.txt'}.")
    return recipe.run.dir / "model"


def demo_recipe(settings: DemoSettings) -> dict[str, Any]:
    """The recipe of the demo's training."""
    return {
        "model": {"path": str(ASSETS / "tiny-grounding"), "tune": ["language", "merger", "vision"], "device": "cpu"},
        "mixture": [f"sim_{task}_train" for task in TASKS],
        "data": {"root": str(settings.data)},
        "optim": {
            "name": "muon",
            "language_lr": 3e-3,
            "vision_lr": 3e-3,
            "weight_decay": 0.05,
            "warmup_ratio": 0.05,
        },
        "batch": {"pack": "shared", "max_tokens": ROW_TOKENS, "accumulate": ROWS // settings.processes},
        "augment": {"crop_min": 0.6, "brightness": 0.1},
        "run": {
            "dir": str(settings.folder / "train"),
            "max_steps": settings.steps,
            "save_every": 100,
            "seed": settings.seed,
            "precision": "no",
        },
    }


def _asked(settings: DemoSettings, trained: Path) -> dict[str, dict[str, Any]]:
    """The scored reports of the four who are asked, by name."""
    from robointervlm.evaluate import predict, recipe, score
    from robointervlm.models.model import load_model
    from robointervlm.report.write import write_report

    reports: dict[str, dict[str, Any]] = {}
    checkpoints = {"untrained": ASSETS / "tiny-grounding", "trained": trained}
    _say("3/4  Asking about the held-out episodes")
    for name, checkpoint in checkpoints.items():
        section: dict[str, Any] = {"path": str(checkpoint), "device": "cpu", "name": name}
        folder = settings.folder / name
        asked = recipe.EvaluationRecipe.model_validate(_evaluation(settings, section, folder))
        predict.predict(asked, model=load_model(section))
        reports[name] = score.score(folder)
        write_report(folder)
    for name, texts in baseline_texts(settings).items():
        reports[name] = {"tasks": []}
        for task, answers in texts.items():
            section = {"family": "baseline", "texts": answers, "name": name}
            folder = settings.folder / name / task
            asked = recipe.EvaluationRecipe.model_validate(_evaluation(settings, section, folder, tasks=[task]))
            predict.predict(asked, model=load_model(section))
            reports[name]["tasks"] += score.score(folder)["tasks"]
    return reports


def _evaluation(
    settings: DemoSettings, section: Mapping[str, Any], folder: Path, tasks: Sequence[str] = tuple(TASKS)
) -> dict[str, Any]:
    return {
        "model": section,
        "data": {"mixture": [f"sim_{task}_val%{ASKED_PERCENT}" for task in tasks], "root": str(settings.data)},
        "run": {"dir": str(folder)},
        "batch_size": BATCH,
        "decoding": {"max_new_tokens": 160},
    }


def baseline_texts(settings: DemoSettings) -> dict[str, dict[str, list[str]]]:
    """What the two baselines say, by task: the mean box of the training set, and all of its answers to draw from."""
    from robointervlm.data.mixture import Mixture
    from robointervlm.tasks import task_named

    mean_box: dict[str, list[str]] = {}
    random_answer: dict[str, list[str]] = {}
    for task in TASKS:
        mixture = Mixture([f"sim_{task}_train"], root=settings.data)
        samples = [mixture[index] for index in range(len(mixture))]
        size = samples[0].size
        assert size is not None  # every simulated record says it
        space = Space.pixels(size)
        write = task_named(task).write
        random_answer[task] = [write(sample.answer, space) for sample in samples]
        boxes = [sample.answer for sample in samples if isinstance(sample.answer, Box)]
        if boxes:
            sides = [sum(getattr(box, side) for box in boxes) / len(boxes) for side in ("x1", "y1", "x2", "y2")]
            mean_box[task] = [write(Box(*sides), space)]
    return {"mean_box": mean_box, "random_answer": random_answer}


def summary_rows(reports: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row per task and metric: the trained model with its 95 % interval, and the others' means."""
    rows = []
    for task, metrics in TASKS.items():
        for metric in metrics:
            found = {name: _metric(report, task, metric) for name, report in reports.items()}
            group = next(group for group in reports["trained"]["tasks"] if group["task"] == task)
            trained = found["trained"] or {}
            rows.append(
                {
                    "task": task,
                    "metric": metric,
                    "n": group["n"],
                    "unparsed": group["unparsed"],
                    "trained": trained.get("mean"),
                    "low": trained.get("low"),
                    "high": trained.get("high"),
                    **{name: (found[name] or {}).get("mean") for name in ("untrained", "mean_box", "random_answer")},
                }
            )
    return rows


def _metric(report: Mapping[str, Any], task: str, metric: str) -> dict[str, Any] | None:
    """A metric with failures charged: over all that was asked, so that no one looks better for failing."""
    for group in report["tasks"]:
        for found in group["metrics"]:
            if group["task"] == task and found["name"] == metric:
                return dict(found["charged"] or found)
    return None


def _write_summary(settings: DemoSettings, minutes: float, rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    from robointervlm.runs.files import write_atomically

    summary = {"minutes": round(minutes, 2), "rows": rows}
    write_atomically(settings.folder / "summary.json", json.dumps(summary, indent=2) + "\n")
    table = Table(
        "task", "metric", "n", "unparsed", "trained", "95 % interval", "untrained", "mean box", "random answer"
    )
    for row in rows:
        digits = 0 if row["metric"] == "DTW" else 2
        shown = [_shown(row[key], digits) for key in ("trained", "untrained", "mean_box", "random_answer")]
        interval = f"{_shown(row['low'], digits)} - {_shown(row['high'], digits)}"
        label = f"{row['metric']} (lower is better)" if row["metric"] == "DTW" else row["metric"]
        table.add_row(row["task"], label, str(row["n"]), str(row["unparsed"]), shown[0], interval, *shown[1:])
    console = Console()
    if not console.is_terminal:
        console = Console(width=TABLE_WIDTH)
    console.print("4/4  Held-out episodes, every question counted", style="bold")
    console.print(table)
    console.print(f"{minutes:.1f} minutes. Look at the pictures: {settings.folder / 'trained' / 'report.html'}")


def _shown(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _say(text: str) -> None:
    from robointervlm.runs.log import console

    console().print(f"[bold]{text}[/bold]", highlight=False)
