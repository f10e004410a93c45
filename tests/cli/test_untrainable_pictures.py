"""Pictures that a model's processor does not take: found by the check and by the plan, by the processor's own rule."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from robointervlm.cli.main import run
from tiny_models import saved_model

SIZES = {"good": (64, 48), "flat": (400, 1), "thin": (2, 600), "edge": (200, 1)}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    records = []
    for name, (width, height) in SIZES.items():
        Image.new("RGB", (width, height), (200, 30, 30)).save(tmp_path / f"{name}.png")
        fields = {"w": width, "h": height} if name != "thin" else {}  # one whose size the picture alone says
        question, answer = "Is it reached?", "Yes"
        records.append({"id": name, "image": f"{name}.png", "question": question, "ground_truth": answer, **fields})
    path = tmp_path / "own.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def test_a_check_for_a_model_lists_them_with_record_id_and_reason(file: Path, tmp_path: Path) -> None:
    check = ["data", "check", str(file), "--task", "contact_decide", "--workers", "1"]
    assert run(check) == 0
    listed = tmp_path / "listed"
    assert run([*check, "--model", str(saved_model(tmp_path)), "--list", str(listed)]) == 3
    found = [json.loads(line) for line in listed.read_text().splitlines()]
    assert [(one["line"], one["id"], one["field"], one["severity"]) for one in found] == [
        (2, "flat", "images", "error"),
        (3, "thin", "images", "error"),
    ]
    assert found[0]["reason"] == "an image of 400x1 cannot be resized: the longer side may be 200x the other."
    assert found[1]["reason"] == "an image of 2x600 cannot be resized: the longer side may be 200x the other."


def test_a_picture_that_is_missing_is_listed_once(file: Path, tmp_path: Path) -> None:
    (tmp_path / "good.png").unlink()
    listed = tmp_path / "listed"
    check = ["data", "check", str(file), "--task", "contact_decide", "--model", str(saved_model(tmp_path))]
    assert run([*check, "--workers", "1", "--list", str(listed)]) == 3
    assert [json.loads(line)["id"] for line in listed.read_text().splitlines()] == ["good", "flat", "thin"]


@pytest.mark.parametrize("pack", ["none", "shared"])
def test_a_plan_names_them_and_ends_as_the_training_would(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], pack: str
) -> None:
    (tmp_path / "mine.yaml").write_text(f"root: .\nown: {{task: contact_decide, annotations: {file.name}}}\n")
    recipe = [f"model.path={saved_model(tmp_path)}", "mixture=[own]", f"data.catalog=[{tmp_path / 'mine.yaml'}]"]
    recipe += [f"run.dir={tmp_path / 'run'}", f"batch.pack={pack}", "model.device=cpu", "batch.max_tokens=600"]
    assert run(["train", *recipe, "--plan"]) == 3
    said = capsys.readouterr()
    assert "2 of 4 samples cannot be trained on, more than data.max_bad_rate=0.01 allows; the first: " in said.err
    plan = json.loads((tmp_path / "run" / "plan.json").read_text())
    assert plan["problems"] == [
        f"{file}, line 2 (id flat): field 'images': an image of 400x1 cannot be resized: "
        "the longer side may be 200x the other.",
        f"{file}, line 3 (id thin): field 'images': an image of 2x600 cannot be resized: "
        "the longer side may be 200x the other.",
    ]
    assert run(["train", *recipe, "--plan", "data.max_bad_rate=0.5"]) == 0
