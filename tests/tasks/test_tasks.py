"""What is asked, and what it is scored by."""

import importlib
import math
import types
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import robointervlm.tasks as tasks_package
from robointervlm.core.answer import Answer, Box, Choice, Points, Text, Trajectory, Unparsed, YesNo
from robointervlm.core.coordinates import CoordinateFormat, ImageSize, Space
from robointervlm.core.errors import RecipeError
from robointervlm.tasks import Case, all_tasks, styled, task_for_stem, task_named

SIZE = ImageSize(320, 180)
PIXELS = Space.pixels(SIZE)
CHOICES = [
    "grasppose_choice",
    "grounding_choice",
    "traj_choice",
    "trajlang_choice",
    "trajlang_sub_choice",
    "traj_direction_choice",
    "traj_direction_choice_with_traj",
]
BOXES = ["contact_box", "current_box", "final_box", "gripper_det"]
PATHS = ["traj", "traj_wo_init_pos"]
PLANS = ["planning", "planning_choice", "planning_decide"]
THIRD_PARTY = ["refcoco", "refcoco_plus", "refcocog", "roborefit", "where2place", "robovqa"]


def test_every_published_task_is_known():
    assert {*BOXES, "contact_point", *PATHS, *CHOICES, "contact_decide", *PLANS, *THIRD_PARTY} <= set(all_tasks())


def test_a_file_that_defines_tasks_is_found_by_itself():
    files = [file.stem for file in Path(tasks_package.__file__).parent.glob("[!_]*.py")]
    modules = [importlib.import_module(f"robointervlm.tasks.{file}") for file in files]
    defined = [task for module in modules for task in getattr(module, "TASKS", ())]
    assert {task.name: task for task in defined} == all_tasks()


@pytest.mark.parametrize(
    "task, answer, text",
    [
        ("current_box", Box(10, 20, 30, 40), '{"current_bbox": [[10, 20], [30, 40]]}'),
        ("final_box", Box(10, 20, 30, 40), '{"final_bbox": [[10, 20], [30, 40]]}'),
        ("contact_box", Box(10, 20, 30, 40), '{"contact_bbox": [[10, 20], [30, 40]]}'),
        ("gripper_det", Box(10, 20, 30, 40), '{"gripper_det_bbox": [[10, 20], [30, 40]]}'),
        ("grounding", Box(10, 20, 30, 40), '{"bbox_2d": [[10, 20], [30, 40]]}'),
        ("contact_point", Points(((10, 20), (30, 40))), '{"contact_point": [[10, 20], [30, 40]]}'),
        ("traj", Trajectory(((10, 20), (30, 40))), '{"future_traj": [[10, 20], [30, 40]]}'),
        ("traj_wo_init_pos", Trajectory(((10, 20), (30, 40))), '{"future_traj": [[10, 20], [30, 40]]}'),
        *((name, Choice("C"), "C") for name in CHOICES),
        ("contact_decide", YesNo(yes=True), "Yes"),
        *((name, Text("1- pick up [3, 4]"), "1- pick up [3, 4]") for name in ["chat", *PLANS]),
    ],
)
def test_answers_are_written_under_the_published_keys_and_read_back(task, answer, text):
    assert task_named(task).write(answer, PIXELS) == text
    assert task_named(task).read(text, PIXELS) == answer


def test_the_tier_and_the_notes_come_with_a_reading():
    reading = task_named("current_box").reading("```\n[30, 40, 10, 20]\n```", PIXELS)
    assert (reading.answer, reading.tier, reading.notes) == (Box(10, 20, 30, 40), "fenced", ("corners swapped",))


@pytest.mark.parametrize("name", sorted(all_tasks()))
@given(text=st.one_of(st.just(""), st.just(" \n"), st.just("[]"), st.text(max_size=30)))
def test_every_task_reads_any_text(name, text):
    answer = task_named(name).read(text, Space(CoordinateFormat.UNIT, SIZE))
    assert isinstance(answer, Unparsed | Answer)
    if not text.strip():
        assert isinstance(answer, Unparsed)


