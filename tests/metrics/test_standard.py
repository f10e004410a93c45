from robointervlm.core.answer import Box, Choice, Text, YesNo
from robointervlm.core.coordinates import ImageSize
from robointervlm.metrics.standard import exact, one_diagonal


def test_the_diagonal_of_a_picture():
    assert one_diagonal(Box(0, 0, 1, 1), ImageSize(30, 40)) == 50


def test_answers_are_exact_or_not():
    assert exact(Choice("A"), Choice("A")) == 1
    assert exact(Choice("A"), Choice("B")) == 0
    assert exact(YesNo(yes=True), YesNo(yes=True)) == 1
    assert exact(YesNo(yes=False), Choice("B")) == 0
    assert exact(Box(0, 0, 1, 1), Text("0 0 1 1")) == 0


def test_white_space_in_texts_does_not_count_but_words_do():
    assert exact(Text(" pick  up\nthe cup"), Text("pick up the cup ")) == 1
    assert exact(Text("pick up the cup."), Text("pick up the cup")) == 0
