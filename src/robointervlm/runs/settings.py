"""Recipes: YAML in, dotted overrides after it, checked before anything is loaded."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Annotated, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from robointervlm.core.errors import RecipeError
from robointervlm.runs.files import write_atomically

Recipe = TypeVar("Recipe", bound=BaseModel)


class Settings(BaseModel):
    """A section of a recipe: frozen, and a key it does not know is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class _StrictLoader(yaml.SafeLoader):
    """YAML without code, in which a key given twice is an error instead of the last one winning."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[object, object]:  # noqa: FBT001, FBT002
        seen: set[object] = set()
        for key_node, _ in node.value:
            key = key_node.value
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key '{key}' is given twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def load_recipe(kind: type[Recipe], path: Path | None, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe in a YAML file (or an empty one) with `section.key=value` overrides applied, checked.

    Relative paths in it are relative to the working directory. Raises `RecipeError`.
    """
    values = _read_yaml(path) if path is not None else {}
    for override in overrides:
        _apply(values, override)
    return checked(kind, values, source=str(path) if path is not None else "the settings given")


def override_values(overrides: Sequence[str]) -> dict[str, object]:
    """The values that `key=value` texts give, dotted keys as nested sections."""
    values: dict[str, object] = {}
    for override in overrides:
        _apply(values, override)
    return values


def checked(kind: type[Recipe], values: Mapping[str, object], *, source: str) -> Recipe:
    """These values as a recipe or section; a `RecipeError` names every wrong key, its place and the nearest one."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        lines = _without_repeats(_explained(kind, detail) for detail in error.errors(include_url=False))
        raise RecipeError(f"{source}: " + "; ".join(lines)) from None


def write_recipe(recipe: BaseModel, path: Path) -> None:
    """Writes every setting, defaults included, so that the file alone repeats the run."""
    values = recipe.model_dump(mode="json")
    write_atomically(path, yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=120))


def _read_yaml(path: Path) -> dict[str, object]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise RecipeError(
            f"recipe {path} does not exist; the ones that come with the project are in recipes/."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"recipe {path} cannot be read as UTF-8 text: {error}.") from None
    try:
        values = yaml.load(text, _StrictLoader)  # noqa: S506 - it is a SafeLoader
    except (yaml.YAMLError, RecursionError) as error:
        raise RecipeError(f"recipe {path} is not YAML: {' '.join(str(error).split())}.") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise RecipeError(f"recipe {path} holds a {type(values).__name__}; sections such as 'model:' were expected.")
    return values


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
    section[names[-1]] = _value(override, text)


def _value(override: str, text: str) -> object:
    """The value of an override: YAML, except that text which only happens to hold a colon stays text."""
    meant_as_yaml = text.lstrip()[:1] in {"[", "{", '"', "'"}
    try:
        value = yaml.load(text, _StrictLoader)  # noqa: S506 - it is a SafeLoader
    except (yaml.YAMLError, RecursionError):
        if not meant_as_yaml:
            return text
        raise RecipeError(f"override '{override}': the value is not YAML; is a bracket or a quote missing?") from None
    return text if isinstance(value, dict | list) and not meant_as_yaml else value


def _explained(kind: type[BaseModel], detail: ErrorDetails) -> str:
    names = [part for part in detail["loc"] if isinstance(part, str)]
    where = ".".join(str(part) for part in detail["loc"]) or "the recipe"
    match detail["type"]:
        case "extra_forbidden":
            known = _keys(kind, names[:-1])
            near = difflib.get_close_matches(names[-1], known, n=1) or _elsewhere(kind, names[-1])
            remedy = f"nearest: {', '.join(near)}" if near else f"known here: {', '.join(known) or 'none'}"
            return f"key '{where}' is not known; {remedy}"
        case "missing":
            return f"'{where}' is missing; give it in the recipe or as {where}=…"
        case _:
            message = detail["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
            should = "" if message == detail["msg"] or detail["type"] == "value_error" else "should be "
            given = "" if isinstance(detail["input"], dict) else f" is {_shortened(detail['input'])}"
            return f"'{where}'{given}: {should}{message[:1].lower()}{message[1:]}"


def _shortened(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "…"


def _without_repeats(lines: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(lines))


def _sections(annotation: object) -> list[type[BaseModel]]:
    """The models in a type, through Optional, Union and Annotated."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) in (Union, UnionType, Annotated):
        return [model for part in get_args(annotation) for model in _sections(part)]
    return []


def _models_at(kind: type[BaseModel], names: Sequence[str]) -> list[type[BaseModel]]:
    models = [kind]
    for name in names:
        inner = [model for outer in models if name in outer.model_fields for model in _fields(outer, name)]
        models = inner or models
    return models


def _fields(model: type[BaseModel], name: str) -> list[type[BaseModel]]:
    return _sections(model.model_fields[name].annotation)


def _keys(kind: type[BaseModel], names: Sequence[str]) -> list[str]:
    return [key for model in _models_at(kind, names) for key in model.model_fields]


def _elsewhere(kind: type[BaseModel], name: str) -> list[str]:
    """`section.key` where a key of this name (or nearly) is in another section: the usual slip."""
    dotted = {
        f"{section}.{key}": key
        for section in kind.model_fields
        for model in _fields(kind, section)
        for key in model.model_fields
    }
    close = set(difflib.get_close_matches(name, list(dotted.values()), n=1))
    return [path for path, key in dotted.items() if key in close][:2]
