"""A run folder holds one evaluation: of one model, on one set of questions, asked in one way."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from robointervlm.cli.main import run
from robointervlm.core.errors import RecipeError
from robointervlm.evaluate.in_shards import predict_in_shards
from robointervlm.evaluate.predict import Outcome, predict
from robointervlm.evaluate.recipe import EvaluationRecipe
from robointervlm.runs.settings import load_recipe
from scripted_benchmark import SIZE, Benchmark, make_benchmark


@pytest.fixture
def benchmark(tmp_path):
    return make_benchmark(tmp_path / "benchmark", count=4, name="A")


def answered(benchmark: Benchmark, out: Path, *overrides: str) -> Outcome:
    return predict(load_recipe(EvaluationRecipe, None, [*benchmark.overrides(out), *overrides]))


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.*")) if path.name != "log.txt"}


def test_another_models_answers_are_not_overwritten_and_both_are_named(benchmark, tmp_path, capsys):
    out = tmp_path / "run"
    assert run(["predict", *benchmark.options(out)]) == 0
    before = content(out)
    other = make_benchmark(tmp_path / "other", count=4, name="B", constant="none")
    flags = [*benchmark.options(out)]
    flags[flags.index("--model") + 1] = str(other.model)
    (other.model / "answers.json").write_text("{}")
    assert run(["predict", *flags]) == 2
    said = capsys.readouterr().err
    assert "answers are of the model 'A', and this is 'B'" in said
    assert content(out) == before


@pytest.mark.parametrize(
    "change, said",
    [
        ("style=refindoor", "its style was default, now refindoor"),
        ("decoding.max_new_tokens=7", "decoding.max_new_tokens was None, now 7"),
        ("decoding.temperature=0.5", "decoding.temperature was 0.0, now 0.5"),
        ("model.coordinates=unit", "'A' with other weights or settings"),
    ],
)
def test_another_way_of_asking_is_another_evaluation(benchmark, tmp_path, change, said):
    answered(benchmark, tmp_path / "run")
    before = content(tmp_path / "run")
    with pytest.raises(RecipeError, match=said):
        answered(benchmark, tmp_path / "run", change)
    assert content(tmp_path / "run") == before


def test_another_file_of_the_same_name_is_another_evaluation(benchmark, tmp_path):
    answered(benchmark, tmp_path / "run")
    records = [record | {"id": f"other-{record['id']}"} for record in json.loads(benchmark.file.read_text())]
    other = tmp_path / "droid" / benchmark.file.name
    other.parent.mkdir()
    other.write_text(json.dumps(records))
    with pytest.raises(RecipeError, match=f"its 4 questions were {benchmark.file}.*now 4 of {other}"):
        answered(benchmark, tmp_path / "run", f"data.file={other}")


def test_the_same_questions_with_other_references_are_another_evaluation(benchmark, tmp_path):
    # The three format folders of the published data hold files of one name and of the same ids.
    answered(benchmark, tmp_path / "run")
    records = json.loads(benchmark.file.read_text())
    moved = [record | {"ground_truth": '{"current_bbox": [[1, 2], [3, 4]]}'} for record in records]
    other = tmp_path / "llava_format" / benchmark.file.name
    other.parent.mkdir()
    other.write_text(json.dumps(moved))
    with pytest.raises(RecipeError, match="another evaluation"):
        answered(benchmark, tmp_path / "run", f"data.file={other}")


def test_more_questions_are_the_same_evaluation(benchmark, tmp_path):
    answered(benchmark, tmp_path / "run", "limit=2")
    assert answered(benchmark, tmp_path / "run").reused == 2
    assert answered(benchmark, tmp_path / "run", "limit=3").reused == 3


def test_a_moved_file_is_the_same_evaluation(benchmark, tmp_path):
    answered(benchmark, tmp_path / "run")
    moved = benchmark.file.rename(tmp_path / "questions.json")
    assert answered(benchmark, tmp_path / "run", f"data.file={moved}").reused == 4


def test_a_corrected_record_is_the_same_evaluation_and_asked_again(benchmark, tmp_path):
    answered(benchmark, tmp_path / "run")
    records = json.loads(benchmark.file.read_text())
    records[1]["question"] = "<image>\nWhere is object 2?"
    benchmark.file.write_text(json.dumps(records))
    assert answered(benchmark, tmp_path / "run").reused == 3


def test_a_file_with_other_content_under_the_same_path_is_another_evaluation(benchmark, tmp_path):
    # A data build writes its files again under their old names: other ids, other pictures, or other references.
    first = json.loads(benchmark.file.read_text())
    answered(benchmark, tmp_path / "run")
    before = content(tmp_path / "run")
    moved = '{"current_bbox": [[1, 2], [3, 4]]}'
    for records in (
        [record | {"id": f"new-{record['id']}"} for record in first],
        [record | {"ground_truth": moved} for record in first],
    ):
        benchmark.file.write_text(json.dumps(records))
        with pytest.raises(
            RecipeError, match="the file or its pictures have changed since: none of its 4 questions is asked now"
        ):
            answered(benchmark, tmp_path / "run")
    assert content(tmp_path / "run") == before


def test_the_same_names_of_other_pictures_are_another_evaluation(benchmark, tmp_path):
    answered(benchmark, tmp_path / "run")
    before = content(tmp_path / "run")
    other = make_benchmark(tmp_path / "other", count=4)
    for number, image in enumerate(sorted(other.images.iterdir())):
        Image.new("RGB", SIZE, (number, 0, 0)).save(image)
    with pytest.raises(RecipeError, match="none of its 4 questions is asked now"):
        answered(benchmark, tmp_path / "run", f"data.image_dir={other.images}")
    assert content(tmp_path / "run") == before


def test_moved_pictures_are_the_same_evaluation(benchmark, tmp_path):
    answered(benchmark, tmp_path / "run")
    moved = benchmark.images.rename(tmp_path / "moved")
    assert answered(benchmark, tmp_path / "run", f"data.image_dir={moved}").reused == 4


@pytest.mark.parametrize("change, gone", [("limit=1", 3), ("file", 1)])
def test_a_report_that_gets_smaller_or_another_says_of_how_many(benchmark, tmp_path, caplog, change, gone):
    answered(benchmark, tmp_path / "run")
    if change == "file":
        records = json.loads(benchmark.file.read_text())
        records[1]["question"] = "<image>\nWhere is object 2?"
        benchmark.file.write_text(json.dumps(records))
        change = "limit=4"
    answered(benchmark, tmp_path / "run", change)
    assert f"{gone} of 4 questions of the earlier call are not asked now or have another reference" in caplog.text


def test_a_run_without_an_answer_may_be_begun_otherwise(tmp_path):
    silent = make_benchmark(tmp_path / "silent", count=2)
    records = [record | {"w": 196, "h": 112} for record in json.loads(silent.file.read_text())]
    silent.file.write_text(json.dumps(records))
    for image in silent.images.iterdir():
        image.unlink()
    answered(silent, tmp_path / "run", "max_error_rate=1")
    assert answered(silent, tmp_path / "run", "style=refindoor").reused == 0


def test_a_damaged_list_of_questions_is_written_anew(benchmark, tmp_path):
    answered(benchmark, tmp_path / "run")
    (tmp_path / "run" / "requested.json").write_text("{")
    assert answered(benchmark, tmp_path / "run").reused == 4


@pytest.mark.slow
def test_processes_refuse_another_evaluation_and_leave_its_recipe(benchmark, tmp_path):
    recipe = load_recipe(EvaluationRecipe, None, benchmark.overrides(tmp_path / "run"))
    predict_in_shards(recipe, 2)
    before = content(tmp_path / "run")
    other = load_recipe(EvaluationRecipe, None, [*benchmark.overrides(tmp_path / "run"), "style=refindoor"])
    with pytest.raises(RecipeError, match="its style was default, now refindoor"):
        predict_in_shards(other, 2)
    assert content(tmp_path / "run") == before


def test_the_scores_of_another_prediction_file_are_not_overwritten(tmp_path, capsys):
    answer = {"id": "a", "pred": "[72, 102, 192, 179]", "gt": "[[70, 100], [190, 180]]", "image_size": [320, 180]}
    first, second = (tmp_path / name / "eval_details_current_box.json" for name in ("A", "B"))
    for number, file in enumerate((first, second)):
        file.parent.mkdir()
        file.write_text(json.dumps([answer | {"id": f"q{number}"}]))
    flags = ["--kind", "current_box", "--coordinates", "pixel", "--out", str(tmp_path / "scores")]
    assert run(["score", str(first), *flags]) == 0
    before = content(tmp_path / "scores")
    capsys.readouterr()
    assert run(["score", str(second), *flags]) == 2
    assert f"holds the scores of {first}, and this is {second}" in capsys.readouterr().err
    assert content(tmp_path / "scores") == before
    # The same file read otherwise is what one does to find out what its numbers mean.
    flags[flags.index("pixel")] = "per_mille"
    assert run(["score", str(first), *flags]) == 0
