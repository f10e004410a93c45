"""A training run from its recipe to the exported model."""

from __future__ import annotations

import json
import logging
import os
from datetime import timedelta
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs, set_seed
from rich.table import Table

from robointervlm.core.errors import DataError, RecipeError, RoboInterError
from robointervlm.data import images
from robointervlm.data.mixture import Mixture
from robointervlm.data.spec import Catalog
from robointervlm.models.qwen2_5_vl import Section
from robointervlm.models.qwen2_5_vl.liger import is_wanted, use_liger
from robointervlm.models.qwen2_5_vl.network import Qwen25VL
from robointervlm.runs.files import write_atomically
from robointervlm.runs.log import console
from robointervlm.runs.run import Run
from robointervlm.runs.settings import load_recipe
from robointervlm.runs.signals import noting_signals
from robointervlm.train.checkpoint import discard
from robointervlm.train.disk import writing_weights
from robointervlm.train.loop import CHECKPOINTS, Training
from robointervlm.train.packing import PackedPlan
from robointervlm.train.parts_table import parts_table
from robointervlm.train.preview import drawn, marked, row_structure
from robointervlm.train.recipe import TrainRecipe
from robointervlm.train.trackers import refuse_missing

logger = logging.getLogger(__name__)

# How many samples are shown before step 0.
SHOWN = 2


def train(recipe: TrainRecipe) -> bool:
    """Run the recipe to its end; the finished model is in `<run.dir>/model`.

    Run again after an interruption it goes on from the newest checkpoint. Returns False if a signal stopped it early.
    """
    refuse_missing(recipe.watch.to)
    _refuse_another_recipe(recipe)
    finished = recipe.run.dir / "result.json"
    if finished.is_file() and (recipe.run.dir / "model").is_dir():
        logger.info("%s is finished already; the model is in %s", recipe.run.dir, recipe.run.dir / "model")
        return True
    accelerator = _accelerator(recipe)
    if not accelerator.is_main_process:
        return _train(recipe, accelerator)
    with Run.opened(recipe.run.dir, recipe):
        return _train(recipe, accelerator)


def _refuse_another_recipe(recipe: TrainRecipe) -> None:
    """Raise `RecipeError`, before anything in the folder is changed, if its checkpoints come from other settings."""
    written = recipe.run.dir / "recipe.yaml"
    begun = (recipe.run.dir / CHECKPOINTS).is_dir() or (recipe.run.dir / "result.json").is_file()
    if not begun or not written.is_file():
        return
    before, now = _decisive(load_recipe(TrainRecipe, written)), _decisive(recipe)
    if changed := [f"{key} was {before[key]}, is {now[key]}" for key in now if before[key] != now[key]]:
        raise RecipeError(
            f"{recipe.run.dir} belongs to another recipe: {'; '.join(changed)}. "
            "Choose another run.dir, or give the settings it was begun with."
        )


def _decisive(recipe: TrainRecipe) -> dict[str, object]:
    """The settings that decide what is learned, which a run keeps from its first step to its last."""
    run = recipe.run
    return {
        "model.tune": sorted(recipe.model.tune),
        "model.lora": recipe.model.lora.model_dump(),
        "mixture": recipe.mixture,
        **{f"optim.{key}": value for key, value in recipe.optim.model_dump().items()},
        **{f"augment.{key}": value for key, value in recipe.augment.model_dump().items()},
        **{"run.epochs": run.epochs, "run.max_steps": run.max_steps, "run.seed": run.seed},
    }


def _train(recipe: TrainRecipe, accelerator: Accelerator) -> bool:
    # Nothing in the loop draws from the global generators; this is for what libraries may do.
    set_seed(recipe.run.seed)
    catalog = Catalog(*recipe.data.catalog)
    mixture = Mixture(
        recipe.mixture,
        seed=recipe.run.seed,
        root=recipe.data.root,
        catalog=catalog,
        follow_links=recipe.data.follow_links,
    )
    if not len(mixture):
        raise DataError(f"the mixture {list(recipe.mixture)} holds no record.")
    model = _loaded(recipe, accelerator)
    training = Training(recipe, model, mixture, accelerator)
    if accelerator.is_main_process:
        show(training)
    training.resume()
    with noting_signals() as stop:
        training.run(stop)
    if training.step < training.plan.steps:
        logger.warning("stopped at step %d of %d; rerun the same command to go on", training.step, training.plan.steps)
        return False
    weights = training.engine.weights()
    if accelerator.is_main_process:
        _export(model, weights, recipe.run.dir / "model")
        result = {"steps": training.step, **vars(training.counts)}
        write_atomically(recipe.run.dir / "result.json", json.dumps(result, indent=2) + "\n")
        logger.info(
            "trained %d steps on %d samples; the model is in %s",
            *(training.step, training.counts.samples, recipe.run.dir / "model"),
        )
    accelerator.end_training()
    if accelerator.is_main_process:
        training.after_save.finish()
    return True


