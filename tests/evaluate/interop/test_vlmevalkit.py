"""VLMEvalKit's configuration, and its results collected; the results are of the form that its 0.0.20 wrote."""

from __future__ import annotations

import json

import pytest

from robointervlm.cli.main import run
from robointervlm.core.errors import DataError, RecipeError
from robointervlm.evaluate.interop.vlmevalkit import collect, configuration

POPE = {"split=Overall|Overall": 50, "split=Overall|acc": 62.5}


def status(folder, model: str, **datasets: dict) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "status.json").write_text(json.dumps({"model_name": model, "datasets": datasets}))


def entry(metrics: dict | None, updated: str = "2026-01-01", **more: str) -> dict:
    primary = next(iter(metrics), None) if metrics else None
    return {"status": "done", "updated_at": updated, "primary_metric": primary, "metrics": metrics, **more}


def test_a_served_checkpoint_is_asked_greedily_by_a_class_of_its_own():
    made = configuration("mine", "/models/mine", "http://127.0.0.1:8000/v1/", ["POPE", "Own=ImageVQADataset"])
    model = made["model"]["mine"]
    assert model["api_base"] == "http://127.0.0.1:8000/v1/chat/completions"
    assert (model["class"], model["model"], model["temperature"]) == ("GPT4V", "/models/mine", 0)
    assert made["data"] == {
        "POPE": {"class": "ImageYORNDataset", "dataset": "POPE"},
        "Own": {"class": "ImageVQADataset", "dataset": "Own"},
    }


def test_the_key_of_the_judge_is_not_given_to_the_checkpoint(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary")
    made = configuration("mine", "mine", "http://127.0.0.1:8000/v1", ["POPE"])
    assert made["model"]["mine"]["key"] == "none"


def test_a_dataset_of_unknown_class_is_an_error():
    with pytest.raises(RecipeError, match="NewBench=CLASS"):
        configuration("mine", "mine", "http://127.0.0.1:8000/v1", ["NewBench"])


def test_every_number_is_collected_and_the_main_one_marked(tmp_path, capsys):
    status(tmp_path / "mine", "mine", POPE=entry(POPE, judge_model="exact_matching"))
    assert run(["leaderboards", "collect", str(tmp_path)]) == 0
    table = capsys.readouterr().out
    assert "| mine | POPE | **split=Overall\\|Overall** | 50 | exact_matching | done |" in table
    assert "| mine | POPE | split=Overall\\|acc | 62.5 | exact_matching | done |" in table
    assert [each["value"] for each in json.loads((tmp_path / "leaderboards.json").read_text())] == [50, 62.5]


def test_a_dataset_without_a_number_is_listed(tmp_path):
    status(tmp_path, "mine", MMVet={"status": "failed", "updated_at": "2026-01-01"})
    [result] = collect(tmp_path)
    assert (result.dataset, result.value, result.status) == ("MMVet", None, "failed")


def test_the_newest_run_of_a_dataset_counts(tmp_path):
    status(tmp_path / "b", "mine", POPE=entry({"acc": 1}, "2026-01-01"), OCRBench=entry({"Final Score": 7}))
    status(tmp_path / "a", "mine", POPE=entry({"acc": 2}, "2026-02-01"))
    assert {result.dataset: result.value for result in collect(tmp_path)} == {"POPE": 2, "OCRBench": 7}


@pytest.mark.parametrize("text", ["", "[]", '{"model_name": "m"}', '{"model_name": "m", "datasets": {"a": 1}}'])
def test_a_damaged_status_is_named(tmp_path, text):
    (tmp_path / "status.json").write_text(text)
    with pytest.raises(DataError, match=r"status\.json"):
        collect(tmp_path)


def test_a_folder_without_results_is_an_error(tmp_path):
    with pytest.raises(DataError, match="no results"):
        collect(tmp_path)


def test_results_of_one_name_are_not_taken_over_by_another_model(tmp_path, capsys):
    flags = ["leaderboards", "config", "--name", "sft", "--data", "POPE", "--out", str(tmp_path / "sft.json")]
    assert run([*flags, "--model", "/a/model", "--base-url", "http://127.0.0.1:1/v1"]) == 0
    assert run([*flags, "--model", "/a/model", "--base-url", "http://127.0.0.1:2/v1"]) == 0  # served anew
    before = (tmp_path / "sft.json").read_text()
    assert run([*flags, "--model", "/b/model", "--base-url", "http://127.0.0.1:1/v1"]) == 2
    assert "the results of 'sft' are those of /a/model, and this is /b/model" in capsys.readouterr().err
    longer = ["--model", "/a/model", "--base-url", "http://127.0.0.1:1/v1", "--max-tokens", "64"]
    assert run([*flags, *longer]) == 2
    assert "the results of 'sft' are answers of up to 512 tokens, now it is 64" in capsys.readouterr().err
    assert (tmp_path / "sft.json").read_text() == before
