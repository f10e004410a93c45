from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from robointervlm.cli.main import run

SHARED = Path(__file__).parents[2].parent / "shared" / "data"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with one picture and a file of one good and one bad record."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ROBOINTER_DATA", raising=False)
    Image.new("RGB", (320, 180)).save(tmp_path / "a.png")
    good = {
        "id": "good",
        "image_path": "a.png",
        "question": "Where?",
        "ground_truth": '{"current_bbox": [[1, 2], [3, 4]]}',
    }
    (tmp_path / "good.json").write_text(json.dumps([good]))
    (tmp_path / "bad.json").write_text(json.dumps([good, {**good, "id": "bad", "image_path": "none.png"}]))
    return tmp_path


def test_list_shows_every_dataset_and_whether_it_is_there(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = folder / "Generation/meta/train/sim/origin_format/full_single_multi_contact_obj_current_box_qa.json"
    file.parent.mkdir(parents=True)
    file.write_text("[]")
    assert run(["data", "list", "--root", str(folder), "--task", "current_box"]) == 0
    lines = {line.split("│")[1].strip(): line for line in capsys.readouterr().out.splitlines() if line.startswith("│")}
    assert "yes" in lines["sim_current_box_train"]
    assert "yes" not in lines["rh20t_vla_current_box_train"]


def test_list_works_without_a_data_root(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["data", "list"]) == 0
    assert "manipvqa_train" in capsys.readouterr().out


def test_show_prints_samples_in_pixels(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["data", "show", "good.json", "--task", "current_box", "-n", "1"]) == 0
    shown = capsys.readouterr().out
    assert "good  (task current_box, 320x180)" in shown
    assert '{"current_bbox": [[1, 2], [3, 4]]}' in shown


def test_check_of_a_good_file_answers_0(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["data", "check", "good.json", "--task", "current_box"]) == 0


def test_check_lists_file_record_and_reason_and_answers_3(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["data", "check", "bad.json", "--task", "current_box", "--json", "found/all.json"]) == 3
    out = capsys.readouterr().out
    assert all(text in out for text in ("bad.json", "record 1", "bad", "none.png cannot be opened"))
    problems = json.loads((folder / "found" / "all.json").read_text())[0]["problems"]
    assert [(problem["record"], problem["id"]) for problem in problems] == [(1, "bad")]


def test_a_dataset_that_is_not_there_does_not_keep_others_from_being_checked(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["manipvqa_train", "bad.json"]
    assert run(["data", "check", *names, "--root", ".", "--task", "current_box"]) == 3
    out = capsys.readouterr().out
    assert "no annotation file; looked for" in out
    assert "none.png cannot be opened" in out


@pytest.mark.parametrize(
    "arguments,code,said",
    [
        (["data", "check", "rh20t_vla_curent_box_train"], 2, "nearest: rh20t_vla_current_box_train"),
        (["data", "check", "manipvqa_train"], 2, "Set ROBOINTER_DATA"),
        (["data", "show", "manipvqa_train", "--root", "."], 3, "task_planning.json"),
        (["data", "check", "good.json"], 2, "its task must be given"),
        (["data", "check", "good.json", "--task", "curent_box"], 2, "nearest: current_box"),
        (["data", "check", "good.json", "--task", "traj", "--coordinates", "x"], 2, "is not known"),
        (["data", "check", "good.json", "--catalog", "none"], 2, "catalog 'none' does not exist"),
        (["data", "convert", "--annotations", "none.json", "--out", "out"], 3, "cannot be read"),
        (["data", "convert", "--from", "video", "--annotations", "good.json", "--out", "out"], 2, "is not known"),
        (["data", "build", "--source", "lab", "--out", "out"], 2, "is not known"),
        (["data", "build", "--size", "big", "--out", "out"], 2, "write it as 196x112"),
        (["data", "list", "--task", "curent_box"], 2, "no dataset asks the task"),
    ],
)
def test_an_error_is_one_line_with_its_exit_code(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, said: str
) -> None:
    assert run(arguments) == code
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert said in lines[0]


def test_convert_makes_datasets_that_check_and_show_know(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = {
        "image": "a.png",
        "instruction": "Lift the cup.",
        "pick_box": {"box": [1, 2, 30, 40]},
        "finger_centers": [[1, 2], [3, 4]],
        "gripper_fingers_box": [5, 6, 70, 80],
        "gripper_tip_mid": [9, 9],
        "future_tip_mid_10pts_stride8": [[1, 2], [3, 4]],
    }
    (folder / "rows.json").write_text(json.dumps([row]))
    assert run(["data", "convert", "--from", "frames", "--annotations", "rows.json", "--out", "made"]) == 0
    assert run(["data", "check", "frames_current_box_train", "frames_traj_train", "--catalog", "made"]) == 0
    assert run(["data", "show", "frames_gripper_det_train", "--catalog", "made"]) == 0
    assert '{"gripper_det_bbox": [[5, 6], [70, 80]]}' in capsys.readouterr().out


def test_convert_answers_3_if_a_row_was_left_out(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"image": "a.png", "pick_box": {"box": [1, 2, 30, 40]}}, {"image": "none.png"}]
    (folder / "rows.json").write_text(json.dumps(rows))
    assert run(["data", "convert", "--annotations", "rows.json", "--out", "made"]) == 3
    assert "rows.json, record 1: field 'image'" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["list", "show", "check", "convert", "build", "index"])
def test_every_command_explains_itself_with_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["data", command, "--help"]) == 0
    assert f"robointer data {command}" in " ".join(capsys.readouterr().out.replace("│", " ").split())


