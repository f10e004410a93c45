"""`robointer score FILE` and `robointer data coordinates FILE`."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from robointervlm.cli.main import run

BOX = "[[20, 20], [60, 60]]"


@pytest.fixture
def file(tmp_path):
    """Six answers in thousandths of 200 x 100 pictures, with references in pixels; the last is prose."""
    (tmp_path / "pictures").mkdir()
    records = []
    for number in range(7):
        Image.new("RGB", (200, 100), (90, 90, 90)).save(tmp_path / "pictures" / f"{number}.png")
        pred = "[100, 200, 300, 600]" if number < 6 else "I cannot see it."
        records.append({"id": f"a/{number}", "pred": pred, "gt": BOX, "image_path": f"{number}.png"})
    path = tmp_path / "eval_details_current_box.json"
    path.write_text(json.dumps(records))
    return path


def flags(file, *more):
    return [str(file), "--kind", "current_box", "--image-dir", str(file.parent / "pictures"), *more]


def test_a_file_is_scored_into_a_run_folder(file, tmp_path, capsys):
    out = tmp_path / "out"
    command = ["score", *flags(file, "--coordinates", "per_mille", "--gt-coordinates", "pixel", "--out", str(out))]
    assert run(command) == 0
    table = capsys.readouterr().out
    assert "eval_details_current_box: 7 questions: 6 ok, 1 unparsable" in table
    samples = [json.loads(line) for line in (out / "samples.jsonl").read_text().splitlines()]
    assert [(sample["id"], sample["status"]) for sample in samples][-2:] == [("a/5", "ok"), ("a/6", "unparsable")]
    assert {"id", "status", "tier", "strict"} <= set(samples[0])
    report = json.loads((out / "report.json").read_text())
    assert report["tasks"][0]["metrics"][0]["mean"] == pytest.approx(6 / 7)
    assert (out / "report.html").read_text().count("data:image") > 0
    # Scoring the folder again needs the file no more.
    file.unlink()
    assert run(["score", str(out)]) == 0
    assert "7 questions: 6 ok" in capsys.readouterr().out


def test_the_size_may_be_given_for_all(file, tmp_path, capsys):
    arguments = [str(file), "--kind", "box", "--coordinates", "per_mille", "--gt-coordinates", "pixel"]
    assert run(["score", *arguments, "--image-size", "200x100", "--out", str(tmp_path / "out")]) == 0
    assert "7 questions: 6 ok, 1 unparsable" in capsys.readouterr().out


@pytest.mark.parametrize(
    "more, code, said",
    [
        ([], 2, "is a file: score one at a time and say what is in it"),
        (["--kind", "box", "--out", "x"], 2, "--coordinates pixel, unit, per_mille or resized"),
        (["--kind", "boxx", "--coordinates", "pixel", "--out", "x"], 2, "--kind boxx"),
        (["--kind", "box", "--coordinates", "metres", "--out", "x"], 2, "coordinate format 'metres' is not known"),
        (["--kind", "traj", "--coordinates", "unit", "--out", "x"], 3, "--image-size WxH"),
        (["--kind", "box", "--coordinates", "unit", "--out", "x", "--image-size", "big"], 2, "write it as 640x480"),
        (["--kind", "box", "--coordinates", "unit", "--out", "x", "--image-dir", "none"], 3, "is no folder"),
        (["--kind", "box", "--coordinates", "unit", "--out", "x", "--resize-limits", "5"], 2, "3136,1003520"),
        (["--kind", "box", "--coordinates", "unit", "--out", "x", "--gt-box", "cxcy"], 2, "xywh or xyxy"),
    ],
)
def test_what_is_not_declared_or_means_nothing_is_one_clear_line(more, code, said, file, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(["score", str(file), *more]) == code
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_a_file_that_is_not_there_is_said(tmp_path, capsys):
    command = ["score", str(tmp_path / "no.json"), "--kind", "box", "--coordinates", "unit", "--out", str(tmp_path)]
    assert run(command) == 3
    assert "no.json cannot be read" in capsys.readouterr().err


def test_flags_of_a_file_are_refused_for_a_run_folder(tmp_path, capsys):
    assert run(["score", str(tmp_path), "--kind", "box"]) == 2
    assert "--kind is for one file of predictions" in capsys.readouterr().err


def test_the_diagnostic_shows_every_hypothesis_and_chooses_none(file, tmp_path, capsys):
    out = tmp_path / "look"
    assert run(["data", "coordinates", *flags(file, "--gt-coordinates", "pixel", "--out", str(out))]) == 0
    said = capsys.readouterr().out
    assert "numbers of 6 predictions (smallest … median … largest): x 100 … 200 … 300, y 200 … 400 … 600" in said
    assert "numbers of 7 references (smallest … median … largest): x 20 … 40 … 60, y 20 … 40 … 60" in said
    assert "This is a diagnostic. It chooses nothing" in said
    found = json.loads((out / "coordinates.json").read_text())["hypotheses"]
    accuracy = {each["coordinates"]: each["tasks"][0]["metrics"][0]["mean"] for each in found}
    assert accuracy == {"pixel": 0, "unit": 0, "per_mille": pytest.approx(6 / 7), "resized": 0}
    assert [(each["tasks"][0]["n"], each["tasks"][0]["unparsed"]) for each in found] == [(7, 1)] * 4
    assert {each["coordinates"]: each["inside"] for each in found}["per_mille"] == 1
    for name in ("pixel", "unit", "per_mille", "resized"):
        assert len(list((out / "overlays" / name).glob("*.png"))) == 5
    drawn = Image.open(out / "overlays" / "per_mille" / "0-a_0.png").convert("RGB")
    assert drawn.getpixel((20, 40)) == (255, 109, 31)
    assert not (tmp_path / "requested.json").exists()


def test_without_declared_references_every_pair_of_formats_is_shown(file, capsys):
    assert run(["data", "coordinates", *flags(file)]) == 0
    table = capsys.readouterr().out
    assert table.count("current_box") == 16


def test_a_kind_without_places_has_no_coordinates_to_look_at(tmp_path, capsys):
    file = tmp_path / "p.json"
    file.write_text(json.dumps([{"id": 1, "pred": "Yes", "gt": "No"}]))
    assert run(["data", "coordinates", str(file), "--kind", "decide"]) == 2
    assert "is not about places" in capsys.readouterr().err
