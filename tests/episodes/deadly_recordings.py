"""Recordings one of which ends the process that reads it, as a decoder does that crashes."""

from __future__ import annotations

import os

from robointervlm.episodes.lerobot.read import Recording
from robointervlm.episodes.sources import LeRobotConfig, LeRobotSource


class DeadlySource(LeRobotSource):
    def read(self, number: int) -> Recording:
        if number == 2:
            os._exit(9)
        return super().read(number)


class DeadlyConfig(LeRobotConfig):
    def open(self) -> LeRobotSource:
        return DeadlySource(self)
