import re
from dataclasses import replace

import numpy as np
import pytest
from made_episodes import OBJECTS, PLACED, THINGS, numbered, view

from robointervlm.core.answer import Box, Points
from robointervlm.core.reading import options_in
from robointervlm.episodes.questions import ASKERS, drawing, questions_about
from robointervlm.episodes.questions.asking import letter
from robointervlm.episodes.questions.understanding import bent

COLOURS = ("red", "blue", "green", "yellow")
DRAWN = (
    "grounding_choice", "grasppose_choice", "traj_choice", "traj_direction_choice", "traj_direction_choice_with_traj",
    "trajlang_choice", "trajlang_sub_choice",
)  # fmt: skip


def made(episode, task):
    pictures = [f"frame{number}.png" for number in range(len(episode.frames))]
    return questions_about(episode, pictures, tasks=[task])


def candidates(monkeypatch, episode, task, sketch):
    """What a picture of four shows behind A, B, C and D, for each question: the arguments of its four sketches."""
    shown = []
    monkeypatch.setattr(drawing, sketch, lambda argument: argument)
    monkeypatch.setattr(drawing, "four", lambda picture, sketches: shown.append(sketches))
    asked = made(episode, task)
    for frame, draw in asked.drawings.values():
        draw(episode.frames[frame].picture)
    return list(zip(asked.records[task], shown, strict=True))


@pytest.mark.parametrize("task", DRAWN)
def test_every_kind_is_asked_with_a_picture_of_its_own(task):
    asked = made(PLACED, task)
    assert asked.records[task]
    for record in asked.records[task]:
        frame, draw = asked.drawings[record["images"]]
        assert draw(PLACED.frames[frame].picture).size == (record["w"], record["h"])


def test_the_right_letter_has_the_box_of_the_object_and_the_others_those_of_other_things(monkeypatch):
    boxes = {(v.box.x1, v.box.y1) for name, v in THINGS.items() if name != "red cube"} | {(86.0, 6.0), (66.0, 16.0)}
    for number in range(8):
        for record, shown in candidates(monkeypatch, numbered(number), "grounding_choice", "box_sketch"):
            right = shown["ABCD".index(record["gt"])]
            assert right == Box(50, 70, 70, 90)
            others = {(box.x1, box.y1) for box in shown if box != right}
            assert len(others) == 3
            assert others <= boxes | {(46.0, 26.0)}


def test_where_no_other_thing_is_known_boxes_of_the_same_size_are_put_elsewhere(monkeypatch):
    bare = replace(PLACED.frames[0], things={"red cube": THINGS["red cube"]}, gripper=None)
    for record, shown in candidates(monkeypatch, replace(PLACED, frames=(bare,)), "grounding_choice", "box_sketch"):
        right = shown["ABCD".index(record["gt"])]
        for box in shown:
            assert (box.x2 - box.x1, box.y2 - box.y1) == pytest.approx((20, 20))
            width, height = min(box.x2, right.x2) - max(box.x1, right.x1), min(box.y2, right.y2) - max(box.y1, right.y1)
            both = max(width, 0) * max(height, 0)
            assert box == right or both / (800 - both) <= 0.4


def test_the_right_letter_has_the_grasp_and_the_others_are_elsewhere(monkeypatch):
    asked = [pair for n in range(8) for pair in candidates(monkeypatch, numbered(n), "grasppose_choice", "fork_sketch")]
    assert len(asked) == 16
    for record, shown in asked:
        forks = np.array(shown)
        right = "ABCD".index(record["gt"])
        assert forks[right].tolist() == [[52, 80], [68, 80], [60, 60]]
        moved = np.hypot(*(forks - forks[right])[:, 0].T)
        assert (np.delete(moved, right) >= 12).all()
        # All are the same fork: no candidate is told by its size or its turn.
        assert (forks - forks[:, :1]).round(6).tolist() == [(forks[right] - forks[right, 0]).tolist()] * 4


@pytest.mark.parametrize(
    "changes",
    [
        {"palm_point": None},
        {"contact_points": None},
        {"contact_points": Points(((58.0, 80.0), (62.0, 80.0)))},  # closed fingers
        {"contact_points": Points(((60.0, 74.0), (61.0, 86.0)))},  # seen from the side
        {"quality": {"contact_point": "Secondary"}},
    ],
)
def test_a_grasp_that_is_unknown_or_cannot_be_judged_is_not_asked_for(changes):
    assert made(replace(PLACED, **changes), "grasppose_choice").records["grasppose_choice"] == []


