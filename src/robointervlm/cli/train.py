"""`robointer train` and `tiny`."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from robointervlm.core.errors import ExitCode, RecipeError
from robointervlm.runs.signals import StopFlag, noting_signals


def train(  # noqa: PLR0913 - options of the command line
    recipe: Annotated[Path | None, typer.Argument(help="A YAML recipe, such as recipes/train/sft.yaml.")] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="section.key=value, such as optim.language_lr=1e-5.", metavar="[KEY=VALUE]…"),
    ] = None,
    *,
    gpus: Annotated[int | None, typer.Option(help="Processes with one GPU each; 0 trains on the CPU.", min=0)] = None,
    processes: Annotated[int, typer.Option(help="CPU processes; only without GPUs.", min=1)] = 1,
    plan: Annotated[bool, typer.Option("--plan", help="Only say what would be trained, and what it takes.")] = False,
    tflops: Annotated[float | None, typer.Option(help="--plan: speed of a GPU in use, for the time.", min=1e-6)] = None,
    measure: Annotated[bool, typer.Option("--measure", help="--plan: measure a step here, for the time.")] = False,
) -> int:
    """Fine-tune a model from a recipe.

    Before anything is loaded the recipe is checked; before step 0 you see what is trained, on what, and two samples
    with the learned part marked. Run the same command again after an interruption: it goes on from the newest
    checkpoint.

    For example:

      robointer train recipes/train/sft.yaml model.path=Qwen/Qwen2.5-VL-3B-Instruct run.dir=runs/sft --gpus 8

      robointer train model.path=runs/tiny mixture=sim_gripper_det_train run.dir=runs/try optim.language_lr=3e-3
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
    if plan:
        from robointervlm.train.forecast import forecast

        forecast(loaded, processes=wanted, tflops=tflops, measure=measure)
        return ExitCode.COMPLETE
    if tflops is not None or measure:
        raise RecipeError("--tflops and --measure belong to --plan.")
    if wanted > 1 and "WORLD_SIZE" not in os.environ:
        if gpus and processes > 1:
            raise RecipeError(
                f"--gpus {gpus} and --processes {processes}: a process per GPU is started; drop --processes."
            )
        if gpus:
            _refuse_missing_gpus(gpus)
        arguments = [str(recipe)] if recipe is not None else []
        return launch(wanted, ["train", *arguments, *settings], on_cpu=not gpus)
    from robointervlm.train.run import train as run_training

    return ExitCode.COMPLETE if run_training(loaded) else ExitCode.STOPPED


def _refuse_missing_gpus(wanted: int) -> None:
    from robointervlm.train.devices import gpus_present

    if (present := gpus_present()) < wanted:
        raise RecipeError(f"--gpus {wanted}, but torch sees {present} here; --gpus 0 --processes N trains on the CPU.")


def launch(processes: int, arguments: list[str], *, on_cpu: bool) -> int:
    """Run a `robointer` command line in several processes on this machine; the exit code is the first that failed.

    Not through torchrun, which says of every failure a page and the code 1.
    """
    environment = {**os.environ, "WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes)}
    environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port())}
    if on_cpu:
        # One thread each: the processes share the cores, and waiting threads must not burn them.
        environment |= {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "ACCELERATE_USE_CPU": "true"}
    command = [sys.executable, "-m", "robointervlm.cli", *arguments]
    children: list[subprocess.Popen[bytes]] = []
    with noting_signals() as stop:
        try:
            for rank in range(processes):
                numbered = environment | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
                # In a group of their own: a Ctrl-C at the terminal reaches them through us, once.
                children.append(subprocess.Popen(command, env=numbered, process_group=0))  # noqa: S603 - our own
            return _first_failure(children, stop)
        finally:
            _signal(children, signal.SIGKILL)


def _first_failure(children: list[subprocess.Popen[bytes]], stop: StopFlag) -> int:
    """Wait for the processes; once one fails the others are ended, as they would wait for it forever."""
    failed = 0
    told = False
    while any(child.poll() is None for child in children):
        if stop.requested and not told:
            told = True
            _signal(children, signal.SIGTERM)
        failed = failed or next((child.returncode for child in children if child.returncode), 0)
        if failed and failed != ExitCode.STOPPED:
            _wait(children, seconds=10)
            _signal(children, signal.SIGKILL)
        time.sleep(0.1)
    failed = failed or next((child.returncode for child in children if child.returncode), 0)
    # Popen says -9 where a shell says 137.
    return failed if failed >= 0 else 128 - failed


def _wait(children: list[subprocess.Popen[bytes]], seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and any(child.poll() is None for child in children):
        time.sleep(0.1)


def _signal(children: list[subprocess.Popen[bytes]], number: int) -> None:
    for child in children:
        if child.poll() is None:
            child.send_signal(number)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


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
