"""A training run from its recipe to the exported model."""

from __future__ import annotations

import json
import logging
import os
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs, set_seed
from rich.table import Table

from robointervlm.core.errors import DataError, RoboInterError
from robointervlm.data import images
from robointervlm.data.mixture import Mixture
from robointervlm.models.qwen2_5_vl import Section
from robointervlm.models.qwen2_5_vl.encoder import read_encoder
from robointervlm.models.qwen2_5_vl.folder import read_config
from robointervlm.runs.files import write_atomically
from robointervlm.runs.log import console
from robointervlm.runs.run import Run
from robointervlm.runs.settings import load_recipe
from robointervlm.runs.signals import noting_signals
from robointervlm.train.callbacks.preview import drawn, marked, row_structure
from robointervlm.train.callbacks.trackers import refuse_missing
from robointervlm.train.checkpoint import MANIFEST, damage, discard, make_durable, newest_step, writing_weights
from robointervlm.train.inputs import INPUTS, Inputs, inputs_of, read_inputs, refuse_other_inputs
from robointervlm.train.loop import CHECKPOINTS, Training
from robointervlm.train.optimizer import parts_table
from robointervlm.train.packing.sequences import PackedPlan
from robointervlm.train.ranks import Together, by_first
from robointervlm.train.recipe import TrainRecipe
from robointervlm.train.same_recipe import record, recorded, refuse_other_recipe
from robointervlm.train.setup import loaded, mixture_of, model_section, precision_of

logger = logging.getLogger(__name__)

RESULT = "result.json"
# The key of `result.json` that says where the exported model's manifest is.
RESULT_WITH_MANIFEST = "manifest"
# How many samples are shown before step 0.
SHOWN = 2


def train(recipe: TrainRecipe) -> bool:
    """Run the recipe to its end; the finished model is in `<run.dir>/model`.

    Run again after an interruption it goes on from the newest checkpoint. Returns False if a signal stopped it early.
    Raises `RecipeError`, before anything in the folder is changed, if the run there was begun with another recipe or
    with other data or another model.
    """
    refuse_missing(recipe.watch.to)
    _refuse_another_recipe(recipe)
    accelerator = _accelerator(recipe)
    ranks = Together(accelerator)
    with ExitStack() as opened:
        run = by_first(ranks, lambda: opened.enter_context(Run.opened(recipe.run.dir)))
        # Once more, now that nobody else can write there.
        by_first(ranks, lambda: _refuse_another_recipe(recipe))
        # Nothing in the loop draws from the global generators; this is for what libraries may do.
        set_seed(recipe.run.seed)
        mixture, section = mixture_of(recipe), model_section(recipe, on_cpu=accelerator.device.type == "cpu")
        inputs = by_first(ranks, lambda: _inputs(recipe, mixture, section, str(accelerator.mixed_precision)))
        if _is_begun(recipe.run.dir) and by_first(ranks, lambda: _is_finished(recipe.run.dir)):
            accelerator.end_training()
            return True
        model = loaded(recipe, section, on_gpu=accelerator.device.type == "cuda")
        training = Training(recipe, model, mixture, accelerator, inputs=inputs)
        training.resume()
        by_first(ranks, lambda: _write_down(run, training))
        return _trained(training)


def _is_begun(folder: Path) -> bool:
    """Whether something was learned there that a later start goes on from."""
    return newest_step(folder / CHECKPOINTS) is not None or (folder / RESULT).is_file()


def _refuse_another_recipe(recipe: TrainRecipe) -> None:
    """Raise `RecipeError` if what was learned in the run's folder comes from other settings."""
    folder = recipe.run.dir
    if _is_begun(folder) and (written := folder / "recipe.yaml").is_file():
        refuse_other_recipe(load_recipe(TrainRecipe, written), recipe, folder)


