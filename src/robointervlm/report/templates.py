"""The pages' templates, which lie in this folder: strict, and escaping what they are given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import jinja2


def rendered(
    template: str,
    values: Mapping[str, object],
    *,
    filters: Mapping[str, Callable[..., object]] | None = None,
    trim: bool = True,
) -> str:
    """The text of a template with these values; `trim` says whether lines of statements alone leave no line."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=trim,
        lstrip_blocks=trim,
    )
    environment.filters |= filters or {}
    return environment.get_template(template).render(values)
