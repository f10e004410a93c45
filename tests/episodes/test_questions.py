import json
import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from robointervlm.core.answer import Box, Points, Trajectory
from robointervlm.core.coordinates import ImageSize
from robointervlm.episodes.episode import Episode, Frame, ThingView
from robointervlm.episodes.questions import questions_about
from robointervlm.episodes.questions.paths import next_direction

RIGHTWARD = Trajectory(tuple((20.0 + 10 * i, 50.0) for i in range(10)))
PLAIN = ThingView(Box(10, 20, 30, 44), Box(10, 20, 30, 44), 1.0, 1.0)


def frame(index, *, thing=PLAIN, gripper=PLAIN, trace=RIGHTWARD, touching=False):
    return Frame(
        index, np.zeros((112, 196, 3), np.uint8), {"red cube": thing}, gripper, trace.points[0], trace, touching, "", ""
    )


def episode(*frames, **changes):
    base = Episode(
        id="sim_s0_0000001", source="sim", seed=0, number=1, image_size=ImageSize(196, 112),
        instruction="Pick up the red cube", skill="pick", target="red cube", success=True, failure=None,
        contact_index=10, contact_points=Points(((12.4, 30.0), (28.6, 31.0))), contact_box=Box(9, 25, 31, 36),
        contact_inside_share=1.0,
        release_index=20, final_box=Box(11.5, 0, 31, 14), final_inside_share=1.0, steps=20, frames=frames,
    )  # fmt: skip
    return replace(base, **changes)


def asked(made, task):
    names = [f"frame{number}.png" for number in range(len(made.frames))]
    return questions_about(made, names).records[task]


ONE = episode(frame(0))
# Those whose pictures are single frames as they are; their words are few.
PLAIN_TASKS = {
    "current_box", "final_box", "contact_box", "gripper_det", "contact_point", "traj", "traj_wo_init_pos",
    "traj_direction_words", "contact_decide", "grounding", "naming",
}  # fmt: skip


@pytest.mark.parametrize(
    "task, answer",
    [
        ("current_box", '{"current_bbox": [[10, 20], [30, 44]]}'),
        ("final_box", '{"final_bbox": [[12, 0], [31, 14]]}'),
        ("contact_box", '{"contact_bbox": [[9, 25], [31, 36]]}'),
        ("gripper_det", '{"gripper_det_bbox": [[10, 20], [30, 44]]}'),
        ("contact_point", '{"contact_point": [[12, 30], [29, 31]]}'),
        (
            "traj",
            '{"future_traj": [[20, 50], [30, 50], [40, 50], [50, 50], [60, 50], '
            "[70, 50], [80, 50], [90, 50], [100, 50], [110, 50]]}",
        ),
    ],
)
def test_an_answer_is_written_as_published(task, answer):
    assert asked(ONE, task)[0]["gt"] == answer


def test_a_record_has_the_published_fields():
    (record,) = asked(ONE, "gripper_det")
    question = record["conversations"][0].pop("value")
    assert question in {"<image>\nWhere is the gripper now?", "<image>\nGive the box of the gripper."}
    assert record == {
        "id": "sim_s0_0000001_f000_gripper_det",
        "task": "gripper_det",
        "episode": "sim_s0_0000001",
        "skill": "pick",
        "conversations": [
            {"from": "human"},
            {"from": "gpt", "value": '{"gripper_det_bbox": [[10, 20], [30, 44]]}'},
        ],
        "images": "frame0.png",
        "gt": '{"gripper_det_bbox": [[10, 20], [30, 44]]}',
        "h": 112, "w": 196, "new_h": 112, "new_w": 196,
    }  # fmt: skip


def test_the_resized_size_is_the_processors():
    (record,) = asked(replace(ONE, image_size=ImageSize(320, 180)), "gripper_det")
    assert (record["new_w"], record["new_h"]) == (308, 168)


def test_the_starting_point_is_told_in_traj_only():
    assert "The gripper is now at [20, 50]." in asked(ONE, "traj")[0]["conversations"][0]["value"]
    assert "[" not in asked(ONE, "traj_wo_init_pos")[0]["conversations"][0]["value"]
    assert asked(ONE, "traj")[0]["gt"] == asked(ONE, "traj_wo_init_pos")[0]["gt"]


def test_a_thing_less_than_half_visible_is_not_asked_for():
    hidden, shown = (replace(PLAIN, visible_share=share) for share in (0.49, 0.5))
    made = episode(frame(0, thing=hidden), frame(1, thing=shown))
    assert [record["images"] for record in asked(made, "current_box")] == ["frame1.png"]


def test_a_gripper_out_of_sight_is_not_asked_for():
    made = episode(frame(0, gripper=ThingView(None, None, 0.0, 0.0)))
    assert asked(made, "gripper_det") == []


