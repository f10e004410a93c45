"""The published arithmetic, and which of its faults changed a record. (Against the scorer itself: tests/golden.)"""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from published_measures import published_frechet, trajectory_metric
from robointervlm.evaluate.paper import (
    QUIRKS,
    PaperScore,
    paper_aggregate,
    paper_score,
    published_source,
    score_planning,
    score_record,
)

BOX = '{"current_bbox": [[10, 20], [110, 120]]}'
PATH = '{"future_traj": [[0, 0], [100, 0]]}'


def record(pred, gt, name="a", size=(640, 480)):
    return {"id": name, "pred": pred, "gt": gt, "image_size": size}


def box(pred, source="unknown", gt=BOX):
    return paper_score("current_box", record(pred, gt), source)


def path(pred, gt=PATH):
    return paper_score("traj", record(pred, gt), "unknown")


def letter(pred, gt):
    return paper_score("traj_choice", record(pred, gt), "qwen")


def plan(name, pred, gt):
    return paper_score("planning", record(pred, gt, name), "qwen")


# --- boxes ---------------------------------------------------------------------------------------------------------


def test_a_box_is_scored_and_counted():
    # 50 x 100 of 150 x 100 are shared.
    assert box("[[60.0, 20], [160, 120]]") == PaperScore({"IoU": pytest.approx(1 / 3), "ACC@IoU>0.1": 1}, counted=True)


def test_whole_numbers_are_cut_off_when_they_are_converted():
    # The picture is taken to be 644 x 476: 10 * 640 / 644 = 9.94 becomes 9, 20 * 480 / 476 = 20.17 becomes 20 …
    scored = box(BOX, "qwen")
    assert 0.95 < scored.values["IoU"] < 1
    assert scored.quirks == ("integers cut off",)


def test_the_same_box_with_decimals_is_perfect_and_has_no_quirk():
    assert box("[[10.0, 20.0], [110.0, 120.0]]", "qwen") == PaperScore(
        {"IoU": pytest.approx(1), "ACC@IoU>0.1": 1}, counted=True
    )


@pytest.mark.parametrize(
    "pred, quirk",
    [
        ("the 2 boxes: [[10.0, 20.0], [110.0, 120.0]]", "digits of the text are coordinates"),
        ("[[-10.0, 20.0], [110.0, 120.0]]", "minus signs lost"),
        ("[[110.0, 120.0], [10.0, 20.0]]", "swapped corners overlap nothing"),
    ],
)
def test_what_changed_a_box_is_named(pred, quirk):
    assert box(pred).quirks == (quirk,)


def test_a_quirk_that_changed_nothing_is_not_named():
    # The digits are misread, but the box is nowhere near either way.
    assert box("the 2 boxes: [[400.0, 400.0], [500.0, 450.0]]") == PaperScore(
        {"IoU": 0, "ACC@IoU>0.1": 0}, counted=True
    )


@pytest.mark.parametrize("pred, gt, error", [(None, BOX, "TypeError"), ("[1, 2, 3, 4]", "nowhere", "IndexError")])
def test_a_record_that_stops_the_published_scorer_is_an_error_and_not_counted(pred, gt, error):
    assert box(pred, gt=gt) == PaperScore(quirks=("a record stops the file",), error=error)


def test_a_picture_too_small_to_resize_stops_it_too():
    assert paper_score("current_box", record(BOX, BOX, size=(20, 20)), "qwen").error == "ValueError"
    assert paper_score("current_box", record(BOX, BOX, size=(20, 20)), "llava").error == ""


# --- paths ---------------------------------------------------------------------------------------------------------


def test_a_path_is_scored_by_its_distance_in_pixels():
    assert path("[[3, 4], [103, 4]]") == PaperScore({"DTW": 10}, counted=True)


@pytest.mark.parametrize(
    "pred, quirk",
    [("to the cup", "an unreadable path is left out"), ("[[0, 0], [100, 0]]", "a perfect path is left out")],
)
def test_a_distance_of_zero_is_not_counted_whatever_it_means(pred, quirk):
    assert path(pred) == PaperScore({"DTW": 0}, counted=False, quirks=(quirk,))