def test_the_right_letter_has_the_way_and_all_begin_where_the_gripper_is(monkeypatch):
    for number in range(8):
        episode = numbered(number)
        for record, shown in candidates(monkeypatch, episode, "traj_choice", "path_sketch"):
            right = shown["ABCD".index(record["gt"])]
            (frame,) = [f for f in episode.frames if f"_f{f.index:03d}_" in record["id"]]
            assert right == [list(point) for point in frame.trace.points]
            assert [way[0] for way in shown] == [right[0]] * 4
            assert all(0 <= x <= 196 and 0 <= y <= 112 for way in shown for x, y in way)
            apart = [np.hypot(*(np.array(way) - right).T).max() for way in shown if way != right]
            assert len(apart) == 3
            assert min(apart) >= 12


def test_a_bent_way_departs_at_its_beginning_and_is_shifted_from_its_end_on():
    straight = np.stack([np.arange(5.0), np.zeros(5)], axis=1)
    assert bent(straight, np.array([0.0, 8.0]), 0.25, 0.75).tolist() == [[0, 0], [1, 0], [2, 4], [3, 8], [4, 8]]


@pytest.mark.parametrize("task", ["traj_direction_choice", "traj_direction_choice_with_traj"])
def test_the_arrow_of_the_right_colour_points_where_the_gripper_goes(monkeypatch, task):
    shown = []
    monkeypatch.setattr(drawing, "arrows_sketch", shown.append)
    for number in range(8):
        shown.clear()
        records = made(numbered(number), task).records[task]
        for record, arrows in zip(records, shown, strict=True):
            options = options_in(record["conversations"][0]["value"])
            assert sorted(options.values()) == ["blue", "green", "red", "yellow"]
            begin, end = next((a, b) for a, b, colour in arrows if colour == options[record["gt"]])
            frame = next(f for f in PLACED.frames if f"_f{f.index:03d}_" in record["id"])
            path = frame.trace.array
            far = np.flatnonzero(np.hypot(*(path - path[0]).T) >= 12)[0]
            move, along = path[far] - path[0], np.subtract(end, begin)
            assert move @ along == pytest.approx(np.linalg.norm(move) * np.linalg.norm(along))
            assert np.linalg.norm(along) == pytest.approx(22)


def test_the_way_in_numbers_is_part_of_one_direction_question_only():
    told = made(PLACED, "traj_direction_choice_with_traj").records["traj_direction_choice_with_traj"]
    assert all(re.search(r"\[\[\d+, \d+\](, \[\d+, \d+\]){9}\]", row["conversations"][0]["value"]) for row in told)
    plain = made(PLACED, "traj_direction_choice").records["traj_direction_choice"]
    assert all("[" not in row["conversations"][0]["value"] for row in plain)


def test_the_options_of_a_drawn_way_are_one_sentence_with_four_names():
    for record in made(PLACED, "trajlang_choice").records["trajlang_choice"]:
        options = options_in(record["conversations"][0]["value"])
        assert sorted(options.values()) == sorted(f"Put the {colour} object on the white plate" for colour in COLOURS)
        assert options[record["gt"]] == "Put the red object on the white plate"


def test_the_options_of_a_push_are_two_things_and_two_sides():
    pushed = replace(PLACED, instruction="Push the red cube to the left", skill="push", movable=OBJECTS[:2])
    for record in made(pushed, "trajlang_choice").records["trajlang_choice"]:
        options = options_in(record["conversations"][0]["value"])
        pushes = [f"Push the {colour} object to the {side}" for colour in COLOURS[:2] for side in ("left", "right")]
        assert sorted(options.values()) == sorted(pushes)
        assert options[record["gt"]] == "Push the red object to the left"


def test_things_that_one_word_does_not_tell_apart_keep_their_names():
    alike = replace(PLACED, movable=("red cube", "red ball", "green brick", "yellow cylinder"))
    for record in made(alike, "trajlang_choice").records["trajlang_choice"]:
        assert options_in(record["conversations"][0]["value"])[record["gt"]] == "Put the red cube on the white plate"


