"""A tiny checkpoint of every family goes through `predict`, `score` and `report`, for every task of the simulation."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rich.console import Console

from robointervlm.cli.main import run
from robointervlm.core.coordinates import ImageSize
from robointervlm.episodes.build import FILES, BuildConfig, build
from robointervlm.models.model import load_model
from tiny_families import FAMILIES, make_checkpoint, section_of

TASKS = sorted(FILES)
# A few questions of each task are enough.
SHARES = {"current_box": 35, "contact_box": 50, "contact_point": 50, "gripper_det": 35, "grounding": 6, "naming": 6}
FORMATS = {"llava_onevision": "unit", "llava_next": "unit", "robobrain": "resized"}


@pytest.fixture(scope="module")
def simulated(tmp_path_factory) -> Path:
    """A data root with the validation set of two simulated episodes."""
    root = tmp_path_factory.mktemp("sim")
    build(BuildConfig(seed=3, val_episodes=2, frames=6), root, workers=1, console=Console(quiet=True))
    return root


def predicted(family: str, folder: Path, root: Path, out: Path, *, batch: int, style: str = "default") -> list[dict]:
    """The records of a run over every task, by question."""
    arguments = [f"model.{key}={value}" for key, value in section_of(family, folder).items()]
    names = ",".join(f"sim_{task}_val%{SHARES.get(task, 100)}" for task in TASKS)
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
    assert {record["task"] for record in records} == set(TASKS)
    assert {record["status"] for record in records} <= {"ok", "unparsable"}
    assert {record["format"] for record in records} == {FORMATS.get(family, "per_mille")}
    assert len({record["reply"] for record in records}) > 5
    model = load_model(section_of(family, folder))
    assert {tuple(record["processed_size"]) for record in records} == {model.processed_size(ImageSize(196, 112))}
    assert run(["score", str(tmp_path / "run")]) == 0
    assert run(["report", str(tmp_path / "run")]) == 0
    capsys.readouterr()
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert {row["task"] for row in report["tasks"]} == set(TASKS)
    assert (tmp_path / "run" / "report.html").stat().st_size > 1000
    # One by one, the answers are the same to the token.
    alone = predicted(family, folder, simulated, tmp_path / "alone", batch=1, style=style)
    kept = ("key", "reply", "input_tokens", "output_tokens", "finish_reason")
    assert [[record[key] for key in kept] for record in alone] == [[record[key] for key in kept] for record in records]
