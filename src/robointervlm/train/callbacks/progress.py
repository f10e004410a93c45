"""How far a run is and how fast: a bar at a terminal, elsewhere a line now and then."""

from __future__ import annotations

import logging
import resource
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

logger = logging.getLogger(__name__)

# Over how many steps the shown rates are averaged.
SMOOTHED_STEPS = 20
# How often a line is logged where there is no terminal.
LINE_SECONDS = 30.0


@dataclass(frozen=True)
class Rates:
    """What one step went through: samples, computed tokens (padding included), supervised tokens, and its seconds."""

    samples: float
    tokens: float
    supervised: float
    seconds: float

    def per_second(self) -> dict[str, float]:
        """The rates as `metrics.jsonl` names them."""
        return {
            f"{name}_per_second": value / self.seconds
            for name, value in (("samples", self.samples), ("tokens", self.tokens), ("supervised", self.supervised))
        }


def mean_rates(steps: Iterable[Rates]) -> Rates:
    """The sum over some steps: its rates are means weighted by time."""
    numbers = [(each.samples, each.tokens, each.supervised, each.seconds) for each in steps]
    return Rates(*(sum(column) for column in zip(*numbers, strict=True)))


def memory_gib(device: torch.device) -> float:
    """The most memory that this process has had so far, GiB: allocated on its GPU, else resident."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # Linux counts in KiB


@dataclass
class StepLine:
    """The numbers of the newest step in words, its rates averaged over the last steps."""

    total: int
    device: torch.device
    _latest: deque[Rates] = field(default_factory=lambda: deque(maxlen=SMOOTHED_STEPS))
    _said_at: float | None = None

    def add(self, rates: Rates) -> None:
        self._latest.append(rates)

    def text(self, step: int, loss: float) -> str:
        """Loss, rates, memory and the time that is left, on one line of less than 100 letters."""
        mean = mean_rates(self._latest)
        left = (self.total - step) * mean.seconds / len(self._latest)
        rates = mean.per_second()
        return (
            f"loss {loss:.3f}  {short(rates['tokens_per_second'])} tokens/s  "
            f"{short(rates['supervised_per_second'])} supervised/s  {short(rates['samples_per_second'])} samples/s  "
            f"{memory_gib(self.device):.1f} GiB  {duration(left)} left"
        )

    def due(self, step: int) -> bool:
        """Whether a line is to be logged: for the first and the last step and every half minute."""
        now = time.monotonic()
        if self._said_at is None or step == self.total or now - self._said_at >= LINE_SECONDS:
            self._said_at = now
            return True
        return False


def short(value: float) -> str:
    """A number in at most five letters: 0.35, 8.2, 96, 8.1k, 1.2M."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.0f}" if value >= 100 else f"{value:.2g}"


def duration(seconds: float) -> str:
    """A time as people say it: 45 s, 12 min, 3 h 20 min, 2 d 4 h."""
    whole = round(seconds)
    if whole < 90:
        return f"{whole} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(hours + (minutes >= 30), 24)
    return f"{days} d {hours} h" if hours else f"{days} d"


class StepProgress(Progress):
    """The bar with the newest numbers in a line of their own below it, so that both fit into 80 columns."""

    def __init__(self, console: Console, *, total: int, done: int, disable: bool) -> None:
        # Before the base class, whose constructor draws once.
        self._line = ""
        super().__init__(
            TextColumn("[bold]training"),
            BarColumn(),
            TaskProgressColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            disable=disable,
        )
        self._bar = self.add_task("training", total=total, completed=done)

    def show(self, step: int, line: str) -> None:
        """This step is done, with these numbers."""
        self._line = line
        self.update(self._bar, completed=step)

    def get_renderables(self) -> Iterable[RenderableType]:
        yield from super().get_renderables()
        if self._line:
            yield Text(self._line, overflow="fold")


def log_line(step: int, total: int, line: str) -> None:
    """The line of a step where there is no terminal."""
    logger.info("step %d of %d  %s", step, total, line)


def plain(values: dict[str, Any]) -> dict[str, float]:
    """The numbers of a nested record by dotted name, for trackers; what is no number is left out."""
    found: dict[str, float] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            found |= {f"{name}/{inner}": number for inner, number in plain(value).items()}
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found[name] = float(value)
    return found
