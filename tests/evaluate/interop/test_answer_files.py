"""Prediction files of other tools, made runs of ours and scored. Pictures are 200 x 100 where nothing else is said."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from robointervlm.core.answer import Box
from robointervlm.core.coordinates import CoordinateFormat, ImageSize, Space, smart_resize
from robointervlm.core.errors import DataError, RecipeError
from robointervlm.core.reading import answer_from_json
from robointervlm.core.writing import write_answer
from robointervlm.evaluate.interop.answer_files import Declared, import_predictions, imported_from
from robointervlm.evaluate.interop.answer_records import FieldNames
from robointervlm.evaluate.score import score

PIXEL, UNIT, PER_MILLE, RESIZED = CoordinateFormat
BOX = '{"current_bbox": [[20, 20], [60, 60]]}'


def write(folder, records, *, lines=False):
    file = folder / ("predictions.jsonl" if lines else "predictions.json")
    text = "".join(json.dumps(record) + "\n" for record in records) if lines else json.dumps(records)
    file.write_text(text, encoding="utf-8")
    return file


def scored(folder, records, declared, *, lines=False):
    """The samples that scoring the file writes."""
    import_predictions(write(folder, records, lines=lines), folder / "run", declared)
    score(folder / "run")
    return [json.loads(line) for line in (folder / "run" / "samples.jsonl").read_text().splitlines()]


def record(**changes):
    return {"id": "a", "pred": BOX, "gt": BOX, "image_size": [200, 100]} | changes


def test_the_published_details_are_scored(tmp_path):
    wrong = record(id="b", pred='{"current_bbox": [[100, 20], [140, 60]]}')
    [right, other] = scored(tmp_path, [record(), wrong], Declared("box", PIXEL))
    assert (right["id"], right["status"], right["tier"]) == ("a", "ok", "json")
    assert right["strict"] == {"ACC@IoU>0.1": 1.0, "ACC@IoU>0.5": 1.0, "IoU": 1.0}
    assert other["strict"]["IoU"] == 0


@pytest.mark.parametrize("lines", [False, True])
@pytest.mark.parametrize(
    "said",
    [
        {"id": 7, "prediction": "[20, 20, 60, 60]", "ground_truth": [20, 20, 60, 60]},
        {"id": 7, "prediction": [20, 20, 60, 60], "label": [[20, 20], [60, 60]]},
        {"question_id": 7, "response": "[20, 20, 60, 60]", "answer": "[20, 20, 60, 60]"},
        {"sample_id": 7, "pred_response": "[20, 20, 60, 60]", "gt_response": "[20, 20, 60, 60]"},
        {"id": 7, "answer": "[20, 20, 60, 60]", "target": [20, 20, 60, 60]},
        {"id": 7, "prediction": "it is <box>[20, 20, 60, 60]</box>", "gt_bbox": [20, 20, 40, 40]},
        {"id": 7, "prediction": [20, 20, 60, 60], "gt_bbox": [20, 20, 40, 40]},
        {"doc_id": 7, "target": "[20, 20, 60, 60]", "resps": [["[20, 20, 60, 60]"]], "doc": {"image_size": [200, 100]}},
        {"doc_id": 7, "doc": {"answer": [20, 20, 60, 60]}, "filtered_resps": ["[20, 20, 60, 60]"], "resps": [["no"]]},
    ],
)
def test_records_are_understood_under_the_names_that_tools_use(tmp_path, said, lines):
    size = {} if "doc" in said else {"image_size": [200, 100]}
    [sample] = scored(tmp_path, [said | size], Declared("box", PIXEL), lines=lines)
    assert (sample["id"], sample["strict"]["IoU"]) == ("7", 1.0)


def test_the_published_refcoco_aggregate_comes_out_of_raw_predictions(tmp_path):
    # IoU with the 40 x 40 box at (20, 20): the same; 20 px to the right: 800 of 2400; outside; nothing.
    predictions = [[20, 20, 60, 60], "[[40, 20], [80, 60]]", "(100, 20, 140, 60)", "I cannot see it."]
    records = [{"gt_bbox": [20, 20, 40, 40], "prediction": prediction} for prediction in predictions]
    samples = scored(tmp_path, records, Declared("refcoco", PIXEL))
    assert [sample["strict"].get("IoU") for sample in samples] == [1.0, pytest.approx(1 / 3), 0.0, None]
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    headline = report["tasks"][0]["metrics"][0]
    assert (headline["name"], headline["mean"], headline["n"]) == ("ACC@IoU>0.5", 0.25, 4)


def test_predictions_and_references_may_be_in_different_coordinates(tmp_path):
    declared = Declared("box", PER_MILLE, reference_coordinates=PIXEL)
    [sample] = scored(tmp_path, [record(pred="[100, 200, 300, 600]")], declared)
    assert sample["strict"]["IoU"] == pytest.approx(1)


def test_resized_coordinates_use_the_size_the_record_gives_else_the_processors(tmp_path):
    # 200 x 100 is resized to 196 x 112 by rounding to 28; the second record says 400 x 200.
    given = record(id="b", new_w=400, new_h=200, pred="[40, 40, 120, 120]")
    own = record(pred="[19.6, 22.4, 58.8, 67.2]")
    declared = Declared("box", RESIZED, reference_coordinates=PIXEL)
    assert [each["strict"]["IoU"] for each in scored(tmp_path, [own, given], declared)] == [pytest.approx(1)] * 2


@pytest.mark.parametrize(
    "fields", [{"w": 200, "h": 100}, {"width": 200, "height": 100}, {"hw": [100, 200]}, {"image_size": [200, 100]}]
)
def test_the_size_of_the_picture_is_taken_from_the_record(tmp_path, fields):
    imported = imported_from(write(tmp_path, [{"pred": BOX, "gt": BOX, **fields}]), Declared("box", UNIT))
    assert imported.requested.questions[0].image_size == ImageSize(200, 100)


def test_the_size_is_else_declared_else_the_pictures(tmp_path):
    Image.fromarray(np.zeros((100, 200, 3), np.uint8)).save(tmp_path / "1.png")
    file = write(tmp_path, [{"pred": BOX, "gt": BOX, "image_path": ["1.png"]}])
    for declared in (
        Declared("box", UNIT, image_size=ImageSize(200, 100)),
        Declared("box", UNIT, image_dir=tmp_path),
    ):
        assert imported_from(file, declared).requested.questions[0].image_size == ImageSize(200, 100)


def test_the_published_guess_of_the_size_is_made_only_on_request(tmp_path):
    records = [{"id": "RH20T_1", "pred": BOX, "gt": BOX}, {"id": "droid_1", "pred": BOX, "gt": BOX}]
    file = write(tmp_path, records)
    with pytest.raises(DataError, match=r"image_size.*--image-size WxH"):
        imported_from(file, Declared("box", RESIZED, reference_coordinates=PIXEL))
    questions = imported_from(file, Declared("box", RESIZED, image_size="published")).requested.questions
    assert [question.image_size for question in questions] == [(640, 480), (320, 180)]


@pytest.mark.parametrize("coordinates", list(CoordinateFormat))
def test_the_overlap_of_boxes_in_one_format_needs_no_size(tmp_path, coordinates):
    # 800 of 2400 common, whatever the units along each axis are.
    records = [{"id": "a", "pred": "[[40, 20], [80, 60]]", "gt": "[[20, 20], [60, 60]]"}]
    [sample] = scored(tmp_path, records, Declared("box", coordinates))
    assert sample["strict"]["IoU"] == pytest.approx(1 / 3, rel=1e-9)
    assert sample["image_size"] is None


def test_nothing_is_dropped_and_every_failure_has_a_reason(tmp_path):
    records = [
        record(id="good", pred="[20, 22, 59, 67]"),  # of 196 x 112
        record(id="none", pred=None),
        record(id="no gt", gt=None),
        record(id="bad gt", gt="no box"),
        {"id": "no size", "pred": BOX, "gt": BOX},
        record(id="prose", pred="I cannot see it."),
        "not a record",
    ]
    samples = scored(tmp_path, records, Declared("box", RESIZED, reference_coordinates=PIXEL))
    assert [(sample["id"], sample["status"]) for sample in samples] == [
        ("good", "ok"),
        ("none", "model_error"),
        ("no gt", "input_error"),
        ("bad gt", "input_error"),
        ("no size", "input_error"),
        ("prose", "unparsable"),
        ("record 6", "input_error"),
    ]
    assert all(sample["reason"] for sample in samples[1:])
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    # One right answer of seven records: the failures are in the denominator.
    assert report["tasks"][0]["metrics"][0]["mean"] == pytest.approx(1 / 7)


def test_a_line_that_is_no_json_is_counted(tmp_path):
    file = tmp_path / "predictions.jsonl"
    file.write_text(json.dumps(record()) + "\n{broken}\n" + json.dumps(record(id="b")) + "\n")
    imported = imported_from(file, Declared("box", PIXEL))
    assert [each["status"] for each in imported.records] == ["ok", "input_error", "ok"]
    assert "line 2" in imported.records[1]["reason"]


def test_records_of_one_id_are_each_scored_and_are_one_cluster(tmp_path):
    samples = scored(tmp_path, [record(), record(pred="no box"), record(id="b")], Declared("box", PIXEL))
    assert [sample["status"] for sample in samples] == ["ok", "unparsable", "ok"]
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert (report["tasks"][0]["n"], report["tasks"][0]["clusters"]) == (3, 2)
    assert imported_from(tmp_path / "predictions.json", Declared("box", PIXEL)).counts["same id"] == 1


def test_choices_and_decisions_are_told_apart_by_their_reference(tmp_path):
    records = [
        {"id": "1", "pred": "The answer is B.", "gt": "B"},
        {"id": "2", "pred": "No contact yet", "gt": "No"},
        {"id": "3", "pred": "Not sure", "gt": "No"},
    ]
    samples = scored(tmp_path, records, Declared("decide"))
    assert [(sample["task"], sample["strict"].get("Accuracy")) for sample in samples] == [
        ("any_choice", 1.0),
        ("any_decide", 1.0),
        ("any_decide", None),
    ]


def test_planning_questions_are_told_apart_by_their_id(tmp_path):
    records = [
        {"id": "x_Planning_Task_1", "pred": "pick up the cup", "gt": "pick up the cup"},
        {"id": "x_Success_(Negative)_Task_1", "pred": "no", "gt": "no"},
        {"id": "x_Scene_Understanding_1", "pred": "a", "gt": "A"},
    ]
    tasks = [sample["task"] for sample in scored(tmp_path, records, Declared("planning"))]
    assert tasks == ["planning", "planning_decide", "planning_choice"]


def test_a_whole_chat_is_read_after_its_last_turn(tmp_path):
    chat = f"system\nYou are helpful.\nuser\nFrom [1, 2, 3, 4], as [[x1, y1], [x2, y2]].\nassistant\n{BOX}"
    [sample] = scored(tmp_path, [record(pred=chat)], Declared("box", PIXEL))
    assert (sample["strict"]["IoU"], sample["notes"]) == (1.0, ["after an echoed prompt"])


def test_a_mask_may_be_the_reference(tmp_path):
    mask = np.zeros((100, 200), np.uint8)
    mask[:, 100:] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    records = [record(pred="[(0.75, 0.5), (0.25, 0.5)]", gt="mask.png")]
    [sample] = scored(tmp_path, records, Declared("where2place", UNIT, image_dir=tmp_path))
    assert sample["strict"] == {"Inside": 0.5, "First inside": 1.0}


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(CoordinateFormat),
    st.tuples(st.integers(200, 900), st.integers(200, 900)),
    st.tuples(st.integers(0, 90), st.integers(0, 90), st.integers(100, 190), st.integers(100, 190)),
)
def test_a_reference_written_in_any_format_is_itself_as_a_prediction(coordinates, size, corners):
    box, image = Box(*corners), ImageSize(*size)
    text = write_answer(box, Space(coordinates, image, smart_resize(image)), "current_bbox")
    with tempfile.TemporaryDirectory() as folder:
        file = write(Path(folder), [{"pred": text, "gt": text, "image_size": list(size)}])
        imported = imported_from(file, Declared("box", coordinates))
    [question] = imported.requested.questions
    assert question.image_size == image
    # Half a step of the format, in pixels: a unit format of two decimals has the largest, of a hundredth.
    step = {"pixel": 1, "unit": max(size) / 100, "per_mille": max(size) / 1000, "resized": 1.2}[coordinates.value]
    found = np.array(answer_from_json(question.answer).corners)
    assert np.abs(found - box.corners).max() <= step / 2 + 1e-6


def test_odd_field_names_can_be_given(tmp_path):
    names = FieldNames(prediction="guess", reference="truth", box="xywh")
    records = [{"guess": "[20, 20, 60, 60]", "truth": [20, 20, 40, 40], "pred": "x", "gt": "y"}]
    [sample] = scored(tmp_path, records, Declared("box", PIXEL, names=names))
    assert sample["strict"]["IoU"] == 1


def test_the_record_carries_what_the_published_arithmetic_needs(tmp_path):
    raw = {"id": None, "pred": None, "gt": BOX, "image_size": [200, 100]}
    imported = imported_from(write(tmp_path, [record(), raw]), Declared("box", PIXEL))
    assert imported.records[1]["foreign"] == raw | {"task": None}
    assert imported.requested.questions[1].raw_answer == BOX


@pytest.mark.parametrize(
    "records, declared, kind, said",
    [
        ([], Declared("box", PIXEL), DataError, "holds no records"),
        ([{"pred": BOX}], Declared("box", PIXEL), DataError, "none of the 1 records.*no reference"),
        ([record()], Declared("box"), RecipeError, "--coordinates pixel, unit, per_mille or resized"),
        ([record()], Declared("boxx", PIXEL), RecipeError, "--kind boxx.*Short names are box, traj"),
        ([{"id": 1, "pred": "[[1, 2]]", "gt": "[[1, 2]]"}], Declared("traj", PIXEL), DataError, "image_size"),
    ],
)
def test_what_cannot_be_scored_is_an_error_with_a_remedy(tmp_path, records, declared, kind, said):
    with pytest.raises(kind, match=said):
        imported_from(write(tmp_path, records), declared)


def test_another_run_is_not_overwritten_but_an_import_is(tmp_path):
    file = write(tmp_path, [record()])
    for _ in range(2):
        import_predictions(file, tmp_path / "run", Declared("box", PIXEL))
    requested = tmp_path / "run" / "requested.json"
    requested.write_text(requested.read_text().replace('"style": "imported"', '"style": "default"'))
    with pytest.raises(RecipeError, match="give --out another one"):
        import_predictions(file, tmp_path / "run", Declared("box", PIXEL))
