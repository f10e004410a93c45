"""The commands predict, score, report and infer, called in this process, with their exit codes."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from robointervlm.cli.main import run
from scripted_benchmark import make_benchmark


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory):
    return make_benchmark(tmp_path_factory.mktemp("cli"), count=4)


def test_predict_score_and_report(benchmark, tmp_path, capsys):
    out = tmp_path / "run"
    assert run(["predict", *benchmark.options(out), "--batch-size", "2"]) == 0
    table = capsys.readouterr().out
    assert "ACC@IoU>0.1" in table
    assert run(["score", str(out)]) == 0
    assert capsys.readouterr().out == table
    assert run(["report", str(out), "--examples", "1"]) == 0
    assert (out / "report.html").read_text().count("data:image") == 3


def test_the_written_recipe_repeats_the_run(benchmark, tmp_path, capsys):
    run(["predict", *benchmark.options(tmp_path / "a")])
    assert run(["predict", str(tmp_path / "a" / "recipe.yaml"), f"run.dir={tmp_path / 'b'}"]) == 0
    assert (tmp_path / "a" / "report.json").read_bytes() == (tmp_path / "b" / "report.json").read_bytes()


def test_failed_questions_exit_4_with_the_report_written(benchmark, tmp_path, capsys):
    records = json.loads(benchmark.file.read_text())
    records[0]["image_path"] = "none.png"
    (tmp_path / "bad.json").write_text(json.dumps(records))
    options = ["--model", str(benchmark.model), "--data", str(tmp_path / "bad.json"), "--task", "current_box"]
    more = ["--image-dir", str(benchmark.images), "--out", str(tmp_path / "run")]
    assert run(["predict", *options, *more]) == 4
    assert "1 input_error" in capsys.readouterr().err
    assert json.loads((tmp_path / "run" / "report.json").read_text())["statuses"]["input_error"] == 1
    assert run(["predict", *options, *more, "--max-error-rate", "0.5"]) == 0


QUESTIONS = ["--data", "q.json", "--model", "x", "--out", "y"]


@pytest.mark.parametrize(
    "arguments, code, said",
    [
        (["predict", "none.yaml"], 2, "recipe none.yaml does not exist"),
        (["predict", "model.path=x"], 2, "'data' is missing"),
        (["predict", "--data", "sim_grippr_det_val", "--model", "x", "--out", "y"], 2, "nearest: sim_gripper_det_val"),
        (
            ["predict", "--data", "q.json", "--model", "x", "--out", "y", "--task", "curent_box"],
            2,
            "nearest: current_box",
        ),
        (["predict", "--data", "q.json", "--model", "x", "--out", "y"], 2, "file needs a task"),
        (["predict", "--data", "q.json", "--model", "x", "--out", "y", "--task", "traj"], 3, "q.json does not exist"),
        (["predict", "batchsize=3"], 2, "nearest: batch_size"),
        (["predict", "--bach-size", "3"], 2, "--batch-size"),
        (["predikt"], 2, "predict"),
        (["score", "nowhere"], 3, "is not the folder of a prediction run"),
        (["report", "nowhere"], 3, "robointer score"),
        (["infer", "--model", "x", "--prompt", "y", "--images", "none.png"], 3, "cannot be opened"),
    ],
)
def test_what_goes_wrong_is_one_clear_line(arguments, code, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(arguments) == code
    error = capsys.readouterr().err
    assert said in error
    assert error.startswith("error: ")
    assert error.count("\n") == 1


def test_an_unset_data_root_says_what_to_set(capsys, tmp_path, monkeypatch):
    monkeypatch.delenv("ROBOINTER_DATA", raising=False)
    options = ["--data", "rh20t_vla_current_box_train", "--model", "x", "--out", str(tmp_path / "run")]
    assert run(["predict", *options]) in (2, 3)
    assert "ROBOINTER_DATA" in capsys.readouterr().err


def test_many_catalogued_names_are_not_taken_for_a_file(capsys, tmp_path):
    names = ",".join(["sim_gripper_det_val"] * 30)
    assert run(["predict", "--data", names, "--model", "x", "--out", str(tmp_path / "run")]) == 2
    assert "'sim_gripper_det_val' stands in the mixture twice" in capsys.readouterr().err


def test_a_bug_is_one_line_and_a_log(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("robointervlm.cli.evaluate.score_run", lambda folder: 1 / 0)
    assert run(["score", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert "This is a bug; the traceback is in " in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("command", ["predict", "score", "report", "infer"])
def test_help_teaches_with_an_example(command, capsys):
    assert run([command, "--help"]) == 0
    assert f"robointer {command} " in capsys.readouterr().out


def test_infer_reads_the_answer_and_draws_it(benchmark, tmp_path, capsys):
    picture, overlay = benchmark.images / "0000.png", tmp_path / "out" / "overlay.png"
    question = ["infer", "--model", str(benchmark.model), "--prompt", "Where is object 0?", "--images", str(picture)]
    assert run([*question, "--task", "current_box", "--overlay", str(overlay)]) == 0
    assert "current_box: (8, 10) (38, 32) px" in capsys.readouterr().out
    assert Image.open(overlay).convert("RGB").getpixel((8, 20)) == (255, 109, 31)


def test_infer_takes_several_pictures_after_one_flag(benchmark, capsys):
    pictures = [str(benchmark.images / f"000{number}.png") for number in range(3)]
    assert run(["infer", "--model", str(benchmark.model), "--prompt", "Where is object 0?", "--images", *pictures]) == 0
    assert run(["infer", "--model", str(benchmark.model), "--prompt", "<image> only?", "--images", *pictures]) == 2
    assert "1 <image> marker(s), but 3 picture(s)" in capsys.readouterr().err
