from __future__ import annotations

import json

import pytest

from robointervlm.core.errors import DataError
from robointervlm.evaluate.predict import predict
from robointervlm.evaluate.recipe import EvaluationRecipe
from robointervlm.evaluate.records import Requested
from robointervlm.evaluate.score import score, score_one
from robointervlm.runs.settings import load_recipe
from scripted_benchmark import make_benchmark


def run_of(folder, **changes):
    benchmark = make_benchmark(folder, **changes)
    predict(load_recipe(EvaluationRecipe, None, benchmark.overrides(folder / "run")))
    return folder / "run"


def metrics_of(group):
    return {metric["name"]: metric for metric in group["metrics"]}


def test_failures_are_in_the_denominator_of_a_bounded_metric(tmp_path):
    [group] = score(run_of(tmp_path, count=10))["tasks"]
    # Of ten answers one is prose and one lies outside the picture; the other eight overlap.
    assert (group["n"], group["readable"], group["unparsed"]) == (10, 9, 1)
    accuracy = metrics_of(group)["ACC@IoU>0.1"]
    assert (accuracy["mean"], accuracy["n"], accuracy["over"]) == (0.8, 10, "requested")
    assert accuracy["readable"]["mean"] == pytest.approx(8 / 9)


def test_a_distance_is_shown_over_the_readable_and_with_failures_charged(tmp_path):
    [group] = score(run_of(tmp_path, task="traj_wo_init_pos", count=10))["tasks"]
    dtw = metrics_of(group)["DTW"]
    assert (dtw["n"], dtw["over"], dtw["charged"]["n"]) == (9, "readable", 10)
    # A failure costs ten waypoints times the diagonal of a 196 x 112 picture, 225.74 px.
    assert dtw["charged"]["mean"] * 10 - dtw["mean"] * 9 == pytest.approx(2257.43, abs=0.1)


def test_an_answer_replaced_by_garbage_never_helps(tmp_path):
    benchmark = make_benchmark(tmp_path, count=6)
    answers = json.loads((benchmark.model / "answers.json").read_text())
    means = []
    for number in range(6):
        (benchmark.model / "answers.json").write_text(json.dumps(answers))
        predict(load_recipe(EvaluationRecipe, None, benchmark.overrides(tmp_path / f"run{number}")))
        [group] = score(tmp_path / f"run{number}")["tasks"]
        means.append([metric["mean"] for metric in group["metrics"]])
        answers[f"Where is object {number}?"] = ""
    for before, after in zip(means, means[1:], strict=False):
        assert all(later <= earlier for earlier, later in zip(before, after, strict=True))


def test_scoring_again_needs_neither_model_nor_dataset_and_gives_the_same_bytes(tmp_path):
    run = run_of(tmp_path, count=5)
    score(run)
    before = {name: (run / name).read_bytes() for name in ("report.json", "samples.jsonl")}
    for path in (tmp_path / "images").iterdir():
        path.unlink()
    (tmp_path / "current_box.json").unlink()
    score(run)
    assert {name: (run / name).read_bytes() for name in before} == before


def test_an_unfinished_run_says_so_and_charges_what_is_missing(tmp_path):
    run = run_of(tmp_path, count=4)
    lines = (run / "records.jsonl").read_bytes().splitlines(keepends=True)
    (run / "records.jsonl").write_bytes(lines[0])
    report = score(run)
    assert report["complete"] is False
    assert report["statuses"]["missing"] == 3
    assert metrics_of(report["tasks"][0])["IoU"]["mean"] == 0.25


def test_the_last_record_of_a_question_counts(tmp_path):
    run = run_of(tmp_path, count=2)
    lines = (run / "records.jsonl").read_bytes()
    (run / "records.jsonl").write_bytes(lines + lines)
    assert score(run)["requested"] == 2


def test_another_folder_is_not_a_run(tmp_path):
    with pytest.raises(DataError, match="is not the folder of a prediction run"):
        score(tmp_path)


def test_a_question_without_a_record_is_missing():
    question = Requested("k", "id", "d", "current_box", "", (), (10, 10), {"box": [0.0, 0.0, 1.0, 1.0]}, "")
    assert score_one(question, None).status == "missing"


def test_each_dataset_of_a_task_has_its_own_row(tmp_path):
    first = make_benchmark(tmp_path / "a", count=3)
    second = make_benchmark(tmp_path / "b", count=4)
    (tmp_path / "catalog.yaml").write_text(
        f"root: .\none: {{task: current_box, annotations: {first.file}, images: {first.images}}}\n"
        f"two: {{task: current_box, annotations: {second.file}, images: {second.images}}}\n"
    )
    settings = [f"model.path={second.model}", "data.mixture=[one, two]", f"data.catalog=[{tmp_path}/catalog.yaml]"]
    predict(load_recipe(EvaluationRecipe, None, [*settings, f"run.dir={tmp_path / 'run'}"]))
    report = score(tmp_path / "run")
    assert [(group["dataset"], group["n"]) for group in report["tasks"]] == [(None, 7)]
    assert [(group["dataset"], group["n"]) for group in report["datasets"]] == [("one", 3), ("two", 4)]
