"""What the documented evaluation scripts leave: nothing of one evaluation is ever lost to another."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from test_evaluation_scripts import EVAL, run

from robointervlm.cli.main import run as robointer
from robointervlm.compat.baselines import evaluate_baseline
from robointervlm.compat.results import Evaluation
from robointervlm.compat.scores import score_generation
from robointervlm.compat.scripts import evaluate
from scripted_benchmark import ROOT, make_benchmark, make_model


def planning_files(folder: Path) -> list[Path]:
    """The three published planning files, which all have one name."""
    files = []
    kinds = (
        ("planning", "Planning_Task", "open the drawer"),
        ("choice", "Scene_Understanding", "B"),
        ("decide", "Success_Negative_Task", "yes"),
    )
    for place, kind, answer in kinds:
        file = folder / place / "task_planning.json"
        file.parent.mkdir(parents=True)
        records = [
            {"id": f"{kind}_{number}", "question": f"{place} {number}?", "ground_truth": answer} for number in range(2)
        ]
        file.write_text(json.dumps(records))
        files.append(file)
    return files


def trained_model(run_folder: Path, answer: str) -> Path:
    """A scripted model where a training would leave it: in a folder called `model`."""
    return make_model(run_folder / "model", {}, constant=answer)


@pytest.mark.slow
def test_three_files_of_one_name_and_two_models_called_model_give_six_results_and_six_logs(tmp_path, capsys):
    files = planning_files(tmp_path / "data")
    models = [trained_model(tmp_path / name, answer) for name, answer in (("A", "yes"), ("B", "no"))]
    done = run(
        ["bash", "eval_lang.sh"],
        cwd=EVAL / "scripts",
        MODEL_PATHS=",".join(map(str, models)),
        JSON_PATHS=",".join(map(str, files)),
        TYPES="qa",
        IMAGE_DIRS=tmp_path,
        OUTPUT_DIR=tmp_path / "results",
        LOG_DIR=tmp_path / "logs",
    )
    assert done.returncode == 0, done.stderr
    runs = sorted(path.parent for path in (tmp_path / "results").glob("*/*/report.json"))
    assert [path.parent.name for path in runs] == ["A", "A", "A", "B", "B", "B"]
    assert sorted(path.name.rpartition("-")[0] for path in runs[:3]) == [
        "qa-choice-task_planning-default",
        "qa-decide-task_planning-default",
        "qa-planning-task_planning-default",
    ]
    logs = sorted(path.name for path in (tmp_path / "logs").iterdir())
    assert logs == sorted(
        [*(f"{path.parent.name}_{path.name}.log" for path in runs), "A_qa.log", "B_qa.log"]
    )  # the documented names are copies of the newest of their kind
    for path in runs:
        log = (tmp_path / "logs" / f"{path.parent.name}_{path.name}.log").read_text()
        assert log.startswith(f"model: {path.parent.name}\n")
        assert f"\nresults: {path}\n" in log
    decide = [path for path in runs if "decide" in path.name]
    newest = (tmp_path / "logs" / "A_qa.log").read_text()
    assert newest == (tmp_path / "logs" / f"A_{decide[0].name}.log").read_text()
    # Named by their runs wherever they are put side by side.
    capsys.readouterr()
    assert robointer(["compare", str(decide[0]), str(decide[1])]) == 0
    assert "first: A\nsecond: B\n" in capsys.readouterr().out
    assert robointer(["report", str(decide[0]), str(decide[1]), "--table", "paper"]) == 0
    table = capsys.readouterr().out
    assert "| A |" in table
    assert "| B |" in table


@pytest.fixture(scope="module")
def boxes(tmp_path_factory):
    return make_benchmark(tmp_path_factory.mktemp("boxes"), task="current_box", count=10)


def flags_of(boxes, tmp_path: Path, **changed: str) -> list[str]:
    flags = {
        "model_path": str(boxes.model),
        "json_path": str(boxes.file),
        "image_dir": str(boxes.images),
        "type": "current_box",
        "results_dir": str(tmp_path / "results"),
        "log_dir": str(tmp_path / "logs"),
        "max_error_rate": "1",
    }
    return [part for name, value in (flags | changed).items() for part in (f"--{name}", value)]


@pytest.mark.parametrize(
    "changed",
    [
        {"question_type": "refindoor"},
        {"coordinates": "per_mille"},
        {"max_new_tokens": "7"},
        {"type": "bbox"},
        {"model_name": "another"},
    ],
)
def test_what_decides_the_answers_tells_two_evaluations_apart(boxes, tmp_path, changed):
    for each in ({}, changed):
        assert evaluate(flags_of(boxes, tmp_path, **each), EVAL, language=False) == 0
    assert len(list((tmp_path / "results").glob("*/*/report.json"))) == 2
    assert (
        len(list((tmp_path / "logs").glob("*default-*.log"))) + len(list((tmp_path / "logs").glob("*refindoor-*.log")))
        == 2
    )


def test_the_same_command_goes_on_in_its_folder(boxes, tmp_path, capsys):
    for batch in ("16", "3"):
        assert evaluate(flags_of(boxes, tmp_path, batch_size=batch), EVAL, language=False) == 0
    assert len(list((tmp_path / "results").glob("*/*/report.json"))) == 1
    assert "10 of 10 questions were answered by an earlier run" in capsys.readouterr().err


def test_an_output_dir_with_another_evaluation_is_refused_and_its_log_stays(boxes, tmp_path, capsys):
    where = {"output_dir": str(tmp_path / "out")}
    assert evaluate(flags_of(boxes, tmp_path, **where), EVAL, language=False) == 0
    log = (tmp_path / "logs" / "model-current_box_current_box.log").read_text()
    refused = flags_of(boxes, tmp_path, question_type="refindoor", **where)
    assert evaluate(refused, EVAL, language=False) == 2
    assert "holds another evaluation: its style was default, now refindoor" in capsys.readouterr().err
    assert (tmp_path / "logs" / "model-current_box_current_box.log").read_text() == log
    assert len(list((tmp_path / "logs").iterdir())) == 2


def test_the_given_name_is_the_one_in_report_log_and_folder(boxes, tmp_path):
    assert evaluate(flags_of(boxes, tmp_path, model_name="my/model 1"), EVAL, language=False) == 0
    [report] = (tmp_path / "results").glob("my_model_1/*/report.json")
    assert json.loads(report.read_text())["model"]["name"] == "my/model 1"
    assert (tmp_path / "logs" / "my_model_1_current_box.log").read_text().startswith("model: my/model 1\n")


def test_the_answers_of_the_main_evaluation_are_scored_by_eval_llava_format(boxes, tmp_path, capsys):
    # A scripted model that answers in pixels of the resized picture, as Qwen2.5-VL does, asked in a file of pixels.
    folder = tmp_path / "qwen" / "model"
    folder.mkdir(parents=True)
    config = json.loads((boxes.model / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"coordinates": "resized"}))
    (folder / "answers.json").write_bytes((boxes.model / "answers.json").read_bytes())
    assert evaluate(flags_of(boxes, tmp_path, model_path=str(folder)), EVAL, language=False) == 0
    results = tmp_path / "results" / "qwen"
    [own] = results.glob("*/eval_details_current_box.json")
    details = json.loads(own.read_text())
    assert len(details) == 10
    assert sorted(details[0]) == ["gt", "id", "image_path", "image_size", "pred", "processed_size", "prompt"]
    assert (results / "eval_details_current_box.json").read_bytes() == own.read_bytes()
    asked = ["--root", str(tmp_path / "results"), "--model", "qwen", "--coordinates", "resized"]
    assert score_generation([*asked, "--gt_coordinates", "pixel"]) == 0
    ours = json.loads((own.parent / "report.json").read_text())["tasks"][0]["metrics"]
    theirs = json.loads((results / "scores" / "current_box" / "report.json").read_text())["tasks"][0]["metrics"]
    assert [(one["name"], one["mean"]) for one in theirs] == [(one["name"], one["mean"]) for one in ours]


def test_a_baseline_is_told_from_the_main_evaluation_of_the_same_model(tmp_path):
    evaluations = [
        Evaluation("m", "m", tmp_path / "q.json", "traj", "traj", "default", settings)
        for settings in ([], ["--family", "robobrain"], ["--family", "robobrain", "model.thinking=true"])
    ]
    assert len({each.label for each in evaluations}) == 3


def test_the_longest_names_are_evaluated_and_logged(boxes, tmp_path):
    # 255 bytes are the most that one name may have.
    file = tmp_path / ("d" * 255) / f"{'q' * 250}.json"
    file.parent.mkdir()
    shutil.copy(boxes.file, file)
    flags = flags_of(boxes, tmp_path, json_path=str(file), model_name="m" * 300)
    for kind in ("current_box", "bbox" * 60):
        assert evaluate([*flags, "--type", kind], EVAL, language=kind != "current_box") == 0
    assert len(list((tmp_path / "results").glob("*/*/report.json"))) == 2
    assert len(list((tmp_path / "logs").glob("*default-*.log"))) == 2
    assert len(list((tmp_path / "logs").iterdir())) == 4
    assert len(list((tmp_path / "results").glob("*/*/eval_details_*.json"))) == 2


def test_names_that_files_cannot_tell_apart_keep_folders_of_their_own(boxes, tmp_path):
    for name in ("A:1", "A/1", "模型一", "模型二"):
        assert evaluate(flags_of(boxes, tmp_path, model_name=name), EVAL, language=False) == 0
    reports = (json.loads(path.read_text()) for path in (tmp_path / "results").glob("*/*/report.json"))
    assert sorted(report["model"]["name"] for report in reports) == ["A/1", "A:1", "模型一", "模型二"]
    logs = [path.read_text().partition("\n")[0] for path in (tmp_path / "logs").glob("*default-*.log")]
    assert sorted(logs) == ["model: A/1", "model: A:1", "model: 模型一", "model: 模型二"]


def test_an_evaluation_whose_predict_fails_writes_no_log(boxes, tmp_path):
    flags = flags_of(boxes, tmp_path, question_type="qwen_groundin")
    assert evaluate(flags, EVAL, language=False) == 2
    assert not (tmp_path / "logs").exists()


def test_the_baseline_scripts_have_the_same_flags_for_what_they_write(capsys):
    for name in ("api", "internvl", "llava", "robobrain"):
        with pytest.raises(SystemExit):
            evaluate_baseline(["--help"], ROOT, name=name)
        said = capsys.readouterr().out
        assert "--results_dir" in said
        assert "--model_name" in said