@pytest.mark.parametrize(
    "pred, quirks",
    [
        ("The 2 points are [[0, 0], [100, 0]]", ("digits of the text are coordinates",)),
        ("1. [0, 0]\n2. [100, 0]", ("list numbers are coordinates",)),
        ("[[-3, 0], [100, 0]]", ()),  # as far off with the sign as without it
        ("[[-3, 4], [-100, 0]]", ("minus signs lost",)),
        ("0, 0, 50, 100, 0", ("an odd number is dropped",)),
    ],
)
def test_what_changed_a_path_is_named(pred, quirks):
    assert path(pred).quirks == quirks


# --- letters and plans ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "pred, gt, value, quirks",
    [
        ("B", "B", 1, ()),
        ("A", "B", 0, ()),
        ("", "B", 1, ("an empty answer is correct",)),
        ("Both", "B", 1, ("the reference inside other words is correct",)),
        ("b", "B", 0, ("other wordings are wrong",)),
        ("B. " + "The gripper is open. " * 10, "B", 0, ("other wordings are wrong",)),
    ],
)
def test_letters_are_looked_for_as_pieces_of_text(pred, gt, value, quirks):
    assert letter(pred, gt) == PaperScore({"Accuracy": value}, counted=True, quirks=quirks)


def test_a_letter_of_the_reference_is_correct():
    scored = paper_score("contact_decide", record("e", "Yes"), "qwen")
    assert scored == PaperScore({"Accuracy": 1}, counted=True, quirks=("a part of the reference is correct",))


@pytest.mark.parametrize(
    "name, pred, gt, value, quirks",
    [
        ("Scene_Understanding", "D", "D", 1, ()),
        ("Scene_Understanding", "A\n", "D", 1, ("only the last line counts",)),
        ("Scene_Understanding", "", "D", 1, ("an empty answer is correct",)),
        ("Scene_Understanding", "C. a cold cup", "D", 1, ("the reference inside other words is correct",)),
        ("Success_Positive_Task", "No, that was yesterday", "yes", 1, ("yes and no inside other words count",)),
        ("Success_Positive_Task", "true", "yes", 0, ("other wordings are wrong",)),
    ],
)
def test_choices_and_decisions_are_scored_by_the_last_line(name, pred, gt, value, quirks):
    assert plan(name, pred, gt) == PaperScore({"Accuracy": value}, counted=True, quirks=quirks)


def test_a_plan_has_its_four_bleus_and_their_mean():
    scored = plan("Planning_Task_1", "pick up", "pick up")
    assert scored == PaperScore(dict.fromkeys(("BLEU", "BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4"), 1), counted=True)


def test_a_line_break_after_a_plan_and_a_double_space_in_it_are_named():
    assert plan("Planning_Task_1", "pick up\n", "pick up").quirks == ("only the last line counts",)
    assert plan("Planning_Task_1", "pick  up", "pick up").quirks == ("spaces are words",)


def test_an_id_of_no_known_kind_stops_the_file():
    assert plan("success_positive_task", "yes", "yes").error == "ValueError"


def test_tasks_that_the_release_does_not_score_have_no_published_value():
    assert paper_score("contact_point", record("[[1, 2], [3, 4]]", "[[1, 2], [3, 4]]"), "qwen") == PaperScore()


# --- aggregates ----------------------------------------------------------------------------------------------------


def test_the_aggregates_are_the_published_means():
    found = paper_aggregate(
        {
            "current_box": [box("[[10.0, 20], [110, 120]]"), box("none"), box(None)],
            "traj": [path("[[3, 4], [103, 4]]"), path("to the cup"), path("[[0, 0], [100, 0]]")],
            "traj_choice": [letter("B", "B"), letter("A", "B")],
            "planning": [plan("Planning_Task_1", "pick up", "pick up")],
            "grounding": [PaperScore()],
        }
    )
    assert found.tasks["current_box"] == {"IoU": 0.5, "ACC@IoU>0.1": 0.5}
    assert found.tasks["traj"] == {"DTW": 10}  # one answer of three
    assert found.tasks["traj_choice"] == {"Accuracy": 0.5}
    assert found.tasks["planning"]["BLEU"] == 1
    assert "grounding" not in found.tasks
    assert found.errors == {"current_box": 1, "traj": 0, "traj_choice": 0, "planning": 0, "grounding": 0}
    assert found.average == pytest.approx((0.5 + 10 + 0.5) / 3)  # planning is scored by another script


