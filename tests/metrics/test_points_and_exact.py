import pytest

from robointervlm.core.answer import Box, Choice, Text, YesNo
from robointervlm.metrics.exact import exact
from robointervlm.metrics.points import contact_distance


def test_the_order_of_the_fingers_does_not_count():
    assert contact_distance([[10, 0], [0, 0]], [[0, 0], [10, 0]]) == 0


def test_a_contact_is_as_far_off_as_its_fingers_on_average():
    assert contact_distance([[3, 4], [100, 12]], [[0, 0], [100, 0]]) == 8.5  # (5 + 12) / 2
    assert contact_distance([[100, 12], [3, 4]], [[0, 0], [100, 0]]) == 8.5


@pytest.mark.parametrize("points", [[], [[1, 2]], [[1, 2, 3], [4, 5, 6]], [[1, 2], [3, 4], [5, 6]]])
def test_a_malformed_contact_is_an_error_and_never_a_perfect_one(points):
    # The published metric gave 0, the best value.
    with pytest.raises(ValueError, match="two points"):
        contact_distance(points, [[0, 0], [10, 0]])


def test_answers_are_exact_or_not():
    assert exact(Choice("A"), Choice("A")) == 1
    assert exact(Choice("A"), Choice("B")) == 0
    assert exact(YesNo(yes=True), YesNo(yes=True)) == 1
    assert exact(YesNo(yes=False), Choice("B")) == 0
    assert exact(Box(0, 0, 1, 1), Text("0 0 1 1")) == 0


def test_white_space_in_texts_does_not_count_but_words_do():
    assert exact(Text(" pick  up\nthe cup"), Text("pick up the cup ")) == 1
    assert exact(Text("pick up the cup."), Text("pick up the cup")) == 0
