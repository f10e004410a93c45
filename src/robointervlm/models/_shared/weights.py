"""What tensors a checkpoint holds, by name: from a file's header or an index, without torch and without a tensor."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from robointervlm.core.errors import ModelError

# In the order in which transformers looks for them.
_FILE, _INDEX = "model.safetensors", "model.safetensors.index.json"
# The format's own limit; the length of a file that is none would be anything.
_LONGEST_HEADER = 100_000_000
# In the published layout and in ours, of every layer with experts.
_EXPERTS = (".moe_block.", ".experts_scaler")


def tensor_names(path: str | Path, *, fetch: bool = True) -> frozenset[str] | None:
    """The names of all tensors of a folder or of a hub name; None where there are no weights in safetensors.

    `fetch`: whether what a hub name lacks in the local cache may be downloaded. Raises `ModelError` for a file that
    cannot be read.
    """
    if (file := _found(path, _FILE, fetch=fetch)) is not None:
        return frozenset(_header(file)) - {"__metadata__"}
    if (file := _found(path, _INDEX, fetch=fetch)) is not None:
        return frozenset(_index(file))
    return None


def expert_names(names: Iterable[str]) -> list[str]:
    """Those of the names that belong to a mixture of experts, sorted."""
    return sorted(name for name in names if any(part in f".{name}" for part in _EXPERTS))


def _found(path: str | Path, name: str, *, fetch: bool) -> Path | None:
    if (folder := Path(path)).is_dir():
        return folder / name if (folder / name).is_file() else None
    from transformers.utils.hub import cached_file  # noqa: PLC0415 - takes seconds, and a folder does without

    lenient: dict[str, Any] = {
        "_raise_exceptions_for_missing_entries": False,
        "_raise_exceptions_for_connection_errors": False,
    }
    try:
        file = cached_file(str(path), name, local_files_only=not fetch, **lenient)
    except (OSError, ValueError):
        return None  # no such name; config.json is asked for first, and says so
    return None if file is None else Path(file)


def _header(file: Path) -> dict[str, Any]:
    try:
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            header = stream.read(length) if 0 < length <= _LONGEST_HEADER else b""
            if len(header) != length or not header:
                raise ValueError(f"its header should have {length} bytes")
            return {**json.loads(header)}
    except (OSError, ValueError, TypeError) as error:
        raise ModelError(f"the weights in {file} cannot be read ({error}); is the file whole?") from None


def _index(file: Path) -> dict[str, Any]:
    try:
        return {**json.loads(file.read_text(encoding="utf-8"))["weight_map"]}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ModelError(f"{file} is no index of weights ({error!r}); is the file whole?") from None
