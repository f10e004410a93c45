"""The published arithmetic beside ours, on runs of ours."""

from __future__ import annotations

import pytest

from robointervlm.evaluate.paper import PaperScore
from robointervlm.evaluate.paper.scores import paper_summary, published_score, quirk_counts
from robointervlm.evaluate.records import Requested
from robointervlm.evaluate.score import score_one

# 320x180, which Qwen2.5-VL resizes to 308x168: (80, 45) of the stored picture is (77, 42) there.
BOX = {"box": [80.0, 45.0, 160.0, 90.0]}


def asked(task="current_box", answer=BOX, raw='{"current_bbox": [[80, 45], [160, 90]]}'):
    return Requested("k", "droid_1", "d", task, "e", (), (320, 180), answer, raw)


def replied(text, status="ok", **changes):
    return {
        "key": "k", "status": status, "reply": text, "prompt": "Where?", "format": "resized",
        "image_size": [320, 180], "processed_size": [308, 168], **changes,
    }  # fmt: skip


def test_the_reference_is_handed_over_in_the_models_units():
    scored = score_one(asked(), replied("[77, 42, 154, 84]"))
    # Handed over in pixels it would be a box of another place, and the IoU less than 0.9.
    assert scored.values["IoU"] == 1
    assert scored.paper.values["IoU"] == 1
    assert scored.paper.quirks == ()


def test_integers_cut_off_are_a_named_quirk():
    # [[69, 95], [184, 167]] is [[71.7, 101.8], [191.2, 178.9]] in pixels; the release cuts its own answer off.
    answer = {"box": [69 * 320 / 308, 95 * 180 / 168, 184 * 320 / 308, 167 * 180 / 168]}
    scored = score_one(asked(answer=answer), replied('{"current_bbox": [[69, 95], [184, 167]]}'))
    assert scored.values["IoU"] == pytest.approx(1, abs=0.02)
    assert scored.paper.values["IoU"] < scored.values["IoU"]
    assert "integers cut off" in scored.paper.quirks


@pytest.mark.parametrize("status", ["model_error", "input_error", "refused"])
def test_an_answer_that_never_came_has_no_published_number(status):
    assert published_score(asked(), replied(None, status), None) is None
    assert score_one(asked(), None).paper is None


def test_an_empty_answer_is_a_failure_for_us_and_right_for_the_release():
    question = asked("grounding_choice", {"choice": "B"}, "B")
    scored = score_one(question, replied("", format=None, image_size=None, processed_size=None))
    assert (scored.status, scored.values) == ("unparsable", {})
    assert scored.paper.values == {"Accuracy": 1}
    assert scored.paper.quirks == ("an empty answer is correct",)


def test_an_imported_record_is_scored_as_it_was():
    foreign = {"id": "droid_1", "pred": "[77, 42, 154, 84]", "gt": "[77, 42, 154, 84]", "image_size": [320, 180]}
    scored = score_one(asked(), replied("[77, 42, 154, 84]", foreign=foreign, reference_format="resized"))
    assert scored.paper.values["IoU"] == 1


def test_an_imported_record_without_a_readable_reference_has_a_published_number_all_the_same():
    foreign = {"id": "droid_1", "pred": "[[1, 2]]", "gt": "nowhere", "image_size": [320, 180]}
    record = replied("[[1, 2]]", "input_error", foreign=foreign, reference_format="resized")
    scored = score_one(asked("traj", None, "nowhere"), record)
    assert (scored.status, scored.values) == ("input_error", {})
    assert (scored.paper.values, scored.paper.counted) == ({"DTW": 0}, False)


def test_the_published_mean_is_over_what_it_counts():
    scores = [PaperScore({"DTW": 0.0}, counted=False), PaperScore({"DTW": 8.0}, counted=True), None]
    assert paper_summary("DTW", scores) == {"mean": 8.0, "n": 1}
    assert paper_summary("Frechet", scores) is None


def test_quirks_are_counted_the_most_frequent_first():
    scores = [PaperScore(quirks=("b",)), PaperScore(quirks=("a", "b")), PaperScore(quirks=("c",)), None]
    assert list(quirk_counts(scores).items()) == [("b", 2), ("a", 1), ("c", 1)]