def test_stats_writes_a_page_and_the_figures(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["data", "stats", "good.json", "--task", "current_box", "--out", "found/stats.html"]) == 0
    assert "<svg" in (folder / "found" / "stats.html").read_text()
    figures = json.loads((folder / "found" / "stats.json").read_text())
    assert figures[0]["tasks"]["current_box"]["samples"] == figures[0]["records"]


def test_check_writes_every_problem_as_a_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["data", "check", "bad.json", "--task", "current_box", "--list", "found/all.jsonl"]) == 3
    lines = (folder / "found" / "all.jsonl").read_text().splitlines()
    assert [json.loads(line)["id"] for line in lines] == ["bad"]
    assert "problems by kind" in capsys.readouterr().out


def test_view_draws_the_answers_over_the_pictures(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["data", "view", "good.json", "--task", "current_box", "-n", "1", "--out", "found/view.html"]) == 0
    page = (folder / "found" / "view.html").read_text()
    assert "data:image/jpeg;base64," in page
    assert page.count('<g class="true"><g class="halo"><rect') == 1


def test_rewrite_writes_a_whole_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["data", "rewrite", "good.json", "found/unit.json", "--task", "current_box", "--to", "unit"]) == 0
    assert (
        run(["data", "check", "found/unit.json", "--task", "current_box", "--coordinates", "unit", "--image-dir", "."])
        == 0
    )


def test_rewrite_of_a_wrong_file_leaves_none(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "wrong.json").write_text("[7]")
    assert run(["data", "rewrite", "wrong.json", "unit.json", "--task", "current_box", "--to", "unit"]) == 3
    assert not list(folder.glob("*unit.json"))


def test_rewrite_writes_lines_for_ms_swift(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--task", "current_box", "--to", "unit", "--shape", "ms-swift"]
    assert run(["data", "rewrite", "good.json", "swift.jsonl", *arguments]) == 0
    [record] = [json.loads(line) for line in (folder / "swift.jsonl").read_text().splitlines()]
    # 1/320, 2/180, 3/320 and 4/180 with four decimals.
    assert record["objects"] == {"ref": [], "bbox": [[0.0031, 0.0111, 0.0094, 0.0222]], "bbox_type": "norm1"}
    checked = ["--task", "current_box", "--coordinates", "unit", "--image-dir", "."]
    assert run(["data", "check", "swift.jsonl", *checked]) == 0


def test_rewrite_of_a_shape_there_is_not_is_one_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--task", "current_box", "--to", "unit", "--shape", "coco"]
    assert run(["data", "rewrite", "good.json", "out.json", *arguments]) == 2
    assert "--shape coco is not known; one of: published, training" in capsys.readouterr().err