@pytest.mark.parametrize(
    "stem, task",
    [
        ("full_single_multi_contact_obj_contact_box_qa", "contact_box"),
        ("full_single_multi_contact_obj_contact_point_qa", "contact_point"),
        ("full_single_multi_contact_obj_current_box_qa", "current_box"),
        ("full_single_multi_contact_obj_final_box_qa", "final_box"),
        ("full_single_multi_contact_obj_gripper_det_qa", "gripper_det"),
        ("full_single_multi_contact_obj_traj_qa", "traj"),
        ("full_single_multi_contact_obj_traj_qa_wo_init_pos", "traj_wo_init_pos"),
        ("contact_decide", "contact_decide"),
        ("rh20t_contact_decide", "contact_decide"),
        ("grasppose_choice", "grasppose_choice"),
        ("grasppose_choice_rh20t", "grasppose_choice"),
        ("trajlang_sub_choice_droid", "trajlang_sub_choice"),
        ("traj_direction_choice", "traj_direction_choice"),
        ("traj_direction_choice_droid_with_traj", "traj_direction_choice_with_traj"),
        ("task_planning", "planning"),
        ("all_plan_VQA", "planning"),
        ("full_single_multi_contact_obj_traj_qa.json", "traj"),
        # The short names of --type in the README.
        *((name, name) for name in [*BOXES, *PATHS]),
    ],
)
def test_a_published_annotation_file_names_its_task(stem, task):
    assert task_for_stem(stem).name == task


def test_no_two_tasks_share_a_stem():
    stems = [stem for task in all_tasks().values() for stem in {task.name, *task.file_stems}]
    assert len(stems) == len(set(stems))


def test_an_unknown_name_or_stem_is_told_the_nearest():
    with pytest.raises(RecipeError, match="current_box"):
        task_named("curent_box")
    with pytest.raises(RecipeError, match="traj_qa"):
        task_for_stem("full_single_multi_contact_obj_tray_qa")


def test_two_tasks_of_one_name_are_an_error_naming_both_files(monkeypatch):
    double = types.SimpleNamespace(TASKS=(task_named("chat"),))
    real = tasks_package.importlib.import_module
    monkeypatch.setattr(
        tasks_package.importlib, "import_module", lambda name: double if name.endswith(".decide") else real(name)
    )
    tasks_package._all_tasks.cache_clear()
    try:
        with pytest.raises(RecipeError, match=r"both chat\.py and decide\.py"):
            all_tasks()
    finally:
        tasks_package._all_tasks.cache_clear()


@pytest.mark.parametrize(
    "names, metrics",
    [
        ([*BOXES, "grounding"], ["ACC@IoU>0.1", "ACC@IoU>0.5", "IoU"]),
        (PATHS, ["DTW", "Frechet", "Hausdorff", "RMSE"]),
        (["contact_point"], ["Distance"]),
        ([*CHOICES, "contact_decide", "planning_choice", "planning_decide"], ["Accuracy"]),
        (["planning"], ["BLEU", "BLEU unsmoothed", "sacreBLEU"]),
        (["chat"], ["Exact"]),
    ],
)
def test_the_first_metric_is_the_headline_of_the_published_table(names, metrics):
    for name in names:
        assert [metric.name for metric in task_named(name).metrics] == metrics


def test_tasks_feed_the_columns_of_the_papers_table():
    visual = dict.fromkeys(CHOICES[2:], "Visual trace")
    columns = {task.name: task.column for task in all_tasks().values() if task.column and task.name not in THIRD_PARTY}
    assert columns == visual | {
        "current_box": "Object",
        "contact_box": "Grasp",
        "final_box": "Place",
        "gripper_det": "Gripper",
        "grasppose_choice": "Grasp pose",
        "grounding_choice": "Grounding choice",
        "contact_decide": "Contact",
        "traj": "Trace",
        "planning": "Planning BLEU",
        "planning_choice": "Planning choice",
        "planning_decide": "Planning T/F",
    }


def values(task, predicted, reference, image=SIZE):
    return {metric.name: metric.measure(predicted, reference, image) for metric in task_named(task).metrics}


def test_boxes_are_scored_by_their_overlap():
    assert values("current_box", Box(0, 0, 10, 10), Box(0, 0, 10, 10)) == {
        "ACC@IoU>0.1": 1,
        "ACC@IoU>0.5": 1,
        "IoU": 1,
    }
    assert values("final_box", Box(0, 0, 10, 10), Box(5, 0, 15, 10)) == {
        "ACC@IoU>0.1": 1,
        "ACC@IoU>0.5": 0,
        "IoU": pytest.approx(1 / 3),
    }


