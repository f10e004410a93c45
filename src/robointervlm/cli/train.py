"""`robointer train`, `tiny` and `demo`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from robointervlm.core.errors import ExitCode, RecipeError


def train(
    recipe: Annotated[Path | None, typer.Argument(help="A YAML recipe, such as recipes/train/sft.yaml.")] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="section.key=value, such as optim.language_lr=1e-5.", metavar="[KEY=VALUE]…"),
    ] = None,
    *,
    gpus: Annotated[int | None, typer.Option(help="Processes with one GPU each; 0 trains on the CPU.", min=0)] = None,
    processes: Annotated[int, typer.Option(help="CPU processes; only without GPUs.", min=1)] = 1,
) -> int:
    """Fine-tune a model from a recipe.

    Before anything is loaded the recipe is checked; before step 0 you see what is trained, on what, and two samples with
    the learned part marked. Run the same command again after an interruption: it goes on from the newest checkpoint.

    For example:

      robointer train recipes/train/sft.yaml model.path=Qwen/Qwen2.5-VL-3B-Instruct run.dir=runs/sft --gpus 8

      robointer train model.path=runs/tiny mixture=[sim_gripper_det_train] run.dir=runs/try optim.language_lr=3e-3
    """
    from robointervlm.runs.settings import load_recipe
    from robointervlm.train.recipe import TrainRecipe

    settings = [*(overrides or [])]
    if recipe is not None and "=" in str(recipe):
        settings.insert(0, str(recipe))
        recipe = None
    if gpus == 0:
        settings.append("model.device=cpu")
    loaded = load_recipe(TrainRecipe, recipe, settings)
    wanted = gpus or processes
    if wanted > 1 and "WORLD_SIZE" not in os.environ:
        if gpus and processes > 1:
            raise RecipeError(
                f"--gpus {gpus} and --processes {processes}: a process per GPU is started; drop --processes."
            )
        arguments = [str(recipe)] if recipe is not None else []
        return launch(wanted, ["train", *arguments, *settings], on_cpu=not gpus)
    from robointervlm.train.run import train as run_training

    return ExitCode.COMPLETE if run_training(loaded) else ExitCode.STOPPED


def launch(processes: int, arguments: list[str], *, on_cpu: bool) -> int:
    """Run a `robointer` command line in several processes under torchrun; the exit code is the first that failed."""
    environment = dict(os.environ)
    if on_cpu:
        # One thread each: the processes share the cores, and waiting threads must not burn them.
        environment |= {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "ACCELERATE_USE_CPU": "true"}
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)),
        *("-m", "robointervlm.cli", *arguments),
    ]
    return subprocess.run(command, env=environment, check=False).returncode  # noqa: S603 - our own command line


def tiny(
    folder: Annotated[Path, typer.Argument(help="Where the checkpoint is written.")],
    texts: Annotated[
        list[str] | None, typer.Option("--texts-from", help="Datasets whose texts the tokenizer learns.")
    ] = None,
    *,
    root: Annotated[Path | None, typer.Option(help="Data root; ROBOINTER_DATA by default.")] = None,
    catalog: Annotated[list[Path] | None, typer.Option(help="More dataset entries.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the random weights.")] = 0,
) -> None:
    """Make a small random Qwen2.5-VL with a small tokenizer: a stand-in for the real one, for dry runs and tests.

    Example: robointer tiny runs/tiny --texts-from sim_gripper_det_train
    """
    from robointervlm.data.mixture import Mixture
    from robointervlm.data.spec import Catalog
    from robointervlm.models.tiny import TinySize, tiny_model
    from robointervlm.train.supervision import sample_texts

    mixture = Mixture(texts, root=root, catalog=Catalog(*(catalog or ()))) if texts else None
    model = tiny_model(sample_texts(mixture), TinySize(), seed=seed)
    model.save(folder)
    parameters = sum(parameter.numel() for parameter in model.network.parameters())
    typer.echo(f"{folder}: {parameters:,} random parameters, {len(model.encoder.chat.tokenizer)} tokens")
