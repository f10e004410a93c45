"""What a checkpoint holds of a network: what learns, and whether the rest is still the same.

The second network that is made of gathered weights answers as the first would, and shares nothing that moves.
"""

from __future__ import annotations

import pytest
import torch

from robointervlm.core.errors import RecipeError
from robointervlm.core.prompt import Decoding, Message, Prompt
from robointervlm.models.qwen2_5_vl import Lora, Section
from robointervlm.models.qwen2_5_vl.attention import use_packed_attention
from robointervlm.models.qwen2_5_vl.lora import add_lora
from robointervlm.models.qwen2_5_vl.network import Qwen25VL
from robointervlm.models.qwen2_5_vl.state_dict import learned_state, load_learned_state, whole_network
from robointervlm.models.qwen2_5_vl_moe.upcycle import Shape, upcycled
from robointervlm.train.optimizer import freeze
from tiny_models import fresh_model, noise


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


CPU = torch.device("cpu")
PROMPTS = [
    Prompt((Message("user", "<image>\nWhere is the cup?"),), (noise(84, 56),)),
    Prompt((Message("user", "Is it open?"),), ()),
]


def weights_of(model: Qwen25VL, dtype: torch.dtype | None = None) -> dict[str, torch.Tensor]:
    return {name: each.detach().clone().to(dtype) for name, each in model.network.state_dict().items()}


def whole_of(model: Qwen25VL, dtype: torch.dtype | None = None) -> Qwen25VL:
    network = whole_network(model.network, weights_of(model, dtype), CPU)
    return Qwen25VL(network, model.encoder, name="whole")


def texts(model: Qwen25VL) -> list[str]:
    return [reply.text for reply in model.answer(PROMPTS, Decoding(max_new_tokens=12))]


def with_experts() -> Qwen25VL:
    model = upcycled(fresh_model(), Shape(num_experts=4, num_experts_per_tok=2, moe_intermediate_size=24), seed=0)
    with torch.no_grad():
        for name, parameter in model.network.named_parameters():
            if name.endswith("experts_scaler"):
                parameter.fill_(0.5)
    return model


@pytest.mark.parametrize("make", [fresh_model, with_experts])
def test_a_gathered_network_is_of_the_same_class_and_answers_the_same(make):
    model = make()
    use_packed_attention(model.network)
    model.network.train()
    generators = torch.random.get_rng_state()
    whole = whole_of(model)
    assert torch.equal(torch.random.get_rng_state(), generators)
    assert type(whole.network) is type(model.network)
    assert not whole.network.training
    assert whole.network.config.text_config._attn_implementation == "robointer_packed"
    model.network.eval()
    said = texts(model)
    assert texts(whole) == said
    assert any(said), "nothing was answered, nothing compared"


def test_words_that_are_tied_stay_tied_when_gathered():
    network = whole_of(fresh_model()).network
    assert network.lm_head.weight is network.model.language_model.embed_tokens.weight


def test_gathered_low_rank_updates_are_merged_as_in_the_exported_model(tmp_path):
    model = fresh_model()
    add_lora(model.network, Lora(), seed=0)
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.network.named_parameters():
            if ".lora_B." in name:
                parameter.normal_(std=0.1)
    model.save(tmp_path)
    exported = Qwen25VL.load(Section(path=str(tmp_path), device="cpu"))
    whole = whole_of(model)
    for (name, ours), (other, theirs) in zip(
        sorted(whole.network.state_dict().items()), sorted(exported.network.state_dict().items()), strict=True
    ):
        assert name == other
        assert torch.equal(ours, theirs), name
    assert texts(whole) == texts(exported) != texts(fresh_model())


def test_a_gathered_network_computes_in_the_precision_of_its_weights_with_float32_angles():
    network = whole_of(fresh_model(), torch.bfloat16).network
    assert {parameter.dtype for parameter in network.parameters()} == {torch.bfloat16}
    assert network.model.language_model.rotary_emb.inv_freq.dtype is torch.float32
    assert all(buffer.device == CPU for buffer in network.buffers())
