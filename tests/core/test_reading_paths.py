"""Points and trajectories out of texts."""

import pytest

from robointervlm.core.answer import Points, Trajectory, Unparsed
from robointervlm.core.coordinates import ImageSize, Space
from robointervlm.core.reading import read_points, read_trajectory

PIXELS = Space.pixels(ImageSize(200, 100))
PATH = Trajectory(((1.0, 2.0), (3.0, 4.0), (5.0, 6.0)))


@pytest.mark.parametrize(
    "text",
    [
        '{"future_traj": [[1, 2], [3, 4], [5, 6]]}',
        '```json\n{"future_traj": [[1, 2], [3, 4], [5, 6]]}\n```',
        "[[1, 2], [3, 4], [5, 6]]",
        "[(1, 2), (3, 4), (5, 6)]",
        "(1, 2), (3, 4), (5, 6)",
        "[1, 2, 3, 4, 5, 6]",
        "1, 2, 3, 4, 5, 6",
        "1 2\n3 4\n5 6",
        "1. [1, 2]\n2. [3, 4]\n3. [5, 6]",
        "1) (1, 2)\n2) (3, 4)\n10) (5, 6)",
        "1. 1, 2\n2. 3, 4\n3. 5, 6",
        "Point 1: (1, 2)\nPoint 2: (3, 4)\nPoint 3: (5, 6)",
        "1. [1, 2]\n2. [3, 4]\n0. [5, 6]",
        "Step 1: (1, 2) -> Step 2: (3, 4) -> Step 3: (5, 6)",
        "The 10 waypoints are: [[1, 2], [3, 4], [5, 6]]",
        "In 2D pixel space: [[1, 2], [3, 4], [5, 6]] (confidence 0.93)",
        "The gripper starts at (9, 9). Path: [[1, 2], [3, 4], [5, 6]]",
        '[{"point_2d": [1, 2], "label": "1"}, {"point_2d": [3, 4]}, {"point_2d": [5, 6]}]',
        '[{"x": 1, "y": 2}, {"x": 3, "y": 4}, {"x": 5, "y": 6}]',
        '{"1": [1, 2], "2": [3, 4], "3": [5, 6]}',
        '{"start": [1, 2], "middle": [3, 4], "end": [5, 6]}',
        "x: 1, y: 2; x: 3, y: 4; x: 5, y: 6",
        '<point x="1" y="2"> <point x="3" y="4"> <point x="5" y="6">',
        '<points x1="1" y1="2" x2="3" y2="4" x3="5" y3="6" alt="cup 7">cup 7</points>',
        "<point>[1, 2]</point><point>[3, 4]</point><point>[5, 6]</point>",
    ],
)
def test_paths_are_read_in_the_forms_models_write(text):
    assert read_trajectory(text, PIXELS).answer == PATH


def test_one_point_is_the_shortest_trajectory():
    assert read_trajectory('{"future_traj": [[1, 2]]}', PIXELS).answer == Trajectory(((1.0, 2.0),))
    assert read_trajectory("[1, 2]", PIXELS).answer == Trajectory(((1.0, 2.0),))


def test_minus_signs_of_waypoints_are_kept():
    assert read_trajectory("[[-1, 2], [3, -4]]", PIXELS).answer == Trajectory(((-1.0, 2.0), (3.0, -4.0)))


