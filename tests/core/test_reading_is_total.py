"""Any text gives an answer or a reason, in time linear in its length. (Figures: benchmarks/reading_speed.py.)"""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robointervlm.core.answer import Box, Choice, Points, Text, Trajectory, Unparsed, YesNo
from robointervlm.core.coordinates import CoordinateFormat, ImageSize, Space
from robointervlm.core.reading import (
    find_places,
    read_box,
    read_choice,
    read_points,
    read_text,
    read_trajectory,
    read_yes_no,
)

SIZE = ImageSize(200, 100)
SPACES = [Space(coordinates, SIZE, ImageSize(196, 112)) for coordinates in CoordinateFormat]
READERS = {
    "box": (lambda text: read_box(text, SPACES[0], "current_bbox"), Box),
    "points": (lambda text: read_points(text, SPACES[0], "contact_point", 2), Points),
    "trajectory": (lambda text: read_trajectory(text, SPACES[0], "future_traj"), Trajectory),
    "choice": (lambda text: read_choice(text, {"A": "up", "B": "down", "C": ""}), Choice),
    "yes_no": (read_yes_no, YesNo),
    "text": (read_text, Text),
}
PIECES = [
    *"[](){}<>,:;.-+=%\"'`\n \t#|/_*\\$",
    *["1", "-2.5", "1e9", "1e999", ".5", "3.", "007", "NaN", "Infinity", "null", "１２", "٣", "²", "𝟙"],  # noqa: RUF001
    *["x1", "y1", "x: 1", "width", '"x": 3', "top-left", "px", "Step 1", "bbox_2d", '"current_bbox": ', "future_traj"],
    *["<think>", "</think>", "<answer>", "</answer>", "<box>", "</box>", "<|box_start|>", '<point x="1" y="2">', "```"],
    *[
        "user\n",
        "assistant\n",
        "\\boxed{",
        "A",
        "b",
        "B. ",
        "the answer is ",
        "not ",
        "yes",
        "No",
        "or",
        "是",
        "不是",
        "。",
    ],
    *["[1, 2]", "(3, 4)", "[1, 2, 3, 4]", "[[1, 2], [3, 4]]", "{'a': [1]}", "\x00", "\ud800", "é", "\r\n"],
]
junk = st.one_of(st.text(max_size=80), st.lists(st.sampled_from(PIECES), max_size=40).map("".join))


@given(junk, st.sampled_from(sorted(READERS)))
def test_any_text_gives_an_answer_of_the_right_kind_or_a_reason(text, name):
    read, kind = READERS[name]
    reading = read(text)
    if isinstance(reading.answer, Unparsed):
        assert reading.answer.text == text
        assert reading.answer.reason
        assert reading.tier == ""
    else:
        assert type(reading.answer) is kind
        assert reading.tier


@given(junk, st.sampled_from(sorted(READERS)))
def test_nothing_in_a_prompt_is_ever_an_answer(text, name):
    read, _ = READERS[name]
    prompt = "system\nBe brief.\nuser\n" + text.replace("assistant", "")
    assert isinstance(read(prompt).answer, Unparsed)
    assert isinstance(read(f"{prompt}\nassistant\n").answer, Unparsed)


@given(
    junk,
    st.sampled_from(
        [
            ("box", '{"current_bbox": [[1, 2], [3, 4]]}'),
            ("points", "(1, 2), (3, 4)"),
            ("trajectory", "[[1, 2], [3, 4]]"),
            ("choice", "B"),
            ("yes_no", "No"),
            ("text", "pick it up"),
        ]
    ),
)
def test_an_answer_is_the_same_after_any_echoed_prompt(text, answered):
    name, answer = answered
    read, _ = READERS[name]
    assert read(f"user\n{text}\nassistant\n{answer}").answer == read(answer).answer


@given(junk, st.sampled_from(SPACES))
def test_coordinates_that_are_read_are_finite(text, space):
    for read in (read_box, read_trajectory):
        answer = read(text, space).answer
        numbers = [] if isinstance(answer, Unparsed) else sum(answer.corners if read is read_box else answer.points, ())
        assert all(abs(number) < 1e9 for number in numbers)


NASTY = [
    *["[", "[1", "[1,", "[1,2],", "[[1,2],", "[ ", "[]", "(1", '{"a":', '{"x":1,', "])}", "[1\n,", "[1,2,3,4] "],
    *[
        "1 ",
        "1, ",
        "9",
        "9.",
        ".",
        "-",
        "+-",
        "1e",
        "1e1",
        "1%",
        "1_",
        "1a",
        "a1",
        "x1: 1 ",
        "x:1,y:2,",
        "NaN ",
        "[NaN,",
    ],
    *['"', "'", '\\"', '"1",', "<box>", "<box>(1,2),(3,4)</box>", '<point x="1" y="2">', "```", "<think>", "</think>"],
    *[
        "<think></think>",
        "<answer>",
        "\n",
        "  ",
        "1. [1,2]\n",
        "assistant\n",
        "\\boxed{",
        "\\boxed{A}",
        "top left (1,2) ",
    ],
    *[
        "A ",
        "A, ",
        "A or ",
        "A\n",
        "A. ",
        "answer is ",
        "is the ",
        "not not ",
        "yes ",
        "yes or no ",
        "是",
        "不是，",
        "１",
    ],  # noqa: RUF001
]


def seconds(read, text):
    start = time.process_time()
    read(text)
    return time.process_time() - start


@pytest.mark.parametrize("seed", NASTY)
@pytest.mark.parametrize("name", ["box", "trajectory", "choice", "yes_no"])
def test_four_times_the_text_takes_nowhere_near_sixteen_times_the_time(name, seed):
    read, _ = READERS[name]
    short, long = (("user\n1 " + seed * n)[:n] for n in (8_192, 32_768))
    for _ in range(4):
        # Linear is 4, quadratic 16; below 10 ms the clock says nothing, and then there is nothing to fear either.
        if seconds(read, long) < max(0.010, 10 * seconds(read, short)):
            return
    pytest.fail(f"{name} of {seed!r}: the time grows faster than the text")


@pytest.mark.parametrize("read", [read for read, _ in READERS.values()])
def test_very_long_numbers_and_deep_brackets_are_read_without_an_error(read):
    read("[" * 100_000 + "1, 2, 3, 4" + "]" * 100_000)
    read("9" * 100_000)
    read("[" + "9" * 100_000 + ", 1, 2, 3]")
    read("1." + "3" * 100_000)


def test_a_number_of_two_thousand_digits_is_refused_as_a_coordinate():
    assert isinstance(read_box("[1, 2, 3, " + "4" * 2000 + "]", SPACES[0]).answer, Unparsed)


@given(junk, st.sampled_from(SPACES))
def test_places_are_found_in_any_text(text, space):
    assert find_places(text, space)
