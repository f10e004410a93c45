"""The samples of a run as a table for data frames: flat typed columns, in Parquet.

pyarrow is an optional dependency; without it nothing is lost, `samples.jsonl` holds the same and more.
"""

from __future__ import annotations

import importlib
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from robointervlm.runs.files import write_atomically

logger = logging.getLogger(__name__)

_TEXTS = ("id", "dataset", "task", "episode", "skill", "status", "reason", "tier")
# Metrics of these names become columns such as `strict.IoU`.
_SCORINGS = ("strict", "paper")


def write_table(entries: Sequence[Mapping[str, Any]], path: Path) -> bool:
    """Writes the entries of `samples.jsonl` as Parquet; whether that could be done.

    Columns: `id`, `dataset`, `task`, `episode`, `skill`, `status`, `reason`, `tier`, `reply` (text), `image_width`,
    `image_height` (int32), `predicted`, `reference` (JSON text), and each metric as float64, null where a question has
    no such value. Without pyarrow a note says so, and a table of an earlier scoring is removed rather than left wrong.
    """
    try:
        pyarrow = importlib.import_module("pyarrow")
        parquet = importlib.import_module("pyarrow.parquet")
    except ImportError:
        path.unlink(missing_ok=True)
        logger.info("%s is not written, which needs pyarrow: pip install 'robointervlm[tables]'.", path.name)
        return False
    sink = pyarrow.BufferOutputStream()
    parquet.write_table(_table(entries, pyarrow), sink, compression="zstd")
    write_atomically(path, sink.getvalue().to_pybytes())
    return True


def _table(entries: Sequence[Mapping[str, Any]], pyarrow: Any) -> Any:
    columns: dict[str, Any] = {
        name: pyarrow.array([_text(entry.get(name)) for entry in entries], pyarrow.string()) for name in _TEXTS
    }
    columns["reply"] = pyarrow.array([_text(entry["reply"]) for entry in entries], pyarrow.string())
    for place, name in enumerate(("image_width", "image_height")):
        sizes = [entry["image_size"][place] if entry["image_size"] else None for entry in entries]
        columns[name] = pyarrow.array(sizes, pyarrow.int32())
    for name, key in (("predicted", "predicted"), ("reference", "answer")):
        columns[name] = pyarrow.array([_json(entry[key]) for entry in entries], pyarrow.string())
    for scoring in _SCORINGS:
        values = [entry.get(scoring) or {} for entry in entries]
        for metric in dict.fromkeys(metric for each in values for metric in each):
            columns[f"{scoring}.{metric}"] = pyarrow.array([each.get(metric) for each in values], pyarrow.float64())
    return pyarrow.table(columns)


def _text(value: object) -> str | None:
    # A model may write half of a surrogate pair, which has no UTF-8; a question mark stands for it here.
    return None if value is None else str(value).encode("utf-8", "replace").decode("utf-8")


def _json(value: object) -> str | None:
    return None if value is None else json.dumps(value)
