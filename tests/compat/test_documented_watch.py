"""The documented script's flags for trackers: nothing is sent anywhere unless one is named."""

from __future__ import annotations

from robointervlm.compat.training import train_overrides
from robointervlm.runs.settings import load_recipe
from robointervlm.train.recipe import TrainRecipe


def test_report_to_none_names_no_tracker():
    assert train_overrides({"report_to": "none", "run_name": "first"}) == ['watch.name="first"']
    assert load_recipe(TrainRecipe, None, ["model.path=m", "mixture=[a]", "run.dir=r"]).watch.to == ()


def test_wandb_takes_the_project_of_its_variable(monkeypatch):
    monkeypatch.setenv("WANDB_PROJECT", "arms")
    assert train_overrides({"report_to": "wandb"}) == ['watch.to=["wandb"]', 'watch.project="arms"']


def test_a_variable_alone_sends_nothing(monkeypatch):
    monkeypatch.setenv("WANDB_PROJECT", "arms")
    assert train_overrides({"report_to": "tensorboard"}) == ['watch.to=["tensorboard"]']
