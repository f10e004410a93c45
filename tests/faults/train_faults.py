"""What goes wrong on purpose inside a training process, by name; called before the command runs."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from robointervlm.models.qwen2_5_vl.network import SupervisedLoss
from robointervlm.train import checkpoint as checkpoints
from robointervlm.train.data import dataset as feed
from robointervlm.train.loop import Training


def _each_call(named: list[tuple[Any, str]], before: Callable[[], None]) -> None:
    """Have `before` called before each call of these functions that is made while a checkpoint is saved."""
    inside = [False]
    save = checkpoints.save

    def saving(*arguments: Any, **more: Any) -> Any:
        inside[0] = True
        try:
            return save(*arguments, **more)
        finally:
            inside[0] = False

    checkpoints.save = saving  # type: ignore[assignment]

    def wrapped(real: Any) -> Any:
        def call(*arguments: Any, **more: Any) -> Any:
            if inside[0]:
                before()
            return real(*arguments, **more)

        return call

    for owner, name in named:
        setattr(owner, name, wrapped(getattr(owner, name)))


# What a save does to the disk, in the order of its first calls.
DISK_CALLS = [(os, "fsync"), (os, "replace"), (torch, "save"), (shutil, "rmtree"), (os, "mkdir")]


def pause_in_save(argument: str) -> None:
    """`n:file`: before the n-th thing that saving does to the disk, make the file and stand still."""
    number, _, file = argument.partition(":")
    left = [int(number)]

    def before() -> None:
        left[0] -= 1
        if left[0] == 0:
            Path(file).touch()
            time.sleep(600)

    _each_call(DISK_CALLS, before)


def fail_in_save(argument: str) -> None:
    """`n:ENOSPC`: the n-th thing that saving does to the disk fails so, and so do all after it."""
    number, _, name = argument.partition(":")
    left = [int(number)]

    def before() -> None:
        left[0] -= 1
        if left[0] <= 0:
            code = getattr(errno, name)
            raise OSError(code, os.strerror(code))

    _each_call(DISK_CALLS[:3], before)


def undeletable(name: str) -> None:
    """The checkpoint of this name cannot be removed."""
    real = checkpoints.discard

    def discard(folder: Path) -> None:
        if folder.name == name and folder.exists():
            raise PermissionError(errno.EACCES, "Permission denied")
        real(folder)

    checkpoints.discard = discard


def _worker(argument: str, what: Callable[[], None]) -> None:
    """Loading goes wrong at the first micro-batch that holds the sample of this number."""
    real = feed.TrainingDataset.__call__

    def call(self: feed.TrainingDataset, wanted: Any) -> feed.MicroBatch:
        if any(index == int(argument) for _, index in wanted):
            what()
        return real(self, wanted)

    feed.TrainingDataset.__call__ = call  # type: ignore[method-assign]


def worker_killed(argument: str) -> None:
    _worker(argument, lambda: os.kill(os.getpid(), signal.SIGKILL))


def worker_hangs(argument: str) -> None:
    _worker(argument, lambda: time.sleep(600))


def worker_raises(argument: str) -> None:
    def raises() -> None:
        raise ZeroDivisionError("a bug in loading")

    _worker(argument, raises)


def infinite_loss(argument: str) -> None:
    """`rank:call`: on this rank the loss of the n-th micro-batch is infinite."""
    rank, _, number = argument.partition(":")
    left = [int(number)]
    real = SupervisedLoss.forward

    def forward(self: SupervisedLoss, batch: Any) -> torch.Tensor:
        left[0] -= 1
        loss = real(self, batch)
        return loss * float("inf") if left[0] == 0 and os.environ.get("RANK", "0") == rank else loss

    SupervisedLoss.forward = forward  # type: ignore[method-assign]


def nan_pixels(argument: str) -> None:
    """The pixels of the n-th micro-batch are not numbers."""
    left = [int(argument)]
    real = SupervisedLoss.forward

    def forward(self: SupervisedLoss, batch: Any) -> torch.Tensor:
        left[0] -= 1
        if left[0] == 0:
            batch.pixels_PC = batch.pixels_PC.float()
            batch.pixels_PC[0, 0] = float("nan")
        return real(self, batch)

    SupervisedLoss.forward = forward  # type: ignore[method-assign]


def nan_gradient(argument: str) -> None:
    """From the n-th micro-batch on one gradient is not a number."""
    left = [int(argument)]
    real = SupervisedLoss.forward

    def forward(self: SupervisedLoss, batch: Any) -> torch.Tensor:
        left[0] -= 1
        if left[0] == 0:
            norm = self.network.model.language_model.norm.weight
            norm.register_hook(lambda gradient: gradient * float("nan"))
        return real(self, batch)

    SupervisedLoss.forward = forward  # type: ignore[method-assign]


def draws(_: str) -> None:
    """As dropout would: every loss is scaled by numbers that torch, numpy and Python draw."""
    import random  # noqa: PLC0415

    real = SupervisedLoss.forward

    def forward(self: SupervisedLoss, batch: Any) -> torch.Tensor:
        drawn = float(torch.rand(())) + random.random() + float(np.random.rand())  # noqa: NPY002
        return real(self, batch) * (1 + drawn)

    SupervisedLoss.forward = forward  # type: ignore[method-assign]


def slow_steps(argument: str) -> None:
    """Every step takes so many seconds more."""
    real = Training._one_step

    def one_step(self: Training, *arguments: Any) -> Any:
        time.sleep(float(argument))
        return real(self, *arguments)

    Training._one_step = one_step  # type: ignore[method-assign]


def draws_and_pause(argument: str) -> None:
    draws("")
    pause_in_save(argument)


def small_files(argument: str) -> None:
    """No file may have more bytes than this."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(argument), int(argument)))
