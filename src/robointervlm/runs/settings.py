"""Recipes: YAML in, dotted overrides after it, checked before anything is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, field_validator

from robointervlm.core import plugins
from robointervlm.core.errors import RecipeError, RefusedError
from robointervlm.runs.files import write_atomically
from robointervlm.settings.explained import checked
from robointervlm.settings.yaml_files import parsed, read_yaml

Recipe = TypeVar("Recipe", bound=BaseModel)


class Settings(BaseModel):
    """A section of a recipe: frozen, and a key it does not know is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class PluginSettings(Settings):
    """A recipe that may name plugins.

    Attributes:
        plugins: files or modules with tasks, models or answer types of your own, as `--plugin` takes them.
    """

    plugins: tuple[str, ...] = Field(default=(), exclude_if=lambda value: not value)

    @field_validator("plugins", mode="before")
    @classmethod
    def _one_plugin_or_several(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @field_validator("plugins")
    @classmethod
    def _wherever_it_is_read(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(map(plugins.absolute, value))


WithPlugins = TypeVar("WithPlugins", bound=PluginSettings)


def with_plugins(recipe: WithPlugins) -> WithPlugins:
    """The recipe, its plugins loaded, naming those that were given otherwise too. `RecipeError` for a bad one."""
    plugins.use(recipe.plugins)
    return recipe.model_copy(update={"plugins": plugins.given()}) if plugins.given() else recipe


def use_recorded_plugins(folder: Path) -> None:
    """Loads the plugins that a run was made with, so that its tasks are known.

    One that is given under another path now is taken from there. Raises `RefusedError` for a file in the run's own
    folder: results that somebody hands on bring no code with them.
    """
    known = {Path(name).name for name in plugins.given()}
    for written in (folder / "recipe.yaml", *sorted(folder.glob("shards/*/recipe.yaml"))):
        for name in _recorded_plugins(written):
            if Path(name).name in known:
                continue
            if Path(name).is_relative_to(folder.resolve()):
                raise RefusedError(
                    f"{written} names the plugin {name}, which lies in the folder of the results; if you trust that "
                    f"code, give it yourself: --plugin {name}."
                )
            try:
                plugins.use([name])
            except RecipeError as error:
                raise RecipeError(f"{error} {written} names it; give its new place by --plugin.") from None


def _recorded_plugins(written: Path) -> list[str]:
    """The plugins that a run's recipe names; none where there is no recipe, which nothing else of a result needs."""
    try:
        named = _recipe_in(written).get("plugins", [])
    except RecipeError:
        return []
    return [plugins.absolute(str(name)) for name in named] if isinstance(named, list) else []


def load_recipe(kind: type[Recipe], path: Path | None, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe in a YAML file (or an empty one) with `section.key=value` overrides applied, checked.

    Relative paths in it are relative to the working directory. Raises `RecipeError`.
    """
    values = _recipe_in(path) if path is not None else {}
    for override in overrides:
        _apply(values, override)
    return checked(kind, values, source=str(path) if path is not None else "the settings given", overridable=True)


def override_values(overrides: Sequence[str]) -> dict[str, object]:
    """The values that `key=value` texts give, dotted keys as nested sections."""
    values: dict[str, object] = {}
    for override in overrides:
        _apply(values, override)
    return values


def write_recipe(recipe: BaseModel, path: Path) -> None:
    """Writes every setting, defaults included, so that the file alone repeats the run."""
    values = recipe.model_dump(mode="json")
    write_atomically(path, yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=120))


def _recipe_in(path: Path) -> dict[str, object]:
    missing = "; the ones that come with the project are in recipes/"
    return read_yaml(path, "recipe", missing=missing, holds="sections such as 'model:'")


def _apply(values: dict[str, object], override: str) -> None:
    key, equals, text = override.partition("=")
    names = key.strip().split(".")
    if not equals or not all(names):
        raise RecipeError(f"'{override}' is not an override; they look like section.key=value.")
    section = values
    for name in names[:-1]:
        inner = section.get(name)
        if inner is None:
            inner = section[name] = {}
        if not isinstance(inner, dict):
            raise RecipeError(f"override '{override}': '{name}' is the value {inner!r}, not a section.")
        section = inner
    # The value is YAML, except that text which only happens to hold a colon stays text.
    meant_as_yaml = text.lstrip()[:1] in {"[", "{", '"', "'"}
    try:
        value = parsed(text)
    except (yaml.YAMLError, RecursionError):
        if meant_as_yaml:
            reason = "the value is not YAML; is a bracket or a quote missing?"
            raise RecipeError(f"override '{override}': {reason}") from None
        value = text
    section[names[-1]] = text if isinstance(value, dict | list) and not meant_as_yaml else value
