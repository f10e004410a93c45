"""The training recipes that are shipped."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from robointervlm.data.mixture import parse_entries
from robointervlm.data.spec import Catalog
from robointervlm.episodes.sim.scene import COLOURS, GRASPABLE
from robointervlm.runs.settings import load_recipe
from robointervlm.train.recipe import TrainRecipe

RECIPES = Path(__file__).parents[2] / "recipes" / "train"
BASE = RECIPES / "tiny_base"


@pytest.mark.parametrize("path", ["sft.yaml", "frames_overfit.yaml", "tiny_base/stage.yaml"])
def test_a_recipe_is_valid(path):
    assert load_recipe(TrainRecipe, RECIPES / path).mixture


def test_the_colours_of_the_base_model_are_those_of_the_simulator():
    catalog = Catalog(BASE / "catalog.yaml")
    things = {thing for name in COLOURS for thing in catalog[f"grounding_{name}"].where["thing"]}
    assert things == {f"{colour} {shape}" for colour in COLOURS for shape in GRASPABLE}


def test_every_stage_of_the_base_model_names_datasets_that_exist():
    script = (BASE / "make.sh").read_text()
    written = re.findall(r"^stage \S+ \S+ (?:\\\n\s+)?(\S+) \d+", script, re.M)
    assert len(written) >= 8
    catalog = Catalog(BASE / "catalog.yaml")
    for mixture in written:
        assert all(entry.name in catalog for entry in parse_entries(mixture))
