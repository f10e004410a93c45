"""What is wrong with settings, as sentences: every wrong key, its place, and the nearest key that there is."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from types import UnionType
from typing import Annotated, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from robointervlm.core.errors import RecipeError

Checked = TypeVar("Checked", bound=BaseModel)


def checked(  # noqa: PLR0913 - one for each way in which callers differ
    kind: type[Checked],
    values: Mapping[str, object],
    *,
    source: str,
    more: str = "",
    overridable: bool = False,
    secret: bool = False,
) -> Checked:
    """These values as a model; a `RecipeError` begins with `source`, names every wrong key, and ends with `more`.

    `overridable`: each can be given as `section.key=value`, too, which errors then say. `secret`: a value may hold a
    key or a password, so none is repeated.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        lines = [
            _explained(kind, detail, overridable=overridable, secret=secret)
            for detail in error.errors(include_url=False)
        ]
        raise RecipeError(f"{source}: " + "; ".join(dict.fromkeys(lines)) + more) from None


def _explained(kind: type[BaseModel], detail: ErrorDetails, *, overridable: bool, secret: bool) -> str:
    names = [part for part in detail["loc"] if isinstance(part, str)]
    where = ".".join(str(part) for part in detail["loc"]) or "the recipe"
    match detail["type"]:
        case "extra_forbidden":
            known = _keys(kind, names[:-1])
            near = difflib.get_close_matches(names[-1], known, n=1) or _elsewhere(kind, names[-1])
            remedy = f"nearest: {', '.join(near)}" if near else f"known here: {', '.join(known) or 'none'}"
            return f"key '{where}' is not known; {remedy}"
        case "missing":
            return f"'{where}' is missing" + (f"; give it in the recipe or as {where}=…" if overridable else "")
        case _:
            message = detail["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
            should = "" if message == detail["msg"] or detail["type"] == "value_error" else "should be "
            given = ""
            if not secret and not isinstance(detail["input"], dict):
                text = repr(detail["input"])
                given = f" is {text if len(text) <= 80 else text[:77] + '…'}"
            return f"'{where}'{given}: {should}{message[:1].lower()}{message[1:]}"


def _sections(annotation: object) -> list[type[BaseModel]]:
    """The models in a type, through Optional, Union and Annotated."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) in (Union, UnionType, Annotated):
        return [model for part in get_args(annotation) for model in _sections(part)]
    return []


def _keys(kind: type[BaseModel], names: Sequence[str]) -> list[str]:
    """The keys of the section at these names."""
    models = [kind]
    for name in names:
        inner = [model for outer in models if name in outer.model_fields for model in _fields(outer, name)]
        models = inner or models
    return [key for model in models for key in model.model_fields]


def _fields(model: type[BaseModel], name: str) -> list[type[BaseModel]]:
    return _sections(model.model_fields[name].annotation)


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
