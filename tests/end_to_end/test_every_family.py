"""A tiny checkpoint of every family goes through `predict`, `score` and `report`, for every task of the simulation."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from rich.console import Console

from robointervlm.cli.main import run
from robointervlm.core.coordinates import ImageSize
from robointervlm.episodes.assemble import published_task
from robointervlm.episodes.build import BuildConfig, build
from robointervlm.episodes.questions import ASKERS
from robointervlm.models.model import load_model
from tiny_families import FAMILIES, make_checkpoint, section_of

FILES = sorted(ASKERS)
TASKS = {published_task(file) for file in FILES}
# A few questions of each task are enough.
ENOUGH = 3
FORMATS = {"llava_onevision": "unit", "llava_next": "unit", "robobrain": "resized"}


@pytest.fixture(scope="module")
def simulated(tmp_path_factory) -> tuple[Path, str]:
    """A data root with the validation set of eight simulated episodes, and a mixture: a few questions of each file."""
    root = tmp_path_factory.mktemp("sim")
    made = build(BuildConfig(seed=3, val_episodes=8, frames=6), root, workers=1, console=Console(quiet=True))
    shares = {file: math.ceil(100 * ENOUGH / made.records["val"][file]) for file in FILES}
    return root, ",".join(f"sim_{file}_val%{min(share, 100)}" for file, share in shares.items())


def predicted(
    family: str, folder: Path, data: tuple[Path, str], out: Path, *, batch: int, style: str = "default"
) -> list[dict]:
    """The records of a run over every task, by question."""
    arguments = [f"model.{key}={value}" for key, value in section_of(family, folder).items()]
    root, names = data
    assert (
        run(
            [
                "predict",
                *arguments,
                *("--data", names, "--out", str(out), "--batch-size", str(batch), "--max-new-tokens", "6"),
                f"data.root={root}",
                f"style={style}",
            ]
        )
        == 0
    )
    lines = [json.loads(line) for line in (out / "records.jsonl").read_text().splitlines()]
    return sorted(lines, key=lambda line: line["key"])


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_is_asked_scored_and_reported_on_every_task(family, simulated, tmp_path, capsys):
    style = "robobrain" if family == "robobrain" else "default"
    folder = make_checkpoint(family, tmp_path / "model")
    records = predicted(family, folder, simulated, tmp_path / "run", batch=16, style=style)
    assert {record["task"] for record in records} == TASKS
    assert {record["status"] for record in records} <= {"ok", "unparsable"}
    assert {record["format"] for record in records} == {FORMATS.get(family, "per_mille")}
    assert len({record["reply"] for record in records}) > 5
    model = load_model(section_of(family, folder))
    sizes = {tuple(record["image_size"]): tuple(record["processed_size"]) for record in records}
    # The second size is that of four candidates, drawn in one picture.
    assert sizes == {size: tuple(model.processed_size(ImageSize(*size))) for size in ((196, 112), (396, 228))}
    assert run(["score", str(tmp_path / "run")]) == 0
    assert run(["report", str(tmp_path / "run")]) == 0
    capsys.readouterr()
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert {row["task"] for row in report["tasks"]} == TASKS
    assert (tmp_path / "run" / "report.html").stat().st_size > 1000
    # One by one, the answers are the same to the token.
    alone = predicted(family, folder, simulated, tmp_path / "alone", batch=1, style=style)
    kept = ("key", "reply", "input_tokens", "output_tokens", "finish_reason")
    assert [[record[key] for key in kept] for record in alone] == [[record[key] for key in kept] for record in records]
