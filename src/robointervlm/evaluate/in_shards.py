"""One prediction by several processes of this machine, or by a Ray cluster: a model and a shard of the questions each.

The machines of a cluster see the run folder, the data and the checkpoint under the same paths. An answer goes from the
process that has it into its shard's journal on the disk: with a process is lost what it was just being asked.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from robointervlm.core import errors
from robointervlm.core.errors import LostProcessError, RecipeError, RoboInterError
from robointervlm.evaluate.predict import Outcome, predict
from robointervlm.evaluate.recipe import EvaluationRecipe
from robointervlm.evaluate.records import RECORDS
from robointervlm.evaluate.shards import SHARDS, answered_so_far, folder_of, merge_shards, shard_folder
from robointervlm.jobs.pool import run_in_processes
from robointervlm.jobs.progress import progress_bar
from robointervlm.jobs.ray_cluster import RETRIES, run_on_ray
from robointervlm.jobs.share import Share
from robointervlm.models.model import check_section, device_of
from robointervlm.runs.journal import read_journal
from robointervlm.runs.log import configure_logging, console
from robointervlm.runs.run import Run
from robointervlm.runs.settings import load_recipe, with_plugins, write_recipe
from robointervlm.runs.signals import StopRequested, stopping_on_signals

logger = logging.getLogger(__name__)

OUTPUT = "output.txt"
# A process that is killed so often without a new answer in between would be killed again.
_DEATHS_WITHOUT_PROGRESS = 3


def predict_in_shards(recipe: EvaluationRecipe, count: int, ray: Any = None) -> Outcome:
    """Answers every question of the recipe in so many shards and merges them: here, or on the cluster of `ray`.

    What is killed is started again and goes on where it stopped. Raises what the shard that failed by itself raised,
    `LostProcessError` for one that is killed again and again, `RecipeError` where the folder holds another run, and
    `StopRequested`, with what is done, when told to stop.
    """
    if recipe.shard is not None:
        raise RecipeError(f"shard={recipe.shard} is one process's share: give --shard or --processes, not both.")
    check_section(recipe.model)
    run, shards = recipe.run.dir, Share.all(count)
    for shard in shards:
        folder_of(run, shard)  # refuses a folder that holds another run
    with stopping_on_signals(), Run.opened(run) as opened:
        write_recipe(recipe, run / SHARDS / "recipe.yaml")
        if not (run / "recipe.yaml").exists():
            opened.record(recipe)
        reused, _ = answered_so_far(run)
        try:
            if ray is None:
                _answer_here(recipe, shards)
            else:
                _answer_on_ray(recipe, shards, ray)
        except StopRequested as stop:
            done, total = answered_so_far(run)
            said = f"{done} of {total or 'the questions'} done"
            raise StopRequested(stop.number, f"rerun the same command to go on; {said}.") from None
        opened.record(recipe)  # not before: the shards may have refused it, as answers of another one are there
        counts = merge_shards(run)
    logger.info("finished: %s.", ", ".join(f"{number} {status}" for status, number in counts.items()))
    return Outcome(run, counts, reused)


def _answer_here(recipe: EvaluationRecipe, shards: Sequence[Share]) -> None:
    """Answers the shards in a process each, with a share of the cores and one of the GPUs."""
    run, gpus = recipe.run.dir, _gpus(recipe)
    threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, len(os.sched_getaffinity(0)) // len(shards)))

    def variables(shard: Share) -> dict[str, str]:
        gpu = {"CUDA_VISIBLE_DEVICES": gpus[(shard.number - 1) % len(gpus)]} if gpus else {}
        return {"OMP_NUM_THREADS": threads, **gpu}

    work, died = partial(_answer, str(Path.cwd()), run, alone=True), _restarts(run, shards)
    with _progress(run, f"answering in {len(shards)} processes") as told:
        run_in_processes(work, shards, len(shards), told=told, died=died, variables=variables)


def _answer(here: str, run: Path, shard: Share, *, alone: bool) -> None:
    """Answers a shard in whichever process; `alone` says that it is ours, and says in a file what it has to say.

    What it raises of ours is of `core.errors`, which any process can read.
    """
    output = shard_folder(run, shard) / OUTPUT
    try:
        try:
            os.chdir(here)  # paths in a recipe are relative to where we are
        except OSError as error:
            raise RecipeError(f"{here} has to be the same folder on every machine: {error.strerror}.") from None
        if alone:
            output.parent.mkdir(parents=True, exist_ok=True)
            with output.open("ab") as said_to:
                for standard in (1, 2):
                    os.dup2(said_to.fileno(), standard)
            configure_logging()
        # What failed is judged when all is merged, not by each shard for itself.
        overrides = [f"shard={shard}", "max_error_rate=1"]
        predict(with_plugins(load_recipe(EvaluationRecipe, run / SHARDS / "recipe.yaml", overrides)))
    except RoboInterError as error:
        where = f"shard {shard}"
        if alone:
            sys.stderr.write(f"error: {error}\n")
            where = f"the process of {where} ended with exit code {error.exit_code:d}"
        kind: type[RoboInterError] = next(kind for kind in type(error).__mro__ if kind.__module__ == errors.__name__)
        raise kind(f"{where}: {error}") from None
    except Exception as error:
        if not alone or isinstance(error, (ModuleNotFoundError, MemoryError)):
            raise
        traceback.print_exc()
        said = f"{type(error).__name__}: {error}. This is a bug; the traceback is in {output}."
        raise LostProcessError(f"the process of shard {shard} ended with exit code 1: {said}") from None


def _restarts(run: Path, shards: Sequence[Share]) -> Callable[[Share, int], bool]:
    """Gives a function that says a process was killed, or raises `LostProcessError` where another start is pointless.

    That is where it was killed several times without a new answer in between.
    """

    def answers(shard: Share) -> int:
        return len(read_journal(shard_folder(run, shard) / RECORDS).entries)

    in_vain, known = dict.fromkeys(shards, 0), {shard: answers(shard) for shard in shards}

    def may_go_on(shard: Share, code: int) -> bool:
        output = shard_folder(run, shard) / OUTPUT
        if code >= 0:
            said = output.read_text(encoding="utf-8", errors="replace").split("\n") if output.exists() else []
            last = next((line.removeprefix("error: ") for line in reversed(said) if line.strip()), "")
            last = last or f"it said nothing in {output}"
            raise LostProcessError(f"the process of shard {shard} ended with exit code {code}: {last}")
        name = signal.Signals(-code).name
        logger.warning(
            "the process of shard %s was killed (%s); it is started again and goes on where it stopped.", shard, name
        )
        before, known[shard] = known[shard], answers(shard)
        in_vain[shard] = in_vain[shard] + 1 if known[shard] == before else 0
        if in_vain[shard] >= _DEATHS_WITHOUT_PROGRESS:
            raise LostProcessError(
                f"the process of shard {shard} was killed {_DEATHS_WITHOUT_PROGRESS} times without an answer in "
                f"between, the last words are in {output}. Too little memory? Try fewer --processes or a smaller "
                "batch_size in another run.dir; the same command goes on."
            )
        return True

    return may_go_on


def _answer_on_ray(recipe: EvaluationRecipe, shards: Sequence[Share], ray: Any) -> None:
    """Answers the shards on a cluster: each with a GPU, where it has any and the model may use one, or a processor."""

    def lost(shard: Share, said: str) -> RoboInterError:
        again = "Run the same command again, it goes on where it stopped."
        return LostProcessError(f"Ray lost shard {shard} {RETRIES + 1} times: {said}. {again}")

    on_gpu = device_of(recipe.model) not in (None, "cpu") and ray.cluster_resources().get("GPU", 0) >= 1
    needs = {"num_gpus": 1} if on_gpu else {"num_cpus": 1}
    work = partial(_answer, str(Path.cwd()), recipe.run.dir, alone=False)
    with _progress(recipe.run.dir, f"answering in {len(shards)} shards on Ray") as told:
        # A process for each shard: what it holds of a GPU goes with it.
        run_on_ray(ray, work, shards, told=told, lost=lost, max_calls=1, **needs)


@contextlib.contextmanager
def _progress(run: Path, what: str) -> Iterator[Callable[[Sequence[Share]], None]]:
    """Gives a function to call often, which shows how far the shards are, or says so every half minute."""
    said_at = time.monotonic()
    with progress_bar(console()) as progress:
        bar = progress.add_task(what, total=None)

        def told(_: Sequence[Share]) -> None:
            nonlocal said_at
            if console().is_terminal or time.monotonic() - said_at > 30:
                said_at = time.monotonic()
                done, total = answered_so_far(run)
                progress.update(bar, completed=done, total=total or None)
                if not console().is_terminal:
                    logger.info("answered %d of %d", done, total)

        yield told


def _gpus(recipe: EvaluationRecipe) -> list[str]:
    """The GPUs to share out, as CUDA_VISIBLE_DEVICES names them; counted without torch."""
    if recipe.model.get("device", "auto") not in ("auto", "cuda") or recipe.model.get("device_map") is not None:
        return []
    said = os.environ.get("CUDA_VISIBLE_DEVICES")
    if said is not None:
        return [name for name in said.split(",") if name.strip()]
    return [str(index) for index in range(len(list(Path("/dev").glob("nvidia[0-9]*"))))]
