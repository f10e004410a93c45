"""A LeRobot dataset as a source of episodes."""

from __future__ import annotations

from collections.abc import Sequence

from robointervlm.episodes.lerobot.dataset import LeRobotDataset
from robointervlm.episodes.lerobot.read import Recording, pictures_at, read_episode
from robointervlm.episodes.lerobot.video import Picture
from robointervlm.episodes.recorded import RecordedConfig


class LeRobotConfig(RecordedConfig):
    """Of a LeRobot dataset; ``folder`` is the one with `meta/info.json`."""

    def open(self) -> LeRobotSource:
        return LeRobotSource(self)


class LeRobotSource:
    """The episodes of a LeRobot dataset, as a configuration wants them."""

    def __init__(self, config: LeRobotConfig) -> None:
        self.dataset = LeRobotDataset(config.folder)
        self.camera = self.dataset.camera(config.camera or config.mapping.camera)
        self.config = config
        self.digest = self.dataset.digest

    @property
    def numbers(self) -> Sequence[int]:
        return self.dataset.numbers

    def read(self, number: int) -> Recording:
        wanted = self.config
        return read_episode(
            self.dataset, self.dataset.listed(number), wanted.mapping, camera=self.camera, frames=wanted.frames
        )

    def pictures(self, number: int, steps: Sequence[int]) -> list[Picture]:
        return pictures_at(self.dataset, self.dataset.listed(number), steps, camera=self.camera)
