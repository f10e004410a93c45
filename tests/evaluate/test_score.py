from __future__ import annotations

import gc
import json
import math
import sys
from dataclasses import replace

import pytest

from robointervlm.core.errors import DataError
from robointervlm.evaluate.predict import predict
from robointervlm.evaluate.recipe import EvaluationRecipe
from robointervlm.evaluate.records import Requested, RequestedList
from robointervlm.evaluate.score import report_of, score, score_all, score_one, write_table
from robointervlm.runs.settings import load_recipe
from robointervlm.tasks import task_named
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


SIZE = {"image_size": [100, 100], "processed_size": None, "format": "pixel", "status": "ok"}


def asked(number, box, **fields):
    answer = None if box is None else {"box": box}
    return Requested(f"k{number}", f"q{number}", "d", "current_box", "", (), (100, 100), answer, "", **fields)


def answered(number, reply):
    return {"key": f"k{number}", **SIZE, "reply": reply}


def report_on(*questions, replies=()):
    records = {f"k{number}": answered(number, reply) for number, reply in enumerate(replies)}
    requested = RequestedList({"name": "m"}, {"temperature": 0.0, "seed": 3}, "default", questions)
    return report_of(requested, score_all(questions, records))


def slices_by(report, by):
    return {group["value"]: group for group in report["slices"] if group["by"] == by}


def test_boxes_are_sliced_by_their_share_of_the_picture():
    # Of 10,000 pixels: 99, 100, 499 and 500, each box of the width 1 at least.
    boxes = [[0, 0, 9.9, 10], [0, 0, 10, 10], [0, 0, 49.9, 10], [0, 0, 50, 10]]
    sizes = slices_by(report_on(*(asked(number, box) for number, box in enumerate(boxes))), "box size")
    assert {value: group["n"] for value, group in sizes.items()} == {"small": 1, "medium": 2, "large": 1}
    assert list(sizes) == ["small", "medium", "large"]


def test_a_slice_counts_its_failures_as_the_whole_does():
    box, right = [0, 0, 20, 20], '{"current_bbox": [[0, 0], [20, 20]]}'
    questions = [asked(number, box, skill=skill) for number, skill in enumerate(("pick", "pick", "push", ""))]
    skills = slices_by(report_on(*questions, replies=[right, "no idea", right]), "skill")
    assert {value: (group["n"], group["unparsed"]) for value, group in skills.items()} == {
        "pick": (2, 1),
        "push": (1, 0),
        "unknown": (1, 1),
    }
    assert metrics_of(skills["pick"])["ACC@IoU>0.1"]["mean"] == 0.5


def test_what_no_record_says_is_no_slice():
    assert slices_by(report_on(asked(0, [0, 0, 20, 20])), "skill") == {}


def test_the_protocol_is_what_was_asked_and_not_who_answered():
    one, other = asked(0, [0, 0, 20, 20]), asked(1, [0, 0, 30, 30])
    protocol = report_on(one, other, replies=["no idea"])["protocol"]
    assert report_on(other, one)["protocol"] == protocol
    assert protocol["tasks"]["current_box"]["questions"] == 2
    # Greedy decoding draws nothing: its seed decides nothing.
    assert protocol["decoding"] == {"seed": None, "temperature": 0.0}
    assert report_on(one)["protocol"]["hash"] != protocol["hash"]
    assert report_on(one, asked(1, [0, 0, 30, 31]))["protocol"]["hash"] != protocol["hash"]


def test_the_skill_of_a_record_reaches_the_report(tmp_path):
    benchmark = make_benchmark(tmp_path, count=4)
    records = json.loads(benchmark.file.read_text())
    benchmark.file.write_text(json.dumps([{**record, "skill": "pick"} for record in records[:3]] + records[3:]))
    predict(load_recipe(EvaluationRecipe, None, benchmark.overrides(tmp_path / "run")))
    assert [(value, group["n"]) for value, group in slices_by(score(tmp_path / "run"), "skill").items()] == [
        ("pick", 3),
        ("unknown", 1),
    ]


def test_a_metric_that_can_measures_all_answers_at_once(monkeypatch):
    seen = []

    def many(cases):
        seen.append(len(cases))
        return [0.25] * len(cases)

    task = task_named("current_box")
    metrics = (replace(task.metrics[0], measure_many=many), *task.metrics[1:])
    monkeypatch.setattr("robointervlm.evaluate.score.task_named", lambda name: replace(task, metrics=metrics))
    right = '{"current_bbox": [[0, 0], [20, 20]]}'
    questions = [asked(number, [0, 0, 20, 20]) for number in range(3)]
    records = {f"k{number}": answered(number, right) for number in range(3)}
    scored = score_all(questions, records)
    assert seen == [3]
    assert [dict(each.values) for each in scored] == [{"ACC@IoU>0.1": 0.25, "ACC@IoU>0.5": 1.0, "IoU": 1.0}] * 3


@pytest.mark.parametrize(
    "broken_way",
    [
        {"measure": lambda *_: float("nan"), "measure_many": None},
        {"measure_many": lambda cases: [math.nan] * len(cases)},
    ],
)
def test_a_value_that_is_no_number_is_a_bug_and_not_a_score(monkeypatch, broken_way):
    task = task_named("current_box")
    broken = replace(task, metrics=(replace(task.metrics[0], **broken_way),))
    for module in ("score", "aggregate"):
        monkeypatch.setattr(f"robointervlm.evaluate.{module}.task_named", lambda name: broken)
    with pytest.raises(ValueError, match="a bug of the metric"):
        report_on(asked(0, [0, 0, 20, 20]), replies=['{"current_bbox": [[0, 0], [20, 20]]}'])


def test_garbage_collection_is_as_it_was_after_scoring(tmp_path):
    run = run_of(tmp_path, count=2)
    score(run)
    assert gc.isenabled()


def test_the_samples_are_also_a_typed_table(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    run = run_of(tmp_path, count=10)
    score(run)
    table = parquet.read_table(run / "samples.parquet")
    assert {name: str(table.schema.field(name).type) for name in ("id", "image_width", "strict.IoU", "predicted")} == {
        "id": "string",
        "image_width": "int32",
        "strict.IoU": "double",
        "predicted": "string",
    }
    rows = table.to_pylist()
    assert [row["strict.IoU"] for row in rows[:1] + rows[9:]] == [1.0, None]
    assert (rows[9]["status"], rows[9]["predicted"]) == ("unparsable", None)
    assert json.loads(rows[0]["reference"]) == {"box": [8.0, 10.0, 38.0, 32.0]}


def test_the_published_values_of_a_sample_have_columns_of_their_own(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    entry = {"id": "q", "reply": "half a pair: \ud800", "image_size": None, "predicted": None, "answer": None}
    write_table([{**entry, "strict": {"IoU": 0.5}, "paper": {"IoU": 1.0}}, entry], tmp_path / "t.parquet")
    table = parquet.read_table(tmp_path / "t.parquet")
    assert table.column("paper.IoU").to_pylist() == [1.0, None]
    assert table.column("reply").to_pylist() == ["half a pair: ?"] * 2


def test_without_pyarrow_a_note_says_so_and_an_old_table_goes(tmp_path, monkeypatch, caplog):
    (tmp_path / "t.parquet").write_text("of an earlier scoring")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with caplog.at_level("INFO", logger="robointervlm"):
        assert not write_table([], tmp_path / "t.parquet")
    assert "pip install 'robointervlm[tables]'" in caplog.text
    assert not (tmp_path / "t.parquet").exists()
