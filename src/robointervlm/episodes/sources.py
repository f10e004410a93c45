"""The kinds of recordings that questions are made of, by the names of `--source`; LeRobot datasets are one."""

from __future__ import annotations

from collections.abc import Sequence

from robointervlm.core import plugins
from robointervlm.core.errors import RecipeError
from robointervlm.episodes.lerobot.dataset import LeRobotDataset
from robointervlm.episodes.lerobot.read import Recording, pictures_at, read_episode
from robointervlm.episodes.lerobot.video import Picture
from robointervlm.episodes.lmdb import LmdbConfig
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


SIMULATED = "sim"
_OURS: dict[str, type[RecordedConfig]] = {"lerobot": LeRobotConfig, "lmdb": LmdbConfig}


def sources() -> dict[str, type[RecordedConfig]]:
    """Ours, then the `SOURCES` of plugins and those that installed packages name; `RecipeError` for a bad one."""
    found = dict(_OURS)
    named = [
        (f"the plugin {plugin.name}", name, kind)
        for plugin in plugins.loaded()
        for name, kind in getattr(plugin.module, "SOURCES", {}).items()
    ]
    for point in plugins.of_entry_points("robointervlm.sources"):
        named.append((plugins.in_words(point), point.name, plugins.entry_point_object(point)))
    for place, name, kind in named:
        if name == SIMULATED or (name in found and found[name] is not kind):
            raise RecipeError(f"source '{name}' of {place} exists already; rename it.")
        if not (isinstance(kind, type) and issubclass(kind, RecordedConfig)):
            raise RecipeError(f"source '{name}' of {place} is no RecordedConfig.")
        found[name] = kind
    return found