def test_contact_is_foreseen_only_before_it_happens():
    made = episode(frame(9), frame(10, touching=True), frame(11, touching=True))
    for task in ("contact_box", "contact_point"):
        assert [record["images"] for record in asked(made, task)] == ["frame0.png"]


def test_contact_points_outside_the_picture_are_not_asked_for():
    assert asked(replace(ONE, contact_points=Points(((-1.0, 5.0), (4.0, 5.0)))), "contact_point") == []


def test_a_contact_box_mostly_outside_the_picture_is_not_asked_for():
    assert asked(replace(ONE, contact_inside_share=0.69), "contact_box") == []
    assert len(asked(replace(ONE, contact_inside_share=0.7), "contact_box")) == 1


def test_naming_is_grounding_the_other_way_round():
    made = asked(ONE, "naming")
    assert [record["gt"] for record in made] == ["red cube", "gripper"]
    assert all("[[10, 20], [30, 44]]" in record["conversations"][0]["value"] for record in made)


def test_the_end_is_foreseen_until_the_thing_is_there():
    made = episode(frame(0), frame(19, touching=True), frame(20))
    assert [record["images"] for record in asked(made, "final_box")] == ["frame0.png", "frame1.png"]


def test_a_failure_says_nothing_about_a_future_that_should_have_been():
    failed = replace(ONE, success=False, failure="wrong_object", final_box=None, contact_box=None, contact_points=None)
    records = questions_about(failed, ["frame0.png"]).records
    tasks = {task for task, made in records.items() if made}
    seen_now = {"current_box", "gripper_det", "contact_decide", "grounding", "naming", "grounding_choice"}
    assert tasks == {*seen_now, "planning_choice", "planning_decide"}
    past = {record["kind"] for task in ("planning_choice", "planning_decide") for record in records[task]}
    assert past == {"Temporal_Understanding", "Success_Negative_Task"}


def test_a_way_that_is_nearly_over_is_not_asked_for():
    short = Trajectory(tuple((20.0 + i, 50.0) for i in range(10)))
    assert asked(episode(frame(0, trace=short)), "traj") == []


@pytest.mark.parametrize(
    "step, direction",
    [((5, 0), "right"), ((-5, 1), "left"), ((1, 5), "down"), ((-2, -5), "up"), ((5, 4), None), ((0.5, 0), None)],
)
def test_the_next_direction_is_the_one_seen_in_the_picture(step, direction):
    trace = Trajectory(tuple((100.0 + i * step[0], 56.0 + i * step[1]) for i in range(10)))
    assert next_direction(ONE, frame(0, trace=trace)) == direction


def test_the_right_letter_names_the_direction():
    (record,) = asked(ONE, "traj_direction_words")
    options = dict(re.findall(r"([A-D])\. (\w+)", record["conversations"][0]["value"]))
    assert sorted(options.values()) == ["down", "left", "right", "up"]
    assert options[record["gt"]] == "right"


def test_letters_are_balanced():
    letters = Counter()
    for number in range(100):
        made = replace(ONE, number=number, frames=tuple(frame(index) for index in range(4)))
        letters.update(record["gt"] for record in asked(made, "traj_direction_words"))
    # Every four questions of an episode use every letter once.
    assert letters == {"A": 100, "B": 100, "C": 100, "D": 100}


def test_contact_is_asked_as_often_with_yes_as_with_no():
    frames = [frame(index) for index in range(4)] + [frame(12, touching=True), frame(15, touching=True)]
    assert Counter(record["gt"] for record in asked(episode(*frames), "contact_decide")) == {"Yes": 2, "No": 2}


def test_the_moments_around_contact_are_not_asked_about():
    made = episode(frame(8), frame(9), frame(20))
    assert asked(made, "contact_decide") == []


def test_simulated_records_are_short_unique_and_inside_the_picture(successes, failures):
    ids = set()
    for made in successes + failures:
        for task, rows in questions_about(made, [f"{f.index}.png" for f in made.frames]).records.items():
            for row in rows:
                question = row["conversations"][0]["value"]
                assert len(question.split()) <= (30 if task in PLAIN_TASKS else 80)
                assert row["task"] == task
                assert row["conversations"][1]["value"] == row["gt"]
                if row["gt"].startswith("{"):
                    points = np.array(next(iter(json.loads(row["gt"]).values())))
                    assert points.dtype.kind == "i"
                    assert points.min() >= 0
                    assert np.all(points.max(axis=0) <= (196, 112))
                assert row["id"] not in ids
                ids.add(row["id"])
    assert len(ids) > 300


def test_grounding_asks_for_everything_that_is_seen_by_its_name():
    answers = {record["id"]: record["gt"] for record in asked(ONE, "grounding")}
    assert answers["sim_s0_0000001_f000_grounding_gripper"] == '{"bbox_2d": [[10, 20], [30, 44]]}'
    assert len(answers) == len(asked(ONE, "grounding"))
