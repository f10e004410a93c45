"""Wrong settings are named one by one, with the nearest key; a secret is never repeated."""

from __future__ import annotations

import pytest
from pydantic import BaseModel, ConfigDict

from robointervlm.core.errors import RecipeError
from robointervlm.settings.explained import checked


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")
    colour: str


class Outer(BaseModel):
    model_config = ConfigDict(extra="forbid")
    inner: Inner
    size: int = 1


def said(values: dict[str, object], **how: bool) -> str:
    with pytest.raises(RecipeError) as caught:
        checked(Outer, values, source="a.yaml", **how)
    return str(caught.value)


def test_an_unknown_key_is_named_with_the_nearest():
    assert (
        said({"inner": {"colour": "red", "color": "red"}}) == "a.yaml: key 'inner.color' is not known; nearest: colour"
    )


def test_a_missing_key_says_how_to_give_it_only_where_it_can_be_given():
    assert said({}) == "a.yaml: 'inner' is missing"
    assert said({}, overridable=True) == "a.yaml: 'inner' is missing; give it in the recipe or as inner=…"


def test_a_wrong_value_is_repeated_unless_it_may_be_a_secret():
    values = {"inner": {"colour": "red"}, "size": "hunter2"}
    assert "'size' is 'hunter2': " in said(values)
    assert "hunter2" not in said(values, secret=True)


def test_right_values_are_the_model():
    assert checked(Outer, {"inner": {"colour": "red"}}, source="x") == Outer(inner=Inner(colour="red"))
