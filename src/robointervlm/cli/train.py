"""`robointer train` and `tiny`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from robointervlm.core.errors import ExitCode, RecipeError
from robointervlm.launch.cluster import Asked, Started, place
from robointervlm.launch.processes import launch

if TYPE_CHECKING:
    from robointervlm.train.recipe import TrainRecipe


def train(  # noqa: PLR0913 - one per flag
    recipe: Annotated[Path | None, typer.Argument(help="A YAML recipe, such as recipes/train/sft.yaml.")] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="section.key=value, such as optim.language_lr=1e-5.", metavar="[KEY=VALUE]…"),
    ] = None,
    *,
    gpus: Annotated[
        int | None, typer.Option(help="Number of GPUs, one process each; 0 trains on the CPU.", min=0)
    ] = None,
    processes: Annotated[int | None, typer.Option(help="Number of CPU processes; only without GPUs.", min=1)] = None,
    nodes: Annotated[
        int | None, typer.Option(help="Number of machines (nodes); run the same command on each.", min=1)
    ] = None,
    node_rank: Annotated[int | None, typer.Option(help="The rank of this machine, from 0.", min=0)] = None,
    master: Annotated[
        str | None, typer.Option(help="HOST:PORT of node 0, the rendezvous.", metavar="HOST:PORT")
    ] = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Dry run: print what would be trained, and the memory and time it takes.")
    ] = False,
    tflops: Annotated[
        float | None, typer.Option(help="--plan: throughput of one GPU in TFLOP/s, to estimate the time.", min=1e-6)
    ] = None,
    measure: Annotated[
        bool, typer.Option("--measure", help="--plan: time one step on this machine, to estimate the time.")
    ] = False,
) -> int:
    """Fine-tune a model from a recipe.

    Before anything is loaded the recipe is checked; before step 0 you see what is trained, on what, and two samples
    with the learned part marked. Run the same command again after an interruption: it goes on from the newest
    checkpoint. Slurm and several machines: docs/clusters.md, `robointer launch slurm`.

    For example:

      robointer train recipes/train/sft.yaml model.path=Qwen/Qwen2.5-VL-3B-Instruct run.dir=runs/sft --gpus 8

      robointer train model.path=runs/tiny mixture=sim_gripper_det_train run.dir=runs/try optim.language_lr=3e-3
    """
    from robointervlm.runs.settings import load_recipe, with_plugins
    from robointervlm.train.recipe import TrainRecipe

    recipe, settings = recipe_and_overrides(recipe, overrides)
    if gpus == 0:
        settings.append("model.device=cpu")
    if gpus and processes is not None:
        raise RecipeError(f"--gpus {gpus} and --processes {processes}: a process per GPU is started; drop --processes.")
    loaded = with_plugins(load_recipe(TrainRecipe, recipe, settings))
    here = place(os.environ, Asked(gpus or processes, nodes, node_rank, master))
    wanted = gpus or processes or 1
    if plan:
        from robointervlm.train.dry_run.plan import forecast

        forecast(loaded, processes=wanted * (nodes or 1), tflops=tflops, measure=measure)
        return ExitCode.COMPLETE
    if tflops is not None or measure:
        raise RecipeError("--tflops and --measure belong to --plan.")
    if isinstance(here, Started):
        os.environ |= here.variables
        return _one_process(loaded)
    _say_if_alone_in_slurm(nodes)
    if gpus:
        _refuse_missing_gpus(gpus)
    if wanted == 1 and here is None:
        return _one_process(loaded)
    arguments = [str(recipe)] if recipe is not None else []
    return launch(wanted, ["train", *arguments, *settings], on_cpu=not gpus, node=here)


def recipe_and_overrides(recipe: Path | None, overrides: list[str] | None) -> tuple[Path | None, list[str]]:
    """The recipe's file, if the first argument is one and no override, and the overrides."""
    if recipe is not None and "=" in str(recipe):
        return None, [str(recipe), *(overrides or [])]
    return recipe, [*(overrides or [])]


def _refuse_missing_gpus(wanted: int) -> None:
    from robointervlm.train.devices import gpus_present

    if (present := gpus_present()) < wanted:
        raise RecipeError(f"--gpus {wanted}, but torch sees {present} here; --gpus 0 --processes N trains on the CPU.")


def _one_process(recipe: TrainRecipe) -> int:
    """Trains as one of the run's processes, or as the only one."""
    from robointervlm.train.lost_rank import naming_lost_ranks
    from robointervlm.train.run import train as run_training

    with naming_lost_ranks():
        return ExitCode.COMPLETE if run_training(recipe) else ExitCode.STOPPED


def _say_if_alone_in_slurm(nodes: int | None) -> None:
    count = os.environ.get("SLURM_JOB_NUM_NODES", "1")
    if nodes is None and count != "1" and "SLURM_STEP_ID" not in os.environ:
        sys.stderr.write(
            f"This Slurm job has {count} machines, and only this one is used: start the command by srun.\n"
        )


def tiny(
    folder: Annotated[Path, typer.Argument(help="Where the checkpoint is written.")],
    texts: Annotated[
        list[str] | None, typer.Option("--texts-from", help="Datasets whose texts the tokenizer is trained on.")
    ] = None,
    *,
    root: Annotated[Path | None, typer.Option(help="Data root; $ROBOINTER_DATA by default.")] = None,
    catalog: Annotated[list[Path] | None, typer.Option(help="A catalog of your own; repeatable.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the random weights.")] = 0,
) -> None:
    """Make a small random Qwen2.5-VL with a small tokenizer: a stand-in for the real one, for dry runs and tests.

    Example: robointer tiny runs/tiny --texts-from sim_gripper_det_train
    """
    from robointervlm.data.mixture import Mixture
    from robointervlm.data.spec import Catalog
    from robointervlm.models.tiny import TinySize, tiny_model
    from robointervlm.train.data.labels import sample_texts

    mixture = Mixture(texts, root=root, catalog=Catalog(*(catalog or ()))) if texts else None
    model = tiny_model(sample_texts(mixture), TinySize(), seed=seed)
    model.save(folder)
    parameters = sum(parameter.numel() for parameter in model.network.parameters())
    typer.echo(f"{folder}: {parameters:,} random parameters, {len(model.encoder.chat.tokenizer)} tokens")
