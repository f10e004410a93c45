"""The demo, small: that it goes through, counts everything, and says what its summary promises."""

import json

import pytest

pytest.importorskip("torch")
pytest.importorskip("mujoco")

from robointervlm.cli.demo import TASKS, DemoSettings, demo_recipe, summary_rows
from robointervlm.cli.main import run
from robointervlm.runs.settings import write_recipe
from robointervlm.train.recipe import TrainRecipe


def _report(task, metric, mean, *, unparsed=0, charged=None):
    found = {"name": metric, "mean": mean, "low": mean, "high": mean, "charged": charged}
    return {"tasks": [{"task": task, "n": 10, "unparsed": unparsed, "metrics": [found]}]}


def test_a_baseline_that_does_not_apply_is_null_in_the_summary(monkeypatch):
    monkeypatch.setattr("robointervlm.cli.demo.TASKS", {"traj": ("DTW",)})
    reports = {name: _report("traj", "DTW", 100.0) for name in ("trained", "untrained", "random_answer")}
    (row,) = summary_rows({**reports, "mean_box": {"tasks": []}})
    assert row["mean_box"] is None
    assert row["random_answer"] == 100.0


def test_the_summary_charges_answers_that_cannot_be_read(monkeypatch):
    # A model that answers one of ten questions perfectly must not look perfect on an unbounded metric.
    monkeypatch.setattr("robointervlm.cli.demo.TASKS", {"traj": ("DTW",)})
    paid = {"mean": 900.0, "low": 800.0, "high": 1000.0}
    reports = {name: _report("traj", "DTW", 0.0, unparsed=9, charged=paid) for name in ("trained", "untrained")}
    (row,) = summary_rows({**reports, "mean_box": {"tasks": []}, "random_answer": {"tasks": []}})
    assert (row["trained"], row["low"], row["high"], row["unparsed"]) == (900.0, 800.0, 1000.0, 9)


def test_a_step_that_the_processes_cannot_share_is_refused(tmp_path, capsys):
    assert run(["demo", "--dir", str(tmp_path / "demo"), "--processes", "3"]) == 2
    assert "shared by 1 or 2 processes" in capsys.readouterr().err


def test_a_folder_with_a_demo_of_other_settings_is_refused(tmp_path, capsys):
    folder = tmp_path / "demo"
    arguments = ["demo", "--dir", str(folder), "--episodes", "1", "--held-out", "1", "--processes", "1"]
    before = DemoSettings(folder, seed=0, episodes=1, held_out=1, steps=7, processes=1)
    folder.mkdir()
    write_recipe(TrainRecipe.model_validate(demo_recipe(before)), folder / "train.yaml")
    assert run([*arguments, "--steps", "8"]) == 2
    assert "other settings" in capsys.readouterr().err


@pytest.mark.slow
def test_a_small_demo_ends_with_its_summary_and_report(tmp_path):
    folder = tmp_path / "demo"
    arguments = ["demo", "--dir", str(folder), "--episodes", "8", "--held-out", "4", "--steps", "2", "--processes", "1"]
    assert run(arguments) == 0
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["minutes"] > 0
    assert [row["task"] for row in summary["rows"]] == [task for task, metrics in TASKS.items() for _ in metrics]
    for row in summary["rows"]:
        assert set(row) == {
            *("task", "metric", "n", "unparsed", "trained", "low", "high", "untrained", "mean_box", "random_answer")
        }
        assert row["n"] > 0
        assert (row["mean_box"] is None) == (row["task"] == "traj")
    assert "<svg" in (folder / "trained" / "report.html").read_text()
    # A second call finds everything done and says the same.
    assert run(arguments) == 0
    assert json.loads((folder / "summary.json").read_text())["rows"] == summary["rows"]