@pytest.mark.parametrize(
    "text, reason",
    [
        ("", "empty"),
        ("move to the cup", "no coordinates"),
        ('{"future_traj": []}', "no coordinates"),
        ("1, 2, 3, 4, 5", "odd"),
        ("[1, 2, 3, 4, 5]", "5 numbers"),
        ("[[1, 2, 0], [3, 4, 0]]", "3 numbers"),
        ("[[1, 2], [3], [4, 5]]", "1 numbers"),
        ("[[1, 2], [NaN, 4]]", "finite"),
        ("[[1, 2], [null, 4]]", "finite"),
        ("[[1, 2], [3, 9999999999]]", "large"),
        ('{"current_bbox": [[1, 2], [3, 4]]}', "current_bbox"),
        ("[[1, 2, 3, 4], [5, 6, 7, 8]]", "4 numbers"),
        ("I see 3, 4 objects", "two coordinates"),
        ("In 2024, 10 robots", "two coordinates"),
        ('{"future_traj": [[3', "before the first point"),
    ],
)
def test_what_is_not_a_path_is_unparsed_with_a_reason(text, reason):
    answer = read_trajectory(text, PIXELS).answer
    assert isinstance(answer, Unparsed)
    assert reason in answer.reason


@pytest.mark.parametrize(
    "text",
    [
        '{"future_traj": [[1, 2], [3, 4], [5, 6], [',
        '{"future_traj": [[1, 2], [3, 4], [5, 6], [7',
        '{"future_traj": [[1, 2], [3, 4], [5, 6], [7, 8',  # it may have been 88
        "[1, 2, 3, 4, 5, 6, 7",
        "[1, 2, 3, 4, 5, 6, 7, 8",
        "[1, 2, 3, 4, 5, 6, 7,",
    ],
)
def test_a_truncated_path_is_read_up_to_its_last_whole_point_and_noted(text):
    reading = read_trajectory(text, PIXELS)
    assert (reading.answer, reading.notes) == (PATH, ("truncated",))


def test_of_several_paths_the_first_is_read_and_their_number_noted():
    reading = read_trajectory("[[1, 2], [3, 4], [5, 6]]\n[[7, 8], [9, 10]]", PIXELS)
    assert (reading.answer, reading.notes) == (PATH, ("first of 2",))


def test_the_asked_key_goes_before_other_paths():
    text = '{"past_traj": [[9, 9], [8, 8]], "future_traj": [[1, 2], [3, 4], [5, 6]]}'
    assert read_trajectory(text, PIXELS, key="future_traj").answer == PATH


def test_a_path_of_five_thousand_points_is_read_whole():
    text = str([[i, i + 1] for i in range(5000)])
    assert len(read_trajectory(text, PIXELS).answer.points) == 5000


FINGERS = Points(((1.0, 2.0), (3.0, 4.0)))


@pytest.mark.parametrize(
    "text, tier",
    [
        ('{"contact_point": [[1, 2], [3, 4]]}', "json"),
        ('{"contact_point": [1, 2, 3, 4]}', "json"),
        ('{"left_finger": [1, 2], "right_finger": [3, 4]}', "json"),
        ('```json\n[{"point_2d": [1, 2]}, {"point_2d": [3, 4]}]\n```', "fenced"),
        ("The fingers touch at (1, 2) and (3, 4).", "brackets"),
        ('<point x="1" y="2" alt="finger 1"/><point x="3" y="4"/>', "labels"),
        ("<|point_start|>(1,2),(3,4)<|point_end|>", "tags"),
        ("1, 2, 3, 4", "bare"),
    ],
)
def test_contact_points_are_read_in_the_forms_models_write(text, tier):
    reading = read_points(text, PIXELS, key="contact_point", count=2)
    assert (reading.answer, reading.tier) == (FINGERS, tier)


@pytest.mark.parametrize(
    "text",
    [
        "[[1, 2]]",
        "[[1, 2], [3, 4], [5, 6]]",
        '{"contact_bbox": [[1, 2], [3, 4]]}',
        '{"contact_point": []}',
        "[[1, 2, 3], [4, 5, 6]]",
    ],
)
def test_another_number_of_points_than_asked_is_unparsed(text):
    assert isinstance(read_points(text, PIXELS, key="contact_point", count=2).answer, Unparsed)


def test_any_number_of_points_is_read_if_none_is_asked():
    assert read_points("[(1, 2), (3, 4), (5, 6)]", PIXELS).answer == Points(PATH.points)
