"""A task of somebody else's package, from its data to a comparison: nothing in `src` knows of it."""

import json

import pytest

from scripted_benchmark import robointer
from tiny_models import saved_model


def done(*arguments):
    """The standard output of a command that has to succeed."""
    finished = robointer(*arguments, timeout=500)
    assert finished.returncode == 0, finished.stderr + finished.stdout
    return finished.stdout


@pytest.mark.timeout(1500)
def test_a_task_in_degrees_goes_from_its_catalog_to_a_comparison(lab, grasps, tmp_path):
    plugin = ("--plugin", lab)
    done("data", "check", "grasps_train", "--catalog", grasps, *plugin)
    done("data", "stats", "grasps_train", "--catalog", grasps, "--out", tmp_path / "stats.html", *plugin)
    counted = json.loads((tmp_path / "stats.json").read_text())[0]["tasks"]["grasp_angle"]
    assert counted["values in deg"] == {"10.0": 1, "20.0": 1, "30.0": 1, "40.0": 1, "50.0": 1, "60.0": 1}

    # Trained by two processes, in a recipe that names the plugin.
    recipe = tmp_path / "train.yaml"
    recipe.write_text(
        f"plugins: {lab}\nmodel: {{path: {saved_model(tmp_path)}}}\nmixture: grasps_train\n"
        f"data: {{catalog: [{grasps}]}}\nbatch: {{per_device: 1, accumulate: 1}}\n"
        f"run: {{dir: {tmp_path / 'sft'}, max_steps: 3}}\n"
        "watch: {validation: {mixture: grasps_val, samples: 2, max_new_tokens: 4}}\n"
    )
    done("train", recipe, "--gpus", "0", "--processes", "2")
    validated = json.loads((tmp_path / "sft" / "validation.jsonl").read_text().splitlines()[-1])
    assert validated["tasks"][0]["metrics"]["MAE"]["unit"] == "deg"

    # Asked by two processes: the model that was trained, which says nothing sensible, and one of the plugin.
    data = (f"data.catalog=[{grasps}]", "data.mixture=grasps_val", "max_error_rate=1")
    trained, guess = tmp_path / "trained", tmp_path / "guess"
    decoding = ("decoding.max_new_tokens=4", "model.device=cpu")
    done("predict", *data, *decoding, "--model", tmp_path / "sft", "--out", trained, "--processes", "2", *plugin)
    constant = ("model.family=constant", "model.says='The angle is 30 degrees.'")
    table = done("predict", *data, *constant, decoding[0], f"run.dir={guess}", "--processes", "2", *plugin)
    assert "15.0 deg" in table
    assert (guess / "recipe.yaml").read_text().startswith(f"plugins:\n- {lab}\n")

    # What comes after needs no flag: the run says which plugin it was made with.
    assert "15.0 deg" in done("score", guess)
    report = json.loads((guess / "report.json").read_text())["tasks"][0]["metrics"][0]
    assert (report["unit"], report["mean"], report["charged"]["mean"]) == ("deg", 15.0, 15.0)
    failed = json.loads((trained / "report.json").read_text())["tasks"][0]["metrics"][0]
    assert (failed["n"], failed["charged"]["mean"]) == (0, 180.0)
    done("report", guess)
    page = (guess / "report.html").read_text()
    assert "15.0 deg" in page
    assert "30 deg</text>" in page, "the answer is drawn"
    compared = done("compare", guess, trained)
    assert "grasp_angle, MAE: constant is better by 165.0 deg." in compared
    assert "points" not in compared
