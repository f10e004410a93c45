"""Batch files for a Slurm cluster: `robointer launch slurm` for a training run, and those of `data build`."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from robointervlm.cli.train import read_recipe, recipe_and_overrides
from robointervlm.core.errors import RecipeError
from robointervlm.runs.files import write_atomically, writing_to

launch = typer.Typer(add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True)

# Where data and models lie. Nothing else is written down: what is secret comes with the environment of sbatch.
_VARIABLES = (
    "ROBOINTER_DATA",
    "ROBOINTER_PLUGINS",
    "HF_HOME",
    "HF_HUB_CACHE",
    "HF_HUB_OFFLINE",
    "TRANSFORMERS_OFFLINE",
)
_PATHS = ("ROBOINTER_DATA", "HF_HOME", "HF_HUB_CACHE")


@dataclass(frozen=True)
class Job:
    """What is asked of Slurm."""

    name: str
    nodes: int
    gpus: int
    logs: Path
    partition: str | None = None
    time: str | None = None
    account: str | None = None
    container: str | None = None
    mounts: str | None = None


@launch.callback()
def launching() -> None:
    """Run a training on a cluster. On one machine, `robointer train --gpus N` needs none of this."""


@launch.command(context_settings={"help_option_names": ["-h", "--help"]}, no_args_is_help=True)
def slurm(  # noqa: PLR0913 - one per flag
    recipe: Annotated[Path | None, typer.Argument(help="A YAML recipe, or sft.sh.")] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="section.key=value; for sft.sh its settings, NAME=value.", metavar="[KEY=VALUE]…"),
    ] = None,
    *,
    output: Annotated[Path, typer.Option("-o", "--output", help="The batch file to write.")],
    nodes: Annotated[int, typer.Option(help="Number of machines (nodes).", min=1)] = 1,
    gpus: Annotated[int, typer.Option(help="GPUs per machine; 0 trains on the CPU.", min=0)] = 8,
    partition: Annotated[str | None, typer.Option(help="Slurm's partition.")] = None,
    time: Annotated[str | None, typer.Option(help="Time limit, such as 1-12:00:00.")] = None,
    account: Annotated[str | None, typer.Option(help="The account that is charged.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the job; the run folder's if not given.")] = None,
    container: Annotated[str | None, typer.Option(help="Image for srun --container-image (pyxis).")] = None,
    mounts: Annotated[str | None, typer.Option(help="srun --container-mounts.")] = None,
) -> None:
    """Write a batch file that trains on several machines and is queued again when its time runs out.

    Submit it by `sbatch FILE`. Each machine runs one task, `robointer train`, which starts a process per GPU. Two
    minutes before the time limit it saves, and the job is queued again, to go on from there. The logs are in the run
    folder.

    For example:

      robointer launch slurm recipes/train/sft.yaml model.path=models/qwen run.dir=runs/sft --nodes 2 --gpus 8
      --partition gpu --time 12:00:00 -o job.sbatch
    """
    recipe, settings = recipe_and_overrides(recipe, overrides)
    if recipe is not None and recipe.suffix == ".sh":
        if nodes > 1:
            raise RecipeError(f"--nodes {nodes}: {recipe.name} trains on one machine; give a recipe for several.")
        folder, command = _script(recipe, settings, gpus)
    else:
        folder, command = _training(recipe, settings, gpus, in_container=container is not None)
    job = Job(name or folder.name, nodes, gpus, folder, partition, time, account, container, mounts)
    text = batch_file(job, command, environment=os.environ, folder=Path.cwd())
    with writing_to(output):
        output.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(parents=True, exist_ok=True)  # Slurm opens the logs before anything of ours runs
    write_atomically(output, text)
    typer.echo(f"{output}: submit it by  sbatch {shlex.quote(str(output))}\nlogs: {folder}/slurm-JOB.out and .err")


def _training(recipe: Path | None, settings: list[str], gpus: int, *, in_container: bool) -> tuple[Path, list[str]]:
    """The run's folder and the command that trains there; the recipe is checked now, not in the queue."""
    loaded = read_recipe(recipe, settings)
    program = ["robointer"] if in_container else [sys.executable, "-m", "robointervlm.cli"]
    given = [str(recipe)] if recipe is not None else []
    return loaded.run.dir.absolute(), [*program, "train", *given, *settings, "--gpus", str(gpus)]


