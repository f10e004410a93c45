"""Low-rank updates: what they are put on, that they start at zero, and that merged they answer the same."""

from __future__ import annotations

import json

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText, Qwen2_5_VLForConditionalGeneration

from robointervlm.core.errors import ModelError
from robointervlm.models.qwen2_5_vl import Lora, Section
from robointervlm.models.qwen2_5_vl.lora import add_lora, merge_adapter, merged_state
from robointervlm.models.qwen2_5_vl.network import Qwen25VL
from robointervlm.models.qwen2_5_vl.parts import part_of
from robointervlm.models.qwen2_5_vl_moe.upcycle import Shape, upcycled
from robointervlm.train.optimizer import freeze
from tiny_models import SIZE, fresh_model

IDS = torch.tensor([[20, 30, 40, 50, 60]])
DEFAULT = Lora()
MIXTURE = Shape(num_experts=4, num_experts_per_tok=2, moe_intermediate_size=8)


def adapted(model: Qwen25VL, lora: Lora = DEFAULT, tune: tuple[str, ...] = ("lora",)) -> Qwen25VL:
    """The model with updates that count, and other values in all that learns."""
    add_lora(model.network, lora, seed=0)
    freeze(model.network, tune)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.network.parameters():
            if parameter.requires_grad:
                parameter.add_(0.02 * torch.randn_like(parameter))
    return model


def logits(network) -> torch.Tensor:
    with torch.no_grad():
        return network(input_ids=IDS).logits


def seen(model: Qwen25VL) -> torch.Tensor:
    """What comes out of vision tower and merger."""
    patches = torch.linspace(-1, 1, 16 * 1176).view(16, 1176)
    with torch.no_grad():
        return model.network.model.visual(patches, grid_thw=torch.tensor([[1, 4, 4]])).pooler_output


def loaded(folder) -> Qwen25VL:
    return Qwen25VL.load(Section(path=str(folder), device="cpu"))


def layers_of(network) -> set[str]:
    return {name.partition(".lora_A.")[0] for name, _ in network.named_parameters() if ".lora_A." in name}


def test_updates_are_zero_at_first_and_the_class_stays():
    model = fresh_model()
    before = logits(model.network)
    add_lora(model.network, Lora(), seed=0)
    assert type(model.network) is Qwen2_5_VLForConditionalGeneration
    assert torch.equal(logits(model.network), before)


def test_by_default_the_seven_linear_layers_of_each_language_layer_are_updated():
    network = fresh_model().network
    add_lora(network, Lora(rank=4), seed=0)
    parts = [f"self_attn.{name}_proj" for name in "qkvo"] + [f"mlp.{name}_proj" for name in ("gate", "up", "down")]
    assert layers_of(network) == {f"model.language_model.layers.{i}.{part}" for i in (0, 1) for part in parts}
    # q of the tiny model: 64 to 64.
    shapes = {
        name.rpartition("q_proj.")[2]: tuple(p.shape)
        for name, p in network.named_parameters()
        if "0.self_attn.q" in name
    }
    assert shapes["lora_A.default.weight"] == (4, 64)
    assert shapes["lora_B.default.weight"] == (64, 4)


def test_targets_and_vision_are_chosen_by_the_recipe():
    network = fresh_model().network
    add_lora(network, Lora(targets=("q_proj",), vision=True), seed=0)
    language = {name for name in layers_of(network) if "language_model" in name}
    assert language == {f"model.language_model.layers.{i}.self_attn.q_proj" for i in (0, 1)}
    vision = ["attn.qkv", "attn.proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"]
    assert layers_of(network) - language == {f"model.visual.blocks.{i}.{part}" for i in (0, 1) for part in vision}


def test_experts_and_routers_are_not_touched():
    network = upcycled(fresh_model(), MIXTURE, seed=0).network
    add_lora(network, Lora(), seed=0)
    assert len(layers_of(network)) == 2 * 7
    assert not any("moe_block" in name for name in layers_of(network))


def test_the_draw_depends_on_the_seed_alone():
    drawn = []
    for seed, other in ((0, 1), (0, 2), (3, 1)):
        torch.manual_seed(other)
        network = fresh_model().network
        add_lora(network, Lora(), seed=seed)
        drawn.append(network.model.language_model.layers[0].mlp.up_proj.lora_A["default"].weight)
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_updates_are_float32_beside_weights_of_half_the_size():
    network = fresh_model().network.to(torch.bfloat16)
    add_lora(network, Lora(), seed=0)
    kinds = {part_of(name): parameter.dtype for name, parameter in network.named_parameters()}
    assert (kinds["lora"], kinds["language"]) == (torch.float32, torch.bfloat16)


CASES = {
    "language": (Lora(), ("lora",)),
    "few layers": (Lora(rank=2, alpha=3, targets=("v_proj", "down_proj")), ("lora",)),
    "with vision": (Lora(vision=True), ("lora",)),
    "merger in full": (Lora(), ("lora", "merger")),
    "vision in full": (Lora(), ("lora", "vision")),
    "both in full": (Lora(), ("lora", "vision", "merger")),
}


