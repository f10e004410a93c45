"""One process: what an engine keeps, what it hands out, and what is missing without its library."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import nn

from robointervlm.core.errors import RecipeError
from robointervlm.train.engines.engine import gathered
from robointervlm.train.run import train
from tiny_models import losses, train_recipe


def test_gathered_weights_stay_tied_and_are_not_kept_where_nobody_wants_them():
    network = nn.ModuleDict({"words": nn.Embedding(3, 2), "head": nn.Linear(2, 3, bias=False)})
    network["head"].weight = network["words"].weight
    found = gathered(network, lambda parameter: parameter.detach().clone(), keep=True)
    assert list(found) == ["words.weight", "head.weight"]
    assert found["words.weight"] is found["head.weight"]
    assert torch.equal(found["words.weight"], network["words"].weight)
    assert gathered(network, lambda parameter: parameter.detach().clone(), keep=False) == {}


def test_one_process_shards_as_it_trains_alone(catalog, tiny_folder, tmp_path):
    for strategy in ("ddp", "fsdp"):
        train(train_recipe(tiny_folder, catalog, tmp_path / strategy, f"run.strategy={strategy}", "run.max_steps=2"))
    assert list(losses(tmp_path / "fsdp").values()) == pytest.approx(list(losses(tmp_path / "ddp").values()), rel=1e-5)


def test_a_checkpoint_of_another_strategy_is_refused(catalog, tiny_folder, tmp_path):
    train(train_recipe(tiny_folder, catalog, tmp_path / "run", "run.save_every=1", "run.max_steps=2"))
    (tmp_path / "run" / "result.json").unlink()
    with pytest.raises(RecipeError, match="belongs to another recipe: run.strategy was ddp, is fsdp"):
        train(train_recipe(tiny_folder, catalog, tmp_path / "run", "run.strategy=fsdp", "run.max_steps=2"))


def test_without_deepspeed_the_extra_is_named(catalog, tiny_folder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "deepspeed", None)
    (tmp_path / "zero.json").write_text('{"zero_optimization": {"stage": 2}}')
    with pytest.raises(RecipeError, match=r"needs DeepSpeed .*pip install 'robointervlm\[scale\]'"):
        train(train_recipe(tiny_folder, catalog, tmp_path / "run", f"run.deepspeed={tmp_path / 'zero.json'}"))