def _script(script: Path, settings: list[str], gpus: int) -> tuple[Path, list[str]]:
    """The folder of `sft.sh`'s results and the command that runs it with these settings in its environment."""
    values = dict(setting.partition("=")[::2] for setting in settings)
    if wrong := [name for name in values if not re.fullmatch(r"[A-Za-z_]\w*", name)]:
        raise RecipeError(f"'{wrong[0]}' is no setting of {script.name}; they look like OUTPUT_DIR=results/try.")
    if not script.is_file():
        raise RecipeError(f"{script} does not exist.")
    task = values.setdefault("TASK_NAME", "sft_experiment")
    folder = Path(values.get("OUTPUT_DIR") or script.absolute().parents[1] / "results" / task).absolute()
    values |= {"OUTPUT_DIR": str(folder), "ROBOINTER_PYTHON": values.get("ROBOINTER_PYTHON", sys.executable)}
    variables = [f"{name}={value}" for name, value in values.items()]
    return folder, ["env", *variables, "bash", str(script.absolute()), task, str(gpus)]


def batch_file(job: Job, command: list[str], *, environment: Mapping[str, str], folder: Path) -> str:
    """The text of the batch file: run in `folder`, with the variables that say where data and models lie."""
    step = ["srun", f"--nodes={job.nodes}", f"--ntasks={job.nodes}", "--ntasks-per-node=1"]
    if job.gpus:
        step.append(f"--gpus-per-node={job.gpus}")
    if job.container:
        step += [f"--container-image={job.container}", f"--container-workdir={folder}"]
    if job.mounts:
        step.append(f"--container-mounts={job.mounts}")
    exports = [
        f"export {name}={shlex.quote(str(Path(value).absolute()) if name in _PATHS else value)}"
        for name in _VARIABLES
        if (value := environment.get(name))
    ]
    logs = str(job.logs).replace("%", "%%")
    directives = {
        "job-name": job.name,
        "partition": job.partition,
        "account": job.account,
        "time": job.time,
        "nodes": job.nodes,
        "ntasks-per-node": 1,
        "gpus-per-node": job.gpus or None,
        "output": f"{logs}/slurm-%j.out",
        "error": f"{logs}/slurm-%j.err",
        "open-mode": "append",
        "signal": "B:TERM@120",
    }
    # The machines wait for each other at the end: none may be ended because another is done already.
    words = " \\\n    ".join(shlex.quote(word) for word in [*step, "--wait=0", *command])
    exports.insert(0, "export PYTHONUNBUFFERED=1")
    return batch_text(directives, _ABOUT, f"\n{words} &\n{_UNTIL_SAVED}", folder=folder, exports=exports)


def batch_text(
    directives: Mapping[str, object], about: str, script: str, *, folder: Path, exports: Sequence[str] = ()
) -> str:
    """A batch file that runs a script in `folder`, and is queued again where a machine is lost.

    A directive that is None is left out. Raises `RecipeError` for a value that cannot stand in such a file.
    """
    asked = [f"#SBATCH --{name}={_quoted(value)}" for name, value in directives.items() if value is not None]
    head = ["#!/usr/bin/env bash", *asked, "#SBATCH --requeue", about, "set -euo pipefail", *exports]
    return "\n".join([*head, f"cd -- {shlex.quote(str(folder))}", script])


def _quoted(value: object) -> str:
    """A value for an `#SBATCH` line, which is no shell line: Slurm itself takes away double quotes and backslashes."""
    text = str(value)
    if any(ord(letter) < 32 for letter in text):
        raise RecipeError(f"{text!r} cannot stand in a batch file: it holds a control character.")
    plain = re.fullmatch(r"[\w./:@%+,=-]+", text)
    return text if plain else '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


_ABOUT = "# Written by `robointer launch slurm`. One task per machine, which starts a process per GPU there."
_UNTIL_SAVED = r"""step=$!

# Two minutes before the time limit, or when the job is preempted, the training is told to save. The signal also ends
# `wait`, which then waits again.
trap 'signalled=1; kill -TERM "${step}" 2>/dev/null || true' TERM INT
signalled=1 code=0
while [ -n "${signalled}" ]; do
    signalled="" code=0
    wait "${step}" || code=$?
done

# 75: stopped and saved. The same job goes on from there, unless somebody has cancelled it.
if [ "${code}" -eq 75 ]; then
    case "$(scontrol show job --oneliner "${SLURM_JOB_ID}" || true)" in
        *JobState=CANCELLED*) ;;
        *) scontrol requeue "${SLURM_JOB_ID}" ;;
    esac
fi
exit "${code}"
"""
