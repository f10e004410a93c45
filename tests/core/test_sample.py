import pytest

from robointervlm.core.answer import Text
from robointervlm.core.sample import Place, Sample, Turn, written_question


def test_a_question_without_places_needs_no_space():
    assert written_question(("<image>\nWhere is the cup?",), None) == "<image>\nWhere is the cup?"


def test_a_question_with_a_place_needs_the_space_of_its_image():
    with pytest.raises(ValueError, match="no image"):
        written_question(("at ", Place(((1, 2),), "[{}, {}]")), None)


def test_the_question_and_the_answer_of_a_sample_are_those_of_its_last_turn():
    turns = (Turn(("Who?",), Text("Kane")), Turn(("Where?",), Text("Munich")))
    sample = Sample("1", "chat", "demo", (), turns, None)
    assert (sample.question, sample.answer) == (("Where?",), Text("Munich"))