def _loaded(recipe: TrainRecipe, accelerator: Accelerator) -> Qwen25VL:
    """The model to be trained, with Liger's kernels in it where they are wanted."""
    fused = is_wanted(recipe.model.liger, on_gpu=accelerator.device.type == "cuda")
    model = Qwen25VL.load(_model_section(recipe, accelerator))
    if fused:
        use_liger(model.network)
    return model


def _model_section(recipe: TrainRecipe, accelerator: Accelerator) -> Section:
    """How the model is loaded to be trained."""
    section = Section(**recipe.model.model_dump(exclude={"tune", "lora", "liger"}))
    changes: dict[str, object] = {"device": "cpu"} if accelerator.device.type == "cpu" else {}
    if recipe.run.strategy != "ddp":
        changes["device"] = "cpu"  # shared out from there: no GPU has to hold the whole model
    if section.dtype == "auto":
        # The weights that learn are kept in float32, whatever `run.precision` computes in: next to a weight of 0.02 a
        # step of 5e-6 is lost in bfloat16, and the model would not learn at all.
        changes["dtype"] = "float32"
    return section.model_copy(update=changes)


def _export(model: Qwen25VL, weights: dict[str, torch.Tensor], folder: Path) -> None:
    """Write the finished model under its name only when it is whole."""
    temporary = folder.with_name(f".tmp-{folder.name}")
    with writing_weights(folder):
        discard(temporary)
        model.save(temporary, weights)
        discard(folder)
        temporary.replace(folder)


def show(training: Training) -> None:
    """Print what is trained on what, and write the first samples, supervised part marked, into the run folder."""
    recipe, mixture = training.recipe, training.mixture
    console().print(parts_table(training.parts, recipe.optim))
    data = Table(
        "dataset", "task", "records", "taken", title=f"On {len(mixture):,} samples, {training.plan.steps:,} steps"
    )
    for entry in mixture.table():
        data.add_row(entry.name, entry.task, f"{entry.records:,}", f"{entry.taken:,}")
    console().print(data)
    if isinstance(training.plan, PackedPlan):
        console().print(training.plan.summary(), highlight=False)
    show_samples(training, recipe.run.dir / "first_samples")
    console().print(f"Writing to {recipe.run.dir}", highlight=False)


def show_samples(training: Training, folder: Path) -> None:
    """Print the first samples that can be loaded, and write them into the folder, with their pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    texts: list[str] = []
    for index in training.mixture.order(0)[: 10 * SHOWN]:
        if len(texts) == SHOWN:
            break
        try:
            turns, pictures, encoded = training.feed.example(int(index))
        except RoboInterError:
            continue  # the loop counts and names it
        texts.append(marked(encoded, training.model.encoder.chat))
        console().print(f"[bold]Sample {len(texts)}[/bold], what is learned between «»:")
        console().print(texts[-1], markup=False, highlight=False)
        if pictures:
            drawn(pictures, [turn.answer for turn in turns], folder / f"{len(texts)}.png")
    (folder / "samples.txt").write_text("\n\n".join(texts) + "\n", encoding="utf-8")
    if isinstance(training.plan, PackedPlan):
        show_row(training, training.plan, folder)


def show_row(training: Training, plan: PackedPlan, folder: Path) -> None:
    """Print how the first packed row is made, and write it, with the pictures of its largest group and all answers."""
    row = plan.rows(0)[0]
    batch = training.load(row).batch
    if batch.segments is None:
        return  # none of its samples can be loaded; the loop counts and names them
    text = row_structure(batch, training.model.encoder.chat)
    console().print("[bold]First packed row[/bold]:")
    console().print(text, markup=False, highlight=False)
    (folder / "row.txt").write_text(text + "\n", encoding="utf-8")
    largest = max(row, key=lambda group: len(group.samples))
    try:
        samples = [training.mixture[index] for index in largest.samples]
        pictures = [images.load(reference) for reference in samples[0].images]
    except RoboInterError:
        return
    if pictures:
        drawn(pictures, [turn.answer for sample in samples for turn in sample.turns], folder / "row.png")


def _accelerator(recipe: TrainRecipe) -> Accelerator:
    on_cpu = recipe.model.device == "cpu" or not torch.cuda.is_available()
    precision = recipe.run.precision
    if precision == "auto":
        precision = "no" if on_cpu else "bf16"
    if on_cpu and precision == "fp16":
        raise RecipeError("run.precision=fp16 needs a GPU, and this run has none; use bf16 or no (float32).")
    if on_cpu and os.environ.get("WORLD_SIZE", "1") != "1":
        os.environ.setdefault("ACCELERATE_USE_CPU", "true")
    if on_cpu:
        # accelerate looks for DeepSpeed where it is installed, and that for a GPU, with a warning.
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    waiting = InitProcessGroupKwargs(timeout=timedelta(minutes=recipe.run.timeout_minutes))
    return Accelerator(cpu=on_cpu, mixed_precision=precision, kwargs_handlers=[waiting])
