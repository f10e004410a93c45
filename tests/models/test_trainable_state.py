"""What a checkpoint holds of a network: what learns, and whether the rest is still the same."""

from __future__ import annotations

import pytest
import torch

from robointervlm.core.errors import RecipeError
from robointervlm.models.qwen2_5_vl import Lora
from robointervlm.models.qwen2_5_vl.lora import add_lora
from robointervlm.models.qwen2_5_vl.trainable_state import learned_state, load_learned_state
from robointervlm.train.optimizer import freeze
from tiny_models import fresh_model


def tuned(*parts: str, rank: int = 4, seed: int = 0):
    network = fresh_model(seed).network
    if "lora" in parts:
        add_lora(network, Lora(rank=rank), seed=0)
    freeze(network, parts)
    return network


def test_only_what_learns_is_kept_and_comes_back_to_the_last_bit():
    network = tuned("lora", "merger")
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter))
    state = learned_state(network)
    # Two factors for seven matrices of two layers, and the merger's five tensors.
    assert len(state["parameters"]) == 2 * 7 * 2 + 5
    other = tuned("lora", "merger")
    load_learned_state(other, state)
    ours, theirs = network.state_dict(), other.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_another_base_is_refused():
    state = learned_state(tuned("lora"))
    with pytest.raises(RecipeError, match="not those the run was begun with"):
        load_learned_state(tuned("lora", seed=1), state)


def test_a_base_in_another_precision_is_refused():
    state = learned_state(tuned("merger"))
    other = tuned("merger")
    other.model.language_model.to(torch.bfloat16)
    with pytest.raises(RecipeError, match=r"model\.dtype"):
        load_learned_state(other, state)


@pytest.mark.parametrize("now", [("merger",), ("lora",)])
def test_a_state_of_other_parts_is_refused(now):
    state = learned_state(tuned("vision"))
    with pytest.raises(RecipeError, match="other parameters learned"):
        load_learned_state(tuned(*now), state)


def test_a_state_of_another_rank_is_refused():
    state = learned_state(tuned("lora", rank=4))
    with pytest.raises(RecipeError, match="lora_A"):
        load_learned_state(tuned("lora", rank=8), state)


def test_a_model_that_learns_as_a_whole_can_start_from_any_base():
    # Nothing is frozen, so nothing of the base is left to compare.
    network = tuned("language", "merger", "vision")
    other = tuned("language", "merger", "vision", seed=1)
    load_learned_state(other, learned_state(network))
    assert torch.equal(other.lm_head.weight, network.lm_head.weight)
