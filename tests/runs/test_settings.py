from __future__ import annotations

from pathlib import Path

import pytest

from robointervlm.core.errors import RecipeError
from robointervlm.runs.settings import Settings, load_recipe, write_recipe


class Optim(Settings):
    language_lr: float = 5e-6
    schedule: str = "cosine"


class Where(Settings):
    dir: Path


class Recipe(Settings):
    run: Where
    optim: Optim = Optim()
    mixture: tuple[str, ...] = ()


def written(folder: Path, text: str) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(text)
    return path


def test_an_override_goes_before_the_file(tmp_path):
    path = written(tmp_path, "run: {dir: a}\noptim: {language_lr: 1.0e-5}\n")
    recipe = load_recipe(Recipe, path, ["optim.language_lr=2e-5", "mixture=[a%30, b]"])
    assert recipe.optim.language_lr == 2e-5
    assert recipe.mixture == ("a%30", "b")
    assert recipe.run.dir == Path("a")


@pytest.mark.parametrize(
    "text, overrides, said",
    [
        ("run: {dir: a}\noptim: {langage_lr: 1}\n", [], "key 'optim.langage_lr' is not known; nearest: language_lr"),
        ("run: {dir: a}\nlanguage_lr: 1\n", [], "key 'language_lr' is not known; nearest: optim.language_lr"),
        ("run: {dir: a}\nrunn: {dir: b}\n", [], "nearest: run"),
        ("optim: {}\n", [], "'run' is missing"),
        ("run: {}\n", [], "'run.dir' is missing; give it in the recipe or as run.dir="),
        ("run: {dir: a}\noptim: {language_lr: fast}\n", [], "'optim.language_lr' is 'fast': should be a valid number"),
        ("run: {dir: a}\nrun: {dir: b}\n", [], "'run' is given twice"),
        ("run: [", [], "is not YAML"),
        ("- a\n", [], "holds a list"),
        ("run: {dir: a}\n", ["optim.language_lr"], "is not an override"),
        ("run: {dir: a}\n", ["run.dir.x=1"], "'dir' is the value 'a', not a section"),
        ("run: {dir: a}\n", ["optim.schedule=[a"], "is not YAML"),
    ],
)
def test_a_wrong_recipe_is_one_clear_line(tmp_path, text, overrides, said):
    with pytest.raises(RecipeError) as caught:
        load_recipe(Recipe, written(tmp_path, text), overrides)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "pydantic" not in str(caught.value)


def test_the_file_is_named_in_the_error(tmp_path):
    with pytest.raises(RecipeError, match=r"recipe\.yaml"):
        load_recipe(Recipe, written(tmp_path, "run: {dri: a}\n"))


def test_a_recipe_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(RecipeError, match="does not exist"):
        load_recipe(Recipe, tmp_path / "none.yaml")


def test_the_written_recipe_repeats_the_run(tmp_path):
    recipe = load_recipe(Recipe, None, ["run.dir=a: b", "optim.language_lr=3e-6"])
    write_recipe(recipe, tmp_path / "out.yaml")
    assert load_recipe(Recipe, tmp_path / "out.yaml") == recipe