def test_a_scene_of_three_objects_has_too_few_sentences_of_a_place():
    assert made(replace(PLACED, movable=OBJECTS[:3]), "trajlang_choice").records["trajlang_choice"] == []


def test_names_of_pictures_say_neither_task_step_nor_answer():
    asked = questions_about(PLACED, ["a.png", "b.png", "c.png"])
    names = [path.rpartition("/")[2] for path in (*asked.drawings, *asked.moments)]
    assert all(re.fullmatch(r"[0-9a-f]{16}\.png", name) for name in names)
    assert len(set(names)) == len(names)


def test_four_episodes_in_a_row_have_the_four_letters():
    for task in DRAWN[:3]:
        letters = [made(numbered(n), task).records[task][0]["gt"] for n in range(4, 8)]
        assert sorted(letters) == list("ABCD")


def test_four_questions_of_an_episode_have_the_four_letters():
    for number in range(6):
        assert sorted(letter(numbered(number), "any task", turn) for turn in range(4)) == list("ABCD")


def test_a_recording_that_knows_nothing_but_its_pictures_is_asked_nothing():
    blank = replace(
        PLACED.frames[0],
        things={},
        gripper=None,
        tool_point=None,
        trace=None,
        touching=None,
        subtask=None,
        primitive=None,
    )
    unknown = replace(
        PLACED, skill=None, target=None, success=None, contact_index=None, contact_points=None, contact_box=None,
        release_index=None, final_box=None, palm_point=None, segments=(), movable=(), absent=(),
        frames=(blank,), steps=1,
    )  # fmt: skip
    made_of_it = questions_about(unknown, ["a.png"])
    assert set(made_of_it.records) == set(ASKERS)
    assert not any(made_of_it.records.values())


@pytest.mark.parametrize(
    "label, tasks",
    [
        ("object_box", {"current_box", "final_box", "grounding_choice"}),
        ("gripper_box", {"gripper_det", "contact_box"}),
        ("trace", {"traj", "traj_wo_init_pos", "traj_choice", "traj_direction_choice", "trajlang_choice"}),
        ("subtask", {"planning", "planning_decide", "trajlang_sub_choice"}),
        ("contact", {"contact_decide"}),
    ],
)
def test_labels_that_are_not_primary_are_not_asked_about(label, tasks):
    poor = replace(PLACED, quality={label: "Secondary"})
    good = replace(PLACED, quality={label: "Primary"})
    names = ["a.png", "b.png", "c.png"]
    for task in tasks:
        assert questions_about(poor, names).records[task] == []
        assert questions_about(good, names).records[task] == questions_about(PLACED, names).records[task] != []


def test_boxes_are_purple_forks_orange_and_ways_go_from_green_to_red():
    grey = np.full((112, 196, 3), 120, np.uint8)
    boxed = np.asarray(drawing.drawn(grey, drawing.box_sketch(view(98, 56, 20).box)))
    assert boxed[36, 98].tolist() == list(drawing.PURPLE)
    assert boxed[56, 98].tolist() == [120, 120, 120]
    forked = np.asarray(drawing.drawn(grey, drawing.fork_sketch([(80, 80), (110, 80), (95, 40)])))
    for x, y in ((80, 70), (110, 70), (95, 60), (95, 48)):
        assert forked[y, x].tolist() == list(drawing.ORANGE)
    red, green, _ = np.asarray(drawing.drawn(grey, drawing.path_sketch([(20, 50), (98, 50), (180, 50)])))[50].T.astype(
        int
    )
    assert green[20] > 200 > 30 > red[20]
    assert red[180] > 200 > 30 > green[180]
    assert min(red[98], green[98]) > 200


def test_four_pictures_stand_two_by_two_behind_their_letters():
    grey = np.full((112, 196, 3), 120, np.uint8)
    corners = [(40 + 10 * number, 60) for number in range(4)]
    sketches = [lambda pen, at=at: pen.dot(at, (255, 0, 0), radius=3) for at in corners]
    sheet = np.asarray(drawing.four(grey, sketches))
    assert sheet.shape == (228, 396, 3)
    for (x, y), (left, top) in zip(corners, [(0, 0), (200, 0), (0, 116), (200, 116)], strict=True):
        assert sheet[top + y, left + x].tolist() == [255, 0, 0]
        tag = sheet[top : top + 16, left : left + 16]
        assert tag.max() == 250
        assert tag.min() < 60
