"""One prediction by several processes on this machine, each with a model of its own and a shard of the questions."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from robointervlm.core.errors import (
    DataError,
    ExhaustedError,
    LostProcessError,
    RecipeError,
    RefusedError,
    RoboInterError,
    StoppedError,
)
from robointervlm.evaluate.predict import Outcome, progress_bar
from robointervlm.evaluate.recipe import EvaluationRecipe
from robointervlm.evaluate.records import RECORDS
from robointervlm.evaluate.shards import SHARDS, Shard, answered_so_far, folder_of, merge_shards
from robointervlm.launch.die_with_parent import leashed
from robointervlm.models.model import check_section
from robointervlm.runs.journal import read_journal
from robointervlm.runs.log import console
from robointervlm.runs.run import Run
from robointervlm.runs.settings import write_recipe
from robointervlm.runs.signals import StopRequested, stopping_on_signals

logger = logging.getLogger(__name__)

OUTPUT = "output.txt"
# A process that is killed so often without a new answer in between would be killed again.
_STARTS_WITHOUT_PROGRESS = 3
# How long processes may take to end by themselves, in seconds.
_GRACE = 20.0
_ERRORS: Mapping[int, type[RoboInterError]] = {
    kind.exit_code: kind for kind in (RecipeError, DataError, RefusedError, ExhaustedError, StoppedError)
}


def predict_in_processes(recipe: EvaluationRecipe, count: int) -> Outcome:
    """Answers every question of the recipe by so many processes and merges what they recorded.

    A process that is killed is started again and goes on where it stopped. Raises what the process that failed by
    itself raised, `LostProcessError` for one that is killed again and again, and `StopRequested` when told to stop.
    """

    def answer(shards: Sequence[Shard]) -> None:
        workers = [_Worker(recipe, shard) for shard in shards]
        try:
            for each in workers:
                each.start()
            waiting = list(workers)
            for _ in watched(recipe.run.dir, f"answering in {len(workers)} processes"):
                waiting = [each for each in waiting if each.goes_on()]
                if not waiting:
                    return
        finally:
            _end(workers)

    return in_shards(recipe, count, answer)


def in_shards(recipe: EvaluationRecipe, count: int, answer: Callable[[Sequence[Shard]], None]) -> Outcome:
    """Has `answer` answer so many shards of a recipe's questions, and merges them.

    Raises `RecipeError` where the folder holds another run, and `StopRequested`, with what is done, if `answer` does.
    """
    if recipe.shard is not None:
        raise RecipeError(f"shard={recipe.shard} is one process's share: give --shard or --processes, not both.")
    check_section(recipe.model)
    run, shards = recipe.run.dir, [Shard(number + 1, count) for number in range(count)]
    for shard in shards:
        folder_of(run, shard)  # refuses a folder that holds another run
    with stopping_on_signals(), Run.opened(run) as opened:
        write_recipe(recipe, recipe_of_shards(run))
        if not (run / "recipe.yaml").exists():
            opened.record(recipe)
        reused, _ = answered_so_far(run)
        try:
            answer(shards)
        except StopRequested as stop:
            done, total = answered_so_far(run)
            said = f"{done} of {total or 'the questions'} done"
            raise StopRequested(stop.number, f"rerun the same command to go on; {said}.") from None
        opened.record(recipe)  # not before: the shards may have refused it, as answers of another one are there
        counts = merge_shards(run)
    logger.info("finished: %s.", ", ".join(f"{number} {status}" for status, number in counts.items()))
    return Outcome(run, counts, reused)


def recipe_of_shards(run: Path) -> Path:
    """What the processes of a run are told to do."""
    return run / SHARDS / "recipe.yaml"


def overrides_of(shard: Shard) -> list[str]:
    """What the recipe of one shard says otherwise: what failed is judged when all is merged, not by each for itself."""
    return [f"shard={shard}", "max_error_rate=1"]


def watched(run: Path, what: str) -> Iterator[None]:
    """Comes back a few times a second for as long as it is asked to, and tells meanwhile how far the shards are."""
    said_at = time.monotonic()
    with progress_bar() as progress:
        bar = progress.add_task(what, total=None)
        while True:
            yield
            if console().is_terminal or time.monotonic() - said_at > 30:
                said_at = time.monotonic()
                done, total = answered_so_far(run)
                progress.update(bar, completed=done, total=total or None)
                if not console().is_terminal:
                    logger.info("answered %d of %d", done, total)
            time.sleep(0.2)


@dataclass
class _Worker:
    """The process of one shard."""

    recipe: EvaluationRecipe
    shard: Shard
    process: subprocess.Popen[bytes] | None = None
    starts_without_progress: int = 0
    _done_at_start: int = field(default=-1)

    @property
    def output(self) -> Path:
        return self.shard.folder(self.recipe.run.dir) / OUTPUT

    def start(self) -> None:
        """Starts the process, again if it was killed. Raises `LostProcessError` where that has become pointless."""
        done = len(read_journal(self.output.with_name(RECORDS)).entries)
        self.starts_without_progress = 1 + (self.starts_without_progress if done == self._done_at_start else 0)
        if self.starts_without_progress > _STARTS_WITHOUT_PROGRESS:
            raise LostProcessError(
                f"the process of shard {self.shard} was killed {_STARTS_WITHOUT_PROGRESS} times without an answer in "
                f"between, the last words are in {self.output}. Too little memory? Try fewer --processes or a smaller "
                "batch_size in another run.dir; the same command goes on."
            )
        self._done_at_start = done
        self.output.parent.mkdir(parents=True, exist_ok=True)
        with self.output.open("ab") as output:
            self.process = self._started(output)

    def _started(self, output: IO[bytes]) -> subprocess.Popen[bytes]:
        overrides = overrides_of(self.shard)
        recipe = str(recipe_of_shards(self.recipe.run.dir))
        return subprocess.Popen(  # noqa: S603 - our own command line, without a shell
            leashed([sys.executable, "-m", "robointervlm.cli", "predict", recipe, *overrides]),
            env=_environment(self.recipe, self.shard),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            process_group=0,  # a Ctrl-C at the terminal reaches it through us, once
        )

    def goes_on(self) -> bool:
        """Whether it is still at work. One that was killed is started again; raises what another one failed with."""
        assert self.process is not None
        code = self.process.poll()
        if code is None:
            return True
        if code == 0:
            return False
        if code < 0:
            name = signal.Signals(-code).name
            logger.warning(
                "the process of shard %s was killed (%s); it is started again and goes on where it stopped.",
                self.shard,
                name,
            )
            self.start()
            return True
        error = _ERRORS.get(code, LostProcessError)
        raise error(f"the process of shard {self.shard} ended with exit code {code}: {self._last_words()}")

    def _last_words(self) -> str:
        lines = self.output.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return lines[-1].removeprefix("error: ") if lines else f"it said nothing in {self.output}"


def _end(workers: Sequence[_Worker]) -> None:
    """Stops what still runs: in order, and by force what does not end."""
    running = [each.process for each in workers if each.process is not None and each.process.poll() is None]
    for process in running:
        process.send_signal(signal.SIGTERM)
    end = time.monotonic() + _GRACE
    for process in running:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(max(0.0, end - time.monotonic()))
        if process.poll() is None:
            process.kill()
            process.wait()


def _environment(recipe: EvaluationRecipe, shard: Shard) -> dict[str, str]:
    """That of this process, with a share of the cores and one of the GPUs."""
    made = dict(os.environ)
    made.setdefault("OMP_NUM_THREADS", str(max(1, len(os.sched_getaffinity(0)) // shard.of)))
    gpus = _gpus()
    if gpus and recipe.model.get("device", "auto") in ("auto", "cuda") and recipe.model.get("device_map") is None:
        made["CUDA_VISIBLE_DEVICES"] = gpus[(shard.number - 1) % len(gpus)]
    return made


def _gpus() -> list[str]:
    """The GPUs we may use, as CUDA_VISIBLE_DEVICES names them; counted without torch."""
    said = os.environ.get("CUDA_VISIBLE_DEVICES")
    if said is not None:
        return [name for name in said.split(",") if name.strip()]
    return [str(index) for index in range(len(list(Path("/dev").glob("nvidia[0-9]*"))))]
