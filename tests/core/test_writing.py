"""Writing answers, and reading what was written."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robointervlm.core import reading, writing
from robointervlm.core.answer import Box, Choice, Points, Text, Trajectory, YesNo
from robointervlm.core.coordinates import CoordinateFormat, ImageSize, Space
from robointervlm.core.errors import DataError
from robointervlm.core.reading import answer_from_json, read_box, read_choice, read_points, read_trajectory, read_yes_no
from robointervlm.core.writing import answer_to_json, write_answer

SIZE = ImageSize(320, 180)
SPACES = {coordinates.value: Space(coordinates, SIZE, ImageSize(308, 168)) for coordinates in CoordinateFormat}
BOX = Box(72, 102, 192, 179)


@pytest.mark.parametrize(
    "coordinates, text",
    [
        ("pixel", '{"current_bbox": [[72, 102], [192, 179]]}'),
        # 72/320 = 0.225 is 0.22 in the published unit files: two decimals, half to even.
        ("unit", '{"current_bbox": [[0.22, 0.57], [0.6, 0.99]]}'),
        ("per_mille", '{"current_bbox": [[225, 567], [600, 994]]}'),
        # 72*308/320 = 69.3, 102*168/180 = 95.2, 192*308/320 = 184.8, 179*168/180 = 167.07
        ("resized", '{"current_bbox": [[69, 95], [185, 167]]}'),
    ],
)
def test_a_box_is_written_in_each_format(coordinates, text):
    assert write_answer(BOX, SPACES[coordinates], "current_bbox") == text


def test_answers_are_written_as_the_published_data_does():
    space = SPACES["pixel"]
    assert write_answer(Trajectory(((1, 2), (3, 4))), space, "future_traj") == '{"future_traj": [[1, 2], [3, 4]]}'
    assert write_answer(Points(((1, 2), (3, 4))), space, "contact_point") == '{"contact_point": [[1, 2], [3, 4]]}'
    assert write_answer(BOX, space) == "[[72, 102], [192, 179]]"
    assert write_answer(Choice("B")) == "B"
    assert write_answer(YesNo(yes=True)) == "Yes"
    assert write_answer(YesNo(yes=False)) == "No"
    assert write_answer(Text("pick up 2 cups")) == "pick up 2 cups"


def test_a_place_without_an_image_cannot_be_written():
    with pytest.raises(DataError, match="no image"):
        write_answer(BOX, None, "current_bbox")


sizes = st.builds(ImageSize, st.integers(28, 2000), st.integers(28, 2000))
coordinate = st.floats(-0.5, 1.5)


@st.composite
def spaces(draw):
    return Space(draw(st.sampled_from(CoordinateFormat)), draw(sizes), draw(sizes))


def rounding(space):
    """The most that writing can move a place, in pixels: half a step of the format in each direction."""
    half = 0.5 * 10**-space.format.decimals * (1 + 1e-9) + 1e-9
    width, height = space.extent
    return half * space.image.width / width, half * space.image.height / height


def assert_near(found, expected, space):
    limits = rounding(space)
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert all(abs(a - b) <= limit for a, b, limit in zip(one, other, limits, strict=True))


def places(draw, space, count):
    width, height = space.image
    return tuple((draw(coordinate) * width, draw(coordinate) * height) for _ in range(count))


@given(st.data(), spaces(), st.sampled_from(["", "current_bbox"]))
def test_a_written_box_is_read_back_up_to_the_rounding_of_its_format(data, space, key):
    box = Box.spanning(*places(data.draw, space, 2))
    assert_near(read_box(write_answer(box, space, key), space, key).answer.corners, box.corners, space)


@given(st.data(), spaces(), st.sampled_from(["", "future_traj"]), st.integers(1, 12))
def test_a_written_trajectory_is_read_back_up_to_the_rounding_of_its_format(data, space, key, count):
    path = Trajectory(places(data.draw, space, count))
    assert_near(read_trajectory(write_answer(path, space, key), space, key).answer.points, path.points, space)


@given(st.data(), spaces(), st.sampled_from(["", "contact_point"]))
def test_written_contact_points_are_read_back_up_to_the_rounding_of_their_format(data, space, key):
    points = Points(places(data.draw, space, 2))
    read = read_points(write_answer(points, space, key), space, key, count=2).answer
    assert_near(read.points, points.points, space)


KEYS = ["current_bbox", "future_traj", "contact_point", "point_2d", "answer", "x", "x1", "width", "A", "NaN", "框"]


@given(st.data(), spaces(), st.integers(1, 12), st.sampled_from(KEYS), st.sampled_from(["", *KEYS]))
def test_the_published_form_reads_the_same_as_any_other_spelling_of_it(data, space, count, key, asked):
    text = write_answer(Trajectory(places(data.draw, space, count)), space, key)
    for read in (read_box, read_points, read_trajectory):
        spelt = read(text.replace(": [[", ":  [["), space, asked)
        quick = read(text, space, asked)
        assert (quick.tier, quick.notes) == (spelt.tier, spelt.notes)
        assert getattr(quick.answer, "reason", quick.answer) == getattr(spelt.answer, "reason", spelt.answer)


@given(st.sampled_from("ABCDEFGH"), st.booleans())
def test_written_letters_and_yes_and_no_are_read_back(letter, yes):
    assert read_choice(write_answer(Choice(letter))).answer == Choice(letter)
    assert read_yes_no(write_answer(YesNo(yes))).answer == YesNo(yes)


finite = st.floats(allow_nan=False, allow_infinity=False)
point = st.tuples(finite, finite)
points = st.lists(point, max_size=5).map(tuple)
answers = st.one_of(
    st.builds(Box, finite, finite, finite, finite),
    st.builds(Points, points),
    st.builds(Trajectory, points),
    st.builds(Choice, st.sampled_from("ABCD")),
    st.builds(YesNo, st.booleans()),
    st.builds(Text, st.text()),
)


@given(answers)
def test_a_record_gives_the_answer_back_to_the_last_digit(answer):
    assert answer_from_json(json.loads(json.dumps(answer_to_json(answer)))) == answer


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"box": [1, 2, 3]},
        {"box": [1, 2, 3, "4"]},
        {"box": [1, 2, 3, float("nan")]},
        {"box": [1, 2, 3, True]},
        {"box": [1, 2, 3, 4], "text": "also"},
        {"points": [[1, 2], [3]]},
        {"points": 7},
        {"yes_no": "yes"},
        {"circle": [1, 2, 3]},
    ],
)
def test_a_record_that_holds_no_answer_is_an_error(record):
    with pytest.raises(DataError):
        answer_from_json(record)


def test_an_answer_may_lie_outside_of_the_picture():
    text = write_answer(Box(-12, -5, 400, 200), SPACES["pixel"], "current_bbox")
    assert text == '{"current_bbox": [[-12, -5], [400, 200]]}'
    assert read_box(text, SPACES["pixel"]).answer == Box(-12, -5, 400, 200)


def test_both_directions_are_importable_where_records_look_for_them():
    assert writing.answer_to_json is answer_to_json
    assert reading.answer_from_json is answer_from_json
