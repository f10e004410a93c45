"""Numbers with a unit: read where a text leaves no doubt, and never converted."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robointervlm.core.answer import Number, Unparsed
from robointervlm.core.reading import answer_from_json, read_number
from robointervlm.core.writing import answer_to_json, write_answer


@pytest.mark.parametrize(
    "text, value, tier",
    [
        ("30", 30, "alone"),
        ("-12.5 deg", -12.5, "alone"),
        ("45°.", 45, "alone"),
        ('{"angle": 30}', 30, "json"),
        ('{"angle": "30 degrees"}', 30, "json"),
        ("angle: 7", 7, "labels"),
        ("```json\n{'angle': -7.25}\n```", -7.25, "labels"),
        ("Turn object 2 by about 30 degrees.", 30, "mention"),
        ("<think>20 or 25?</think>The gripper is turned by 45 deg.", 45, "mention"),
        ("30 degrees, so 30°", 30, "mention"),
    ],
)
def test_a_number_is_read_in_its_unit(text, value, tier):
    reading = read_number(text, key="angle", unit="deg")
    assert (reading.answer, reading.tier) == (Number(value, "deg"), tier)


@pytest.mark.parametrize(
    "text, reason",
    [
        ("", "the text is empty"),
        ("I cannot tell.", "there is no number"),
        ("a 2D grasp of 3 boxes", "there is no number"),
        ("0.5 rad", "0.5 is in rad, deg is asked for"),
        ("30-40 degrees", "a range of numbers is no answer"),
        ("20 degrees or 30 degrees", "a range of numbers is no answer"),
        ("20 degrees. No, 30 degrees", "2 different numbers"),
        ("1e999", "the number is too large"),
    ],
)
def test_a_text_in_doubt_is_no_number(text, reason):
    answer = read_number(text, key="angle", unit="deg").answer
    assert isinstance(answer, Unparsed)
    assert answer.reason == reason


@given(st.text(max_size=60))
def test_any_text_is_read_without_an_error(text):
    assert isinstance(read_number(text, key="a", unit="deg").answer, Number | Unparsed)


@pytest.mark.parametrize("key, text", [("angle", '{"angle": 30.5}'), ("", "30.5 deg")])
def test_a_number_is_written_so_that_it_is_read_back(key, text):
    answer = Number(30.5, "deg")
    assert write_answer(answer, None, key=key) == text
    assert read_number(text, key=key, unit="deg").answer == answer


def test_a_record_holds_a_number_with_its_unit():
    assert answer_to_json(Number(30.0, "deg")) == {"number": {"value": 30.0, "unit": "deg"}}
    assert answer_from_json({"number": {"value": 30, "unit": "deg"}}) == Number(30.0, "deg")
