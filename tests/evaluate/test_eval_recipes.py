from __future__ import annotations

import fnmatch
from pathlib import Path

import pytest

from robointervlm.data.spec import Catalog
from robointervlm.evaluate.recipe import EvaluationRecipe
from robointervlm.runs.settings import load_recipe

RECIPES = sorted((Path(__file__).parents[2] / "recipes" / "eval").glob("*.yaml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
def test_a_recipe_that_comes_with_the_project_is_right(path):
    recipe = load_recipe(EvaluationRecipe, path)
    catalog = Catalog()
    assert [name for name in recipe.data.mixture if not fnmatch.filter(catalog, name)] == []


def test_there_are_recipes():
    assert RECIPES
