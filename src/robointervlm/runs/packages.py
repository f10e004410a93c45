"""Which packages are there to be imported, without importing them."""

from __future__ import annotations

import importlib.util


def is_installed(name: str) -> bool:
    """Whether a package can be imported; a folder that only has its name, as wandb makes one, is none."""
    try:
        found = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return False
    return found is not None and found.origin is not None