def test_trajectories_are_scored_in_pixels():
    assert values("traj", Trajectory(((3, 4), (103, 4))), Trajectory(((0, 0), (100, 0)))) == {
        "DTW": 10,
        "Frechet": 5,
        "Hausdorff": 5,
        "RMSE": 5,
    }


def test_a_missing_waypoint_costs_rmse_the_diagonal():
    scored = values("traj", Trajectory(((0, 0),)), Trajectory(((0, 0), (0, 0))), ImageSize(30, 40))
    assert scored["RMSE"] == pytest.approx(50 / math.sqrt(2))


def test_contact_points_letters_and_words_are_scored():
    assert values("contact_point", Points(((10, 0), (3, 4))), Points(((0, 0), (10, 0)))) == {"Distance": 2.5}
    assert values("traj_choice", Choice("A"), Choice("B")) == {"Accuracy": 0}
    assert values("contact_decide", YesNo(yes=False), YesNo(yes=False), None) == {"Accuracy": 1}
    assert values("chat", Text("a  b"), Text("a b"), None) == {"Exact": 1}


def test_a_failure_is_charged_the_worst_value_or_the_diagonal_for_each_waypoint():
    reference = Trajectory(((0, 0),) * 10)
    charges = {metric.name: metric.penalty(reference, ImageSize(30, 40)) for metric in task_named("traj").metrics}
    assert charges == {"DTW": 500, "Frechet": 50, "Hausdorff": 50, "RMSE": 50}
    contact = task_named("contact_point").metrics[0]
    assert contact.penalty(Points(((0, 0), (1, 1))), ImageSize(30, 40)) == 50


@pytest.mark.parametrize("task", all_tasks().values(), ids=lambda task: task.name)
def test_every_metric_says_what_a_failure_costs(task):
    for metric in task.metrics:
        assert (metric.worst is None) == (metric.penalty is not None)
        # A share of nothing is the worst there is; a distance has no worst, and less of it is better.
        assert (metric.unit, metric.worst, metric.better) in [("share", 0.0, "higher"), ("px", None, "lower")]


place = st.tuples(st.floats(0, 320), st.floats(0, 180))


@given(st.lists(place, min_size=2, max_size=10), st.lists(place, min_size=1, max_size=10))
def test_no_trajectory_is_better_than_the_right_one_and_none_in_the_picture_worse_than_failing(right, other):
    reference, predicted = Trajectory(tuple(right)), Trajectory(tuple(other))
    for metric in task_named("traj").metrics:
        assert metric.measure(reference, reference, SIZE) == 0
        assert metric.measure(predicted, reference, SIZE) >= 0
        if metric.name != "DTW":  # DTW grows with the waypoints of a prediction; its charge is capped instead
            assert metric.measure(predicted, reference, SIZE) <= metric.penalty(reference, SIZE) + 1e-9


def test_boxes_measured_together_have_the_values_they_have_alone():
    boxes = [Box(0, 0, 10, 10), Box(5, 0, 15, 10), Box(9, 9, 19, 19), Box(40, 40, 50, 50)]
    cases = [Case(box, boxes[0], SIZE) for box in boxes]
    # 50 of 150 pixels in common, then 1 of 199, then none.
    assert task_named("final_box").metrics[2].measure_many(cases) == [1, 1 / 3, 1 / 199, 0]
    for metric in task_named("final_box").metrics:
        assert metric.measure_many(cases) == [metric.measure(*case) for case in cases]


def test_only_questions_with_a_position_have_places():
    assert [task.name for task in all_tasks().values() if task.places_in_question] == [
        "traj_direction_choice_with_traj",
        "naming",
        "traj",
    ]


def test_styles_are_worded_as_published_with_the_images_in_front():
    question = "<image>\n<image>\nthe red cup"
    assert styled(question, "default") == question
    assert styled(question, "w2p") == question
    assert styled(question, "qwen_grounding") == (
        "<image>\n<image>\nPlease provide the bounding box coordinate of the region this sentence describes: "
        "<ref>the red cup</ref>"
    )
    assert styled("the red cup", "refindoor") == (
        "Give the box coordinates according to the instruction, Instruction: the red cup, output the bbox coordinates."
    )


def test_an_unknown_style_is_an_error_and_not_the_default():
    with pytest.raises(RecipeError, match="qwen_grounding"):
        styled("the red cup", "qwen-grounding")