def test_without_any_score_there_is_no_average():
    assert paper_aggregate({"traj": [path("to the cup")]}).average is None


@pytest.mark.parametrize(
    "model, source",
    [
        ("internvl3-8b", "intern"),
        ("InternRobotics/llava", "intern"),
        ("RoboInter-VLM", "api"),
        ("Qwen2.5-VL-3B-Instruct", "api"),
        ("qwen25vl", "qwen"),
        ("robobrain2", "qwen"),
        ("RoboInter-VLM_qwenvl25_3b", "api"),
        ("llava-onevision", "llava"),
        ("gpt4o", "api"),
    ],
)
def test_the_units_are_guessed_from_the_models_name(model, source):
    assert published_source(model) == source


# --- what never happens --------------------------------------------------------------------------------------------


@given(
    st.text(max_size=60), st.sampled_from(["current_box", "traj", "traj_choice", "contact_decide", "planning_choice"])
)
def test_any_text_has_a_score_and_every_quirk_is_explained(text, task):
    gts = {"current_box": BOX, "traj": PATH, "contact_decide": "Yes"}
    name = "Scene_Understanding" if task == "planning_choice" else "a"
    scored = paper_score(task, record(text, gts.get(task, "B"), name), "qwen")
    assert scored.error == ""
    assert set(scored.quirks) <= set(QUIRKS)


@pytest.mark.parametrize(
    "text", ["9" * 2_000, " " * 65_536, "1" * 65_536, "[" * 65_536, "-1" * 30_000, "[[1,2],[" * 8_000, "1.1" * 20_000]
)
@pytest.mark.parametrize("kind", ["box", "traj", "decide"])
def test_a_hostile_answer_is_scored_in_time_linear_in_it(text, kind):
    start = time.process_time()
    score_record(record(text, "[1, 2, 3, 4]"), kind, "qwen")
    assert time.process_time() - start < 1  # usually a few milliseconds; quadratic patterns would take minutes


def test_numbers_too_long_for_a_float_are_an_error_and_not_a_value():
    assert path(f"[[{'9' * 400}, 1], [2, 3]]").values.get("DTW", 0) == 0
    assert box(f"[{'9' * 400}, 1, 2, 3]", "qwen") == PaperScore(
        quirks=("a record stops the file",), error="OverflowError"
    )


def test_a_recursion_error_costs_no_recursion():
    long = [[0, 0]] * 600
    start = time.process_time()
    with pytest.raises(RecursionError):
        published_frechet(long, long)
    assert time.process_time() - start < 0.1
    with pytest.raises(RecursionError):
        trajectory_metric(long, long)


def test_every_planning_record_is_scored_by_the_type_of_its_id():
    assert score_planning({"id": "7_Temporal_Understanding", "pred": "b", "gt": "B"}) == ("choice", 1.0, None)


plain_box = st.lists(st.integers(0, 400), min_size=4, max_size=4).map(
    lambda numbers: [[float(numbers[0]), numbers[1]], [numbers[2], numbers[3]]]
)


@given(plain_box, st.sampled_from(["qwen", "llava", "intern", "api", "unknown"]))
def test_a_plainly_written_answer_has_the_quirks_of_the_same_one_in_a_sentence(corners, source):
    plainly, in_words = box(f"{corners}", source), box(f"It is at {corners}.", source)
    assert plainly == in_words


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(0, 300)).map(list), min_size=1, max_size=4))
def test_a_plainly_written_path_has_the_quirks_of_the_same_one_in_a_sentence(points):
    assert path(f"{points}") == path(f"It moves along {points}.")
