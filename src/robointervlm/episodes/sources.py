"""The kinds of recordings that questions are made of, by the names of `--source`."""

from __future__ import annotations

from robointervlm.core import plugins
from robointervlm.core.errors import RecipeError
from robointervlm.episodes.lerobot.source import LeRobotConfig
from robointervlm.episodes.lmdb import LmdbConfig
from robointervlm.episodes.recorded import RecordedConfig

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
