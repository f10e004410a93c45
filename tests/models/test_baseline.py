"""Answers that never look at the picture."""

from __future__ import annotations

import pytest

from robointervlm.core.coordinates import CoordinateFormat, ImageSize
from robointervlm.core.errors import RecipeError
from robointervlm.core.prompt import Decoding, Message, Prompt
from robointervlm.models.baseline import BaselineModel
from robointervlm.models.model import load_model


def asked(model: BaselineModel, count: int) -> list[str]:
    prompts = [Prompt((Message("user", f"Where is object {number}?"),)) for number in range(count)]
    return [reply.text for reply in model.answer(prompts, Decoding())]


def test_one_text_answers_everything():
    assert asked(BaselineModel(["[1, 2]"], "mean"), 3) == ["[1, 2]"] * 3


def test_several_texts_are_all_used_and_a_question_keeps_its_answer():
    model = BaselineModel(["a", "b", "c"], "random")
    first = asked(model, 60)
    assert set(first) == {"a", "b", "c"}
    assert asked(model, 60) == first
    assert asked(BaselineModel(["a", "b", "c"], "again"), 60)[::-1] == first[::-1]


def test_the_fingerprint_follows_texts_and_coordinates():
    pixel, unit = CoordinateFormat.PIXEL, CoordinateFormat.UNIT
    models = [BaselineModel(["a"], "n"), BaselineModel(["b"], "n"), BaselineModel(["a"], "n", unit)]
    assert len({model.fingerprint for model in models}) == 3
    assert BaselineModel(["a"], "other name", pixel).fingerprint == models[0].fingerprint


def test_it_sees_pictures_in_their_own_size():
    assert BaselineModel(["a"], "n").processed_size(ImageSize(320, 180)) == (320, 180)


def test_a_recipe_makes_one():
    model = load_model({"family": "baseline", "texts": ["Yes"], "coordinates": "per_mille"})
    assert isinstance(model, BaselineModel)
    assert model.coordinates is CoordinateFormat.PER_MILLE


def test_without_a_text_there_is_no_model():
    with pytest.raises(RecipeError, match="texts"):
        load_model({"family": "baseline", "texts": []})
