"""YAML as users write it: no code, and a key given twice is an error instead of the last one winning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from robointervlm.core.errors import RecipeError


class _StrictLoader(yaml.SafeLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[object, object]:  # noqa: FBT001, FBT002
        seen: set[object] = set()
        for key_node, _ in node.value:
            key = key_node.value
            if not isinstance(key, str):
                raise yaml.constructor.ConstructorError(None, None, "a key is no text", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key '{key}' is given twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def parsed(text: str) -> Any:
    """The value that a YAML text stands for. Raises `yaml.YAMLError` or `RecursionError`."""
    return yaml.load(text, _StrictLoader)  # noqa: S506 - it is a SafeLoader


def read_yaml(path: Path, what: str, *, missing: str = "", holds: str = "a mapping") -> dict[str, Any]:
    """The mapping in a YAML file; an empty file is an empty one.

    `what` is what errors call the file, `missing` says where to find one instead, `holds` what was expected in it.
    Raises `RecipeError`.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise RecipeError(f"{what} {path} does not exist{missing}.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{what} {path} cannot be read as UTF-8 text: {error}.") from None
    try:
        values = parsed(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise RecipeError(f"{what} {path} is not YAML: {' '.join(str(error).split())[:300]}.") from None
    if values is None:
        return {}
    if not isinstance(values, dict) or not all(isinstance(name, str) for name in values):
        raise RecipeError(f"{what} {path} holds a {type(values).__name__}; {holds} was expected.")
    return values
