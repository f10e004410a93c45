"""The documented scorers of other tools' prediction files, run as their README writes them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from robointervlm.compat.scores import score_generation, score_planning_files
from robointervlm.core.errors import DataError, RecipeError
from scripted_benchmark import ROOT

SCRIPTS = ROOT / "eval/benchmark/eval_llava_format"

BOXES = [
    # 308x168 is what a 320x180 picture is resized to; the second box is written with its corners swapped.
    {"id": "droid_1", "pred": '{"current_bbox": [[77, 42], [154, 84]]}', "gt": "[[77, 42], [154, 84]]"},
    {"id": "droid_2", "pred": "[[154, 84], [77, 42]]", "gt": "[[77, 42], [154, 84]]"},
]
CHOICES = [
    {"id": "droid_3", "pred": "", "gt": "B"},
    {"id": "droid_4", "pred": "b", "gt": "B"},
]
PLANS = [
    {"id": "Planning_Task_1", "pred": "pick up the red cube", "gt": "pick up the red cube"},
    {"id": "Success_Positive_Task_2", "pred": "That was yesterday, no.", "gt": "No"},
    {"id": "Scene_Understanding_3", "pred": "C. table", "gt": "C"},
]


@pytest.fixture
def predictions(tmp_path):
    folder = tmp_path / "predictions" / "theirs"
    folder.mkdir(parents=True)
    for task, records in {"current_box": BOXES, "grounding_choice": CHOICES, "all_plan_VQA_val": PLANS}.items():
        (folder / f"eval_details_{task}.json").write_text(json.dumps(records))
    return folder


def metric(folder: Path, name: str, *, task: int = 0) -> dict:
    report = json.loads((folder / "report.json").read_text())
    return next(found for found in report["tasks"][task]["metrics"] if found["name"] == name)


def test_run_eval_scores_every_file_strictly_and_as_published(predictions):
    done = subprocess.run(
        ["bash", "run_eval.sh"],
        cwd=SCRIPTS,
        env={
            **os.environ,
            "ROOT": str(predictions.parent),
            "MODEL": "theirs",
            "COORDINATES": "resized",
            "PLANNING": str(predictions),
            "ROBOINTER_PYTHON": sys.executable,
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    boxes = metric(predictions / "scores" / "current_box", "IoU")
    # The release does not put swapped corners in order.
    assert (boxes["mean"], boxes["paper"]) == (1.0, {"mean": 0.5, "n": 2})
    letters = metric(predictions / "scores" / "grounding_choice", "Accuracy")
    # Nothing is right for the release, and a small letter wrong.
    assert (letters["mean"], letters["paper"]) == (0.5, {"mean": 0.5, "n": 2})
    assert "Published average over 2 numbers: 0.5000" in done.stdout
    plans = json.loads((predictions / "scores" / "all_plan_VQA_val" / "report.json").read_text())
    assert {group["task"]: group["n"] for group in plans["tasks"]} == {
        "planning": 1, "planning_decide": 1, "planning_choice": 1,
    }  # fmt: skip


def test_the_quirks_that_changed_a_record_are_named_in_the_report(predictions):
    assert score_generation(["--root", str(predictions.parent), "--model", "theirs", "--coordinates", "resized"]) == 0
    report = json.loads((predictions / "scores" / "grounding_choice" / "report.json").read_text())
    assert report["tasks"][0]["quirks"] == {"an empty answer is correct": 1, "other wordings are wrong": 1}
    page = (predictions / "scores" / "grounding_choice" / "report.md").read_text()
    assert "an empty answer is correct" in page
    assert "| paper |" in page


def test_the_units_of_the_answers_are_never_guessed(predictions):
    with pytest.raises(RecipeError, match="--coordinates"):
        score_generation(["--root", str(predictions.parent), "--model", "theirs"])


def test_a_folder_without_predictions_is_one_clear_line(tmp_path):
    with pytest.raises(DataError, match="eval_details_"):
        score_generation(["--root", str(tmp_path), "--model", "nobody", "--coordinates", "unit"])
    with pytest.raises(DataError, match="eval_details_"):
        score_planning_files([str(tmp_path)])


def test_planning_files_of_one_name_are_scored_into_folders_of_their_own(tmp_path):
    # The three published planning files are all called so.
    files = [tmp_path / kind / "task_planning.json" for kind in ("planning", "choice", "decide")]
    for file in files:
        file.parent.mkdir()
        record = {"id": f"Success_Negative_Task_{file.parent.name}", "prompt": "did it?", "pred": "yes", "gt": "yes"}
        file.write_text(json.dumps([record]))
    for _ in range(2):  # the same command again is the same evaluation
        assert score_planning_files([*map(str, files), "--output_dir", str(tmp_path / "out")]) == 0
    assert sorted(path.parent.name for path in (tmp_path / "out").glob("*/report.json")) == [
        "choice-task_planning",
        "decide-task_planning",
        "planning-task_planning",
    ]
