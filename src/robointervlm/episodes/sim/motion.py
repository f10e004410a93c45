"""Motions: where gripper and handled thing are at every time step, and a script to write them down with."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from robointervlm.episodes.sim.plans import Plan

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Step:
    """One moment. ``thing`` is the position of the handled thing; ``touching`` whether the fingers are on it."""

    tcp: Array
    yaw: float
    opening: float
    thing: Array
    touching: bool
    subtask: str
    primitive: str


@dataclass(frozen=True)
class Motion:
    """A whole manipulation, about 10 steps a second. ``contact`` is the first touching step, None if there is none."""

    plan: Plan
    steps: tuple[Step, ...]

    @property
    def contact(self) -> int | None:
        return next((number for number, step in enumerate(self.steps) if step.touching), None)

    @property
    def release(self) -> int:
        """The step after the last touching one; the number of steps if the thing is still held or was never touched."""
        last = [number for number, step in enumerate(self.steps) if step.touching]
        return last[-1] + 1 if last else len(self.steps)

    @property
    def path(self) -> Array:
        """The tool centre point over time, shape (steps, 3)."""
        return np.array([step.tcp for step in self.steps])


@dataclass
class Script:
    """Collects steps; every call appends one straight, smoothly timed movement."""

    tcp: Array
    yaw: float
    opening: float
    thing: Array
    held: bool = False
    steps: list[Step] = field(default_factory=list)

    def wait(self, subtask: str, primitive: str) -> None:
        """One step without movement."""
        self.steps.append(Step(self.tcp, self.yaw, self.opening, self.thing, self.held, subtask, primitive))

    def move(self, to: Array, subtask: str, primitive: str, *, hand: tuple[float, float] | None = None) -> None:
        """Goes to a point; a held thing comes along. ``hand`` is the (yaw, opening) to have on arrival."""
        begin, before = self.tcp, np.array([self.yaw, self.opening])
        change = before * 0 if hand is None else np.array(hand) - before
        # Some 4 cm a step, no movement shorter than 3 steps.
        count = max(3, round(float(np.linalg.norm(to - begin)) / 0.04) + 2)
        grip = self.thing - begin
        for share in _smooth(count):
            self.tcp = begin + share * (to - begin)
            self.yaw, self.opening = (before + share * change).tolist()
            if self.held:
                self.thing = self.tcp + grip
            self.wait(subtask, primitive)

    def fingers(self, opening: float, subtask: str, primitive: str, *, holds: bool) -> None:
        """Opens or closes the fingers; contact begins with the last step of closing, ends with the first of opening."""
        begin = self.opening
        if not holds:
            self.held = False
        for share in _smooth(3):
            self.opening = begin + share * (opening - begin)
            if holds and share == 1.0:
                self.held = True
            self.wait(subtask, primitive)

    def fall(self, to: Array, subtask: str, primitive: str) -> None:
        """Lets the thing drop to a place while the gripper waits."""
        begin = self.thing
        for share in (0.4, 1.0):
            self.thing = begin + share * (to - begin)
            self.wait(subtask, primitive)


def _smooth(count: int) -> list[float]:
    """Shares of a movement after each of ``count`` steps, slow at both ends; the last is exactly 1."""
    time = np.arange(1, count + 1) / count
    return (time * time * (3 - 2 * time)).tolist()  # type: ignore[no-any-return]
