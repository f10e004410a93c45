"""A command for every checkpoint, such as an evaluation: in a process of its own, one at a time, beside the training.

The queue is on the disk. `evaluations/step-…/` holds a hard-linked copy of the checkpoint's model, so that pruning the
checkpoint takes nothing away from the command, and `output.txt`. When the command has ended, `exit_code` is written and
the copy is removed. What an interrupted run leaves without an exit code is done when the run goes on.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from robointervlm.core.errors import RoboInterError
from robointervlm.launch.die_with_parent import dying_with_parent
from robointervlm.runs.files import write_atomically, writing_to
from robointervlm.runs.signals import noting_signals
from robointervlm.train.checkpoint import discard

logger = logging.getLogger(__name__)

EVALUATIONS = "evaluations"
_EXIT_CODE = "exit_code"
# What tells a process that it is one of several; the command is none of them.
_OF_THE_JOB = ("RANK", "LOCAL_RANK", "GROUP_RANK", "ROLE_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "ROLE_WORLD_SIZE")
_PREFIXES = ("TORCHELASTIC_", "ACCELERATE_", "MASTER_", "FSDP_")


class AfterSave:
    """Runs `command` for each checkpoint handed to it; nothing that goes wrong there stops the training."""

    def __init__(self, command: Sequence[str], run: Path) -> None:
        self._command = command
        self._run = run
        self._root = run / EVALUATIONS
        self._running: tuple[Path, subprocess.Popen[bytes]] | None = None
        self._waiting: list[Path] = []
        if command and self._root.is_dir():
            left = [folder for folder in self._root.glob("step-*") if not (folder / _EXIT_CODE).exists()]
            self._waiting = sorted(folder for folder in left if (folder / "model").is_dir())

    def saved(self, step: int, model: Path) -> None:
        """A checkpoint's model folder is whole: keep what is in it for the command, and start that if none runs."""
        if not self._command:
            return
        folder = self._root / f"step-{step:08d}"
        try:
            discard(folder)  # of the same step, made again after an interruption
            with writing_to(folder):
                folder.mkdir(parents=True)
                _linked(model, folder / ".tmp-model")
                (folder / ".tmp-model").replace(folder / "model")
        except (OSError, RoboInterError) as error:
            logger.warning("watch.after_save: the checkpoint of step %d cannot be handed over: %s", step, error)
            return
        self._waiting.append(folder)
        self.poll()

    def poll(self) -> None:
        """See whether the command has ended, and start the next one. Called after every step; never waits."""
        if self._running is not None and (code := self._running[1].poll()) is not None:
            folder, self._running = self._running[0], None
            self._finished(folder, code)
        while self._running is None and self._waiting:
            self._start(self._waiting.pop(0))

    def finish(self) -> None:
        """Wait for what is running and what is waiting; a signal ends it."""
        self.poll()
        if self._running is not None:
            logger.info("waiting for watch.after_save: %s, and %d more", self._running[0].name, len(self._waiting))
        with noting_signals() as stop:
            while self._running is not None:
                if stop.requested:
                    self.stop()
                    return
                time.sleep(0.2)
                self.poll()

    def stop(self) -> None:
        """End what is running: it is done anew when the run goes on."""
        if self._running is None:
            return
        folder, process = self._running
        self._running = None
        if process.poll() is not None:
            self._finished(folder, process.returncode)
            return
        logger.warning("ending watch.after_save of %s; it is done anew when the run goes on", folder.name)
        _signal_group(process, signal.SIGTERM)
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            _signal_group(process, signal.SIGKILL)
            process.wait()

    def _start(self, folder: Path) -> None:
        places = {
            "{checkpoint}": str(folder / "model"),
            "{step}": str(int(folder.name.removeprefix("step-"))),
            "{run}": str(self._run),
        }
        command = [_filled(argument, places) for argument in self._command]
        environment = {
            name: value
            for name, value in os.environ.items()
            if name not in _OF_THE_JOB and not name.startswith(_PREFIXES)
        }
        try:
            with (folder / "output.txt").open("ab") as output:
                # A group of its own: a Ctrl-C at the terminal reaches it through us, with what it started itself.
                process = subprocess.Popen(  # noqa: S603 - the user's own command, without a shell
                    dying_with_parent(command),
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    process_group=0,
                )
        except (OSError, ValueError) as error:
            logger.warning("watch.after_save cannot be started: %s", error)
            self._close(folder, 127)
            return
        self._running = (folder, process)

    def _finished(self, folder: Path, code: int) -> None:
        if code:
            logger.warning("watch.after_save of %s ended with %d; see %s", folder.name, code, folder / "output.txt")
        else:
            logger.info("watch.after_save of %s is done: %s", folder.name, folder / "output.txt")
        self._close(folder, code)

    def _close(self, folder: Path, code: int) -> None:
        try:
            write_atomically(folder / _EXIT_CODE, f"{code}\n")
            discard(folder / "model")
        except (OSError, RoboInterError) as error:
            logger.warning("watch.after_save: %s", error)


def _filled(argument: str, places: dict[str, str]) -> str:
    for place, value in places.items():
        argument = argument.replace(place, value)
    return argument


def _linked(source: Path, target: Path) -> None:
    """A copy of a folder that takes no room where the file system can link; files of a checkpoint are never changed."""
    try:
        shutil.copytree(source, target, copy_function=os.link)
    except (OSError, shutil.Error):
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(source, target)


def _signal_group(process: subprocess.Popen[bytes], number: int) -> None:
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        return
