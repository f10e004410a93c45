"""The files that scoring leaves in a run folder, read back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robointervlm.core.errors import DataError


@dataclass(frozen=True)
class ScoredRun:
    """`report` is the aggregate, `samples` one entry per requested question, `performance` the times."""

    report: Mapping[str, Any]
    samples: tuple[Mapping[str, Any], ...]
    performance: Mapping[str, Any]

    @property
    def model_name(self) -> str:
        return str(self.report["model"]["name"])


def read_scored(folder: Path) -> ScoredRun:
    """The scored run in a folder. Raises `DataError` if it was not scored."""
    try:
        report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
        with (folder / "samples.jsonl").open(encoding="utf-8") as lines:
            samples = tuple(json.loads(line) for line in lines)
        performance = json.loads((folder / "performance.json").read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(
            f"{folder} holds no scored run ({error.filename} is missing): robointer score {folder}"
        ) from None
    except ValueError as error:
        raise DataError(f"{folder}: damaged result ({error}); write it again with: robointer score {folder}") from None
    return ScoredRun(report, samples, performance)
