"""The kinds of recordings that questions are made of, by the names of `--source`."""

from __future__ import annotations

from robointervlm.episodes.lerobot.source import LeRobotConfig
from robointervlm.episodes.lmdb import LmdbConfig
from robointervlm.episodes.recorded import RecordedConfig

SOURCES: dict[str, type[RecordedConfig]] = {"lerobot": LeRobotConfig, "lmdb": LmdbConfig}
