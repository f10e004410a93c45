"""`robointer train`: in this process, in one per GPU of this machine, or on several machines."""

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


_Overrides = Annotated[
    list[str] | None,
    typer.Argument(help="section.key=value, such as optim.language_lr=1e-5.", metavar="[KEY=VALUE]…"),
]
_Gpus = Annotated[int | None, typer.Option(help="Number of GPUs, one process each; 0 trains on the CPU.", min=0)]
_Processes = Annotated[int | None, typer.Option(help="Number of CPU processes; only without GPUs.", min=1)]
_Nodes = Annotated[int | None, typer.Option(help="Number of machines (nodes); run the same command on each.", min=1)]
_NodeRank = Annotated[int | None, typer.Option(help="The rank of this machine, from 0.", min=0)]
_Master = Annotated[str | None, typer.Option(help="HOST:PORT of node 0, the rendezvous.", metavar="HOST:PORT")]
_Plan = Annotated[
    bool, typer.Option("--plan", help="Dry run: print what would be trained, and the memory and time it takes.")
]
_Tflops = Annotated[
    float | None, typer.Option(help="--plan: throughput of one GPU in TFLOP/s, to estimate the time.", min=1e-6)
]
_Measure = Annotated[
    bool, typer.Option("--measure", help="--plan: time one step on this machine, to estimate the time.")
]


def train(  # noqa: PLR0913 - one per flag
    recipe: Annotated[Path | None, typer.Argument(help="A YAML recipe, such as recipes/train/sft.yaml.")] = None,
    overrides: _Overrides = None,
    *,
    gpus: _Gpus = None,
    processes: _Processes = None,
    nodes: _Nodes = None,
    node_rank: _NodeRank = None,
    master: _Master = None,
    plan: _Plan = False,
    tflops: _Tflops = None,
    measure: _Measure = False,
) -> int:
    """Fine-tune a model from a recipe.

    Before anything is loaded the recipe is checked; before step 0 you see what is trained, on what, and two samples
    with the learned part marked. Run the same command again after an interruption: it goes on from the newest
    checkpoint. Slurm and several machines: docs/clusters.md, `robointer launch slurm`.

    For example:

      robointer train recipes/train/sft.yaml model.path=Qwen/Qwen2.5-VL-3B-Instruct run.dir=runs/sft --gpus 8

      robointer train model.path=runs/tiny mixture=sim_gripper_det_train run.dir=runs/try optim.language_lr=3e-3
    """
    recipe, settings = recipe_and_overrides(recipe, overrides)
    if gpus == 0:
        settings.append("model.device=cpu")
    if gpus and processes is not None:
        raise RecipeError(f"--gpus {gpus} and --processes {processes}: a process per GPU is started; drop --processes.")
    loaded = read_recipe(recipe, settings)
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
        from robointervlm.train.devices import gpus_present

        if (seen := gpus_present()) < gpus:
            raise RecipeError(f"--gpus {gpus}, but torch sees {seen} here; --gpus 0 --processes N trains on the CPU.")
    if wanted == 1 and here is None:
        return _one_process(loaded)
    arguments = [str(recipe)] if recipe is not None else []
    return launch(wanted, ["train", *arguments, *settings], on_cpu=not gpus, node=here)


def recipe_and_overrides(recipe: Path | None, overrides: list[str] | None) -> tuple[Path | None, list[str]]:
    """The recipe's file, if the first argument is one and no override, and the overrides."""
    if recipe is not None and "=" in str(recipe):
        return None, [str(recipe), *(overrides or [])]
    return recipe, [*(overrides or [])]


def read_recipe(recipe: Path | None, overrides: list[str]) -> TrainRecipe:
    """The checked recipe of a file and its overrides, its plugins loaded. Raises `RecipeError`."""
    from robointervlm.runs.settings import load_recipe, with_plugins
    from robointervlm.train.recipe import TrainRecipe

    return with_plugins(load_recipe(TrainRecipe, recipe, overrides))


def _one_process(recipe: TrainRecipe) -> int:
    """Trains as one of the run's processes, or as the only one."""
    from robointervlm.train.ranks import naming_lost_ranks
    from robointervlm.train.run import train as run_training

    with naming_lost_ranks():
        return ExitCode.COMPLETE if run_training(recipe) else ExitCode.STOPPED


def _say_if_alone_in_slurm(nodes: int | None) -> None:
    count = os.environ.get("SLURM_JOB_NUM_NODES", "1")
    if nodes is None and count != "1" and "SLURM_STEP_ID" not in os.environ:
        sys.stderr.write(
            f"This Slurm job has {count} machines, and only this one is used: start the command by srun.\n"
        )