def _inputs(recipe: TrainRecipe, mixture: Mixture, section: Section, precision: str) -> Inputs:
    """What the training reads. Raises `RecipeError` if it is not what the run in its folder was begun with."""
    encoder = read_encoder(section, read_config(section.path))
    known = read_inputs(recipe.run.dir)
    found = inputs_of(recipe, mixture, encoder, precision, known)
    if _is_begun(recipe.run.dir):
        if known is not None:
            refuse_other_inputs(known, found, recipe.run.dir)
        else:
            logger.warning(
                "%s has no %s: it was begun by an earlier version, so that nobody knows whether data and model are "
                "those of then. From now on they are compared.",
                *(recipe.run.dir, INPUTS),
            )
    return found


def _is_finished(folder: Path) -> bool:
    """Whether the run's model is there, each file as it was exported; a `DataError` if it is damaged."""
    model = folder / "model"
    if not ((folder / RESULT).is_file() and model.is_dir()):
        return False
    if not (model / MANIFEST).is_file() and RESULT_WITH_MANIFEST not in (folder / RESULT).read_text(encoding="utf-8"):
        logger.warning("%s was exported by an earlier version, without a manifest; it is not verified", model)
    elif (problem := damage(model)) is not None:
        raise DataError(
            f"{folder} is finished, but its model is not as it was exported: {model}: {problem}. Move that folder away "
            "and run the same command again: it is made again from the newest checkpoint."
        )
    logger.info("%s is finished already; the model is in %s", folder, model)
    return True


def _write_down(run: Run, training: Training) -> None:
    """Recipe, inputs and changes, once they were compared with what is in the run's folder."""
    folder = run.folder
    for each in record(folder, training.step, training.changes):
        logger.warning("from step %d on, by run.change: %s", training.step + 1, each)
    run.record(training.recipe)
    write_atomically(folder / INPUTS, json.dumps(training.inputs, indent=1) + "\n")


def _trained(training: Training) -> bool:
    """The training, from where it is to the end of its plan; whether it came there."""
    accelerator, folder = training.accelerator, training.recipe.run.dir
    if accelerator.is_main_process:
        show(training)
    with noting_signals() as stop:
        training.run(stop)
    if training.step < training.plan.steps:
        logger.warning("stopped at step %d of %d; rerun the same command to go on", training.step, training.plan.steps)
        return False
    weights = training.engine.weights()
    if accelerator.is_main_process:
        _export(training, weights, folder / "model")
        changes = [each._asdict() for each in recorded(folder)]
        result = {"steps": training.step, **vars(training.counts), RESULT_WITH_MANIFEST: f"model/{MANIFEST}"}
        result |= {"changes": changes} if changes else {}
        write_atomically(folder / RESULT, json.dumps(result, indent=2) + "\n")
        logger.info(
            "trained %d steps on %d samples; the model is in %s",
            *(training.step, training.counts.samples, folder / "model"),
        )
    accelerator.end_training()
    if accelerator.is_main_process:
        training.after_save.finish()
    return True


def _export(training: Training, weights: dict[str, torch.Tensor], folder: Path) -> None:
    """Write the finished model under its name only when it is whole, with a manifest to know it by."""
    temporary = folder.with_name(f".tmp-{folder.name}")
    with writing_weights(folder):
        discard(temporary)
        training.model.save(temporary, weights)
        make_durable(temporary, {"step": training.step})
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
    precision = precision_of(recipe, on_cpu=on_cpu)
    if on_cpu and os.environ.get("WORLD_SIZE", "1") != "1":
        os.environ.setdefault("ACCELERATE_USE_CPU", "true")
    if on_cpu:
        # accelerate looks for DeepSpeed where it is installed, and that for a GPU, with a warning.
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    waiting = InitProcessGroupKwargs(timeout=timedelta(minutes=recipe.run.timeout_minutes))
    return Accelerator(cpu=on_cpu, mixed_precision=precision, kwargs_handlers=[waiting])