@pytest.mark.parametrize("case", CASES)
def test_the_saved_folder_answers_as_the_adapted_model_by_itself_through_peft_and_merged_by_hand(case, tmp_path):
    fresh_model().save(tmp_path / "base")
    lora, tune = CASES[case]
    model = adapted(loaded(tmp_path / "base"), lora, tune)
    model.save(tmp_path / "saved")
    ours, saw = logits(model.network), seen(model)

    alone = loaded(tmp_path / "saved")
    assert alone.network.state_dict().keys() == fresh_model().network.state_dict().keys()
    assert (logits(alone.network) - ours).abs().max() < 1e-5
    assert (seen(alone) - saw).abs().max() < 1e-5

    base = AutoModelForImageTextToText.from_pretrained(tmp_path / "base", dtype=torch.float32)
    through_peft = PeftModel.from_pretrained(base, str(tmp_path / "saved" / "adapter")).eval()
    assert (logits(through_peft) - ours).abs().max() < 1e-5

    by_hand = loaded(tmp_path / "base")
    merge_adapter(by_hand, tmp_path / "saved" / "adapter")
    assert (logits(by_hand.network) - ours).abs().max() < 1e-5
    assert (seen(by_hand) - saw).abs().max() < 1e-5


def test_what_is_merged_is_w_plus_alpha_over_rank_b_a():
    model = fresh_model()
    add_lora(model.network, Lora(rank=2, alpha=6), seed=0)
    layer = model.network.model.language_model.layers[1].mlp.down_proj
    with torch.no_grad():
        layer.base_layer.weight.fill_(0.5)
        layer.lora_A["default"].weight.fill_(2.0)
        layer.lora_B["default"].weight.fill_(0.1)
    merged = merged_state(model.network, model.network.state_dict())
    # The 0.5 of W and six halves of twice 0.1 times 2.
    assert torch.allclose(merged["model.language_model.layers.1.mlp.down_proj.weight"], torch.tensor(1.7))


def test_saving_changes_nothing_in_the_network(tmp_path):
    model = adapted(fresh_model(), tune=("lora", "merger"))
    before = {name: tensor.clone() for name, tensor in model.network.state_dict().items()}
    model.save(tmp_path / "saved")
    after = model.network.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_the_precision_of_the_weights_is_kept(tmp_path):
    model = fresh_model()
    model.network.to(torch.bfloat16)
    adapted(model).save(tmp_path / "saved")
    assert {tensor.dtype for tensor in load_file(tmp_path / "saved" / "model.safetensors").values()} == {torch.bfloat16}


def test_the_adapter_names_its_base_and_what_learned_in_full(tmp_path):
    fresh_model().save(tmp_path / "base")
    adapted(loaded(tmp_path / "base"), tune=("lora", "merger")).save(tmp_path / "saved")
    config = json.loads((tmp_path / "saved" / "adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(tmp_path / "base")
    assert (config["r"], config["lora_alpha"], config["modules_to_save"]) == (16, 32, ["merger"])
    names = load_file(tmp_path / "saved" / "adapter" / "adapter_model.safetensors").keys()
    # Two factors of seven matrices in two layers, and the merger's five tensors.
    assert len(names) == 2 * 7 * 2 + 5


def test_a_model_with_experts_is_merged_with_them(tmp_path):
    dense = fresh_model()
    mixed = upcycled(dense, MIXTURE, seed=0)
    model = adapted(mixed, tune=("lora", "experts"))
    model.save(tmp_path / "saved")
    assert (logits(loaded(tmp_path / "saved").network) - logits(model.network)).abs().max() < 1e-5
    # Experts have no place in an adapter; one without them would answer otherwise.
    assert not (tmp_path / "saved" / "adapter").exists()


def test_an_adapted_model_has_a_fingerprint_of_its_own():
    model = fresh_model()
    before = model.fingerprint
    adapted(model)
    assert model.fingerprint != before


def test_a_folder_without_an_adapter_is_named(tmp_path):
    with pytest.raises(ModelError, match=r"is no adapter: it has no adapter_config.json"):
        merge_adapter(fresh_model(), tmp_path)


def test_an_adapter_of_another_shape_is_refused(tmp_path):
    adapted(fresh_model()).save(tmp_path / "saved")
    wider = fresh_model(size=SIZE.model_copy(update={"language_width": 128}))
    with pytest.raises(ModelError, match="does not fit 'tiny'"):
        merge_adapter(wider, tmp_path / "saved" / "adapter")


def test_an_adapter_that_lacks_a_layer_is_refused(tmp_path):
    adapted(fresh_model()).save(tmp_path / "saved")
    file = tmp_path / "saved" / "adapter" / "adapter_model.safetensors"
    tensors = load_file(file)
    tensors.pop(min(tensors))
    save_file(tensors, file)
    with pytest.raises(ModelError, match="is not in it"):
        merge_adapter(fresh_model(), tmp_path / "saved" / "adapter")
