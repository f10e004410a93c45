"""BLEU, in the two published recipes and in sacrebleu's."""

import random
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robointervlm.metrics.text import Bleu, published_bleu, sacre_bleu, strict_bleu

WORDS = ["pick", "up", "the", "red", "cup", "place", "it", "on", "a", "plate", ""]


def test_a_plan_with_one_wrong_word_is_worked_out_by_hand():
    # 3 of 4 words, 2 of 3 pairs, 1 of 2 triples, and a tenth of a match for the one quadruple, which there is not.
    found = published_bleu("pick up the cup", "pick up the plate")
    assert found.bleu1 == pytest.approx(3 / 4)
    assert found.bleu2 == pytest.approx((3 / 4 * 2 / 3) ** 0.5)
    assert found.bleu3 == pytest.approx((3 / 4 * 2 / 3 * 1 / 2) ** 0.33)
    assert found.bleu4 == pytest.approx((3 / 4 * 2 / 3 * 1 / 2 * 0.1) ** 0.25)
    assert found.mean == pytest.approx(sum(found) / 4)


def test_a_short_answer_pays_for_its_brevity():
    assert published_bleu("pick", "pick up it").bleu1 == pytest.approx(0.1353352832)  # exp(1 - 3 / 1)


def test_a_word_counts_as_often_as_the_reference_has_it():
    assert published_bleu("the the the the", "the cup the plate").bleu1 == pytest.approx(2 / 4)


def test_without_smoothing_a_missing_order_is_next_to_nothing():
    assert 0 < published_bleu("pick up the cup", "pick up the plate", "none").bleu4 < 1e-70
    assert published_bleu("pick up the cup", "pick up the plate", "method1").bleu4 > 0.3


def test_two_empty_texts_are_alike_as_published_and_never_strictly():
    assert published_bleu("", "") == Bleu(1, 1, 1, 1)
    assert strict_bleu("", "") == strict_bleu(" \n", "") == Bleu(0, 0, 0, 0)
    assert sacre_bleu("", "") == sacre_bleu("  ", "  ") == 0


def test_spaces_are_words_as_published_and_not_strictly():
    assert published_bleu(" pick up the cup", "pick up the cup").bleu1 == pytest.approx(4 / 5)
    assert strict_bleu("  pick  up the\ncup ", "pick up the cup") == Bleu(1, 1, 1, 1)


def test_sacrebleu_is_perfect_for_the_reference_and_knows_punctuation():
    assert sacre_bleu("pick up the cup", "pick up the cup") == 1
    # The full stop is a word of its own: 4/5, 3/4, 2/3, 1/2 of the n-grams, no brevity.
    assert sacre_bleu("pick up the cup.", "pick up the cup") == pytest.approx((4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25)
    assert sacre_bleu("cup", "cup") == 1  # effective order: orders that a text cannot have do not count
    assert sacre_bleu("plate", "cup") == 0


texts = st.text("ab .\n", max_size=12)


@pytest.mark.parametrize("measure", [lambda *pair: strict_bleu(*pair).mean, sacre_bleu])
@given(texts, texts)
def test_no_strict_value_is_out_of_range_and_an_empty_answer_is_never_better(measure, predicted, reference):
    assert 0 <= measure("", reference) == 0 <= measure(predicted, reference) <= 1


@pytest.mark.parametrize("measure", [lambda *pair: strict_bleu(*pair).mean, sacre_bleu])
@given(st.lists(st.sampled_from(WORDS[:-1]), min_size=1, max_size=9).map(" ".join))
def test_nothing_is_better_than_the_reference(measure, reference):
    assert measure(reference, reference) == pytest.approx(1)


def published_weights(length):
    """The four weights of the release, by the words of the reference."""
    one, two, three, four = (1,), (0.5, 0.5), (0.33, 0.33, 0.33), (0.25, 0.25, 0.25, 0.25)
    return {0: [one] * 4, 1: [one] * 4, 2: [one, two, two, two], 3: [one, two, three, three]}.get(
        length, [one, two, three, four]
    )


@pytest.mark.parametrize("smoothing", ["method1", "none"])
def test_both_recipes_are_those_of_nltk_for_ten_thousand_pairs(smoothing):
    nltk_bleu = pytest.importorskip("nltk.translate.bleu_score")
    smooth = nltk_bleu.SmoothingFunction().method1 if smoothing == "method1" else None
    generator = random.Random(3)
    lengths = {0: 0, 1: 0, 2: 0, 3: 0}
    for _ in range(10_000):
        reference = " ".join(generator.choices(WORDS, k=generator.randrange(12)))
        predicted = generator.choice(
            [reference, reference[:-1], "", " ".join(generator.choices(WORDS, k=generator.randrange(12)))]
        )
        words = reference.split(" ")
        lengths[len(words)] = lengths.get(len(words), 0) + 1
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # nltk warns of every order without a match
            expected = nltk_bleu.sentence_bleu(
                [words], predicted.split(" "), published_weights(len(words)), smoothing_function=smooth
            )
        assert list(published_bleu(predicted, reference, smoothing)) == pytest.approx(expected, rel=1e-9, abs=1e-300)
    assert min(lengths[words] for words in (1, 2, 3)) > 300
