"""Places inside questions."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robointervlm.core.coordinates import CoordinateFormat, ImageSize, Space
from robointervlm.core.reading import find_places
from robointervlm.core.sample import Place, written_question

SIZE = ImageSize(320, 180)
PIXELS = Space.pixels(SIZE)
RESIZED = Space(CoordinateFormat.RESIZED, SIZE, ImageSize(308, 168))


def test_a_starting_position_is_a_place_and_the_rest_is_text():
    question = find_places("<image>\nThe gripper is at [192, 90]. Predict 10 points.", PIXELS)
    assert question == (
        "<image>\nThe gripper is at ",
        Place(((192.0, 90.0),), "[{}, {}]"),
        ". Predict 10 points.",
    )


def test_a_starting_position_is_written_in_the_coordinates_of_the_model():
    question = find_places("The gripper is at [192, 90].", PIXELS)
    assert written_question(question, RESIZED) == "The gripper is at [185, 84]."  # 192 * 308 / 320 = 184.8
    assert written_question(question, Space(CoordinateFormat.UNIT, SIZE)) == "The gripper is at [0.6, 0.5]."


@pytest.mark.parametrize(
    "text, patterns",
    [
        ("at (192, 90)", ["({}, {})"]),
        ("at (192,90)!", ["({},{})"]),
        ("box [10, 20, 30, 40]", ["[{}, {}, {}, {}]"]),
        ("[[10, 20], [30, 40]]", ["[{}, {}]", "[{}, {}]"]),
        ('{"future_traj": [[-1.5, 2e0]]}', ["[{}, {}]"]),
    ],
)
def test_bracketed_pairs_and_fours_are_places(text, patterns):
    assert [part.pattern for part in find_places(text, PIXELS) if isinstance(part, Place)] == patterns


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Predict 10 points for step 2.",
        "Answer as [[x1, y1], [x2, y2]].",
        "in 320, 180 pixels",
        "one of [1]",
        "a [1, 2, 3] triple",
        "half-open [0, 1)",
        "{1, 2}",
        "[1, 1e99]",
        "[192, 90",
        "Is the cup (red, 2) here?",
    ],
)
def test_everything_else_stays_text(text):
    assert find_places(text, PIXELS) == (text,)


numbers = st.one_of(st.integers(-50, 400).map(str), st.floats(-50, 400).map(lambda value: f"{value:.3f}"))
bracketed = st.one_of(
    st.tuples(numbers, numbers).map(lambda pair: f"[{pair[0]}, {pair[1]}]"),
    st.tuples(numbers, numbers).map(lambda pair: f"({pair[0]},{pair[1]})"),
    st.lists(numbers, min_size=4, max_size=4).map(lambda four: f"[{' , '.join(four)}]"),
)
plain = st.one_of(st.text("ab {}[](),.:-1<>\n", max_size=12), st.just("<image>"))
questions = st.lists(st.one_of(plain, bracketed), max_size=8).map("".join)
NUMBER = re.compile(r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)")


@given(questions, st.sampled_from([PIXELS, RESIZED, Space(CoordinateFormat.UNIT, SIZE)]))
def test_written_back_in_the_same_space_only_the_rounding_of_numbers_changes(text, space):
    back = written_question(find_places(text, space), space)
    assert NUMBER.sub("#", back) == NUMBER.sub("#", text)
    step = 0.005 if space.format is CoordinateFormat.UNIT else 0.5
    for before, after in zip(NUMBER.findall(text), NUMBER.findall(back), strict=True):
        assert abs(float(before) - float(after)) <= step + 1e-6


@given(st.lists(st.one_of(st.text("ab .:", max_size=9), st.tuples(st.integers(), st.integers()).map(str)), max_size=6))
def test_whole_pixels_come_back_to_the_letter(parts):
    text = "".join(parts)
    assert written_question(find_places(text, PIXELS), PIXELS) == text
