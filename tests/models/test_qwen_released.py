"""The released sizes: their configurations build, and their parameter names map, without a weight in memory."""

from __future__ import annotations

import json
from collections import Counter

import pytest
import torch
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import rename_source_key

from robointervlm.models.qwen2_5_vl.folder import read_config
from robointervlm.models.qwen2_5_vl.parts import part_of
from robointervlm.train.optimizer import let_learn, optimizers, summary
from robointervlm.train.recipe import ModelSection, OptimSection

# The config.json of Qwen/Qwen2.5-VL-3B-Instruct and -7B-Instruct, written by hand; the RoboInter-Qwen checkpoints are
# plain Qwen2.5-VL of the same sizes, with fields of experts left over.
VISION = {
    "depth": 32,
    "hidden_act": "silu",
    "hidden_size": 1280,
    "intermediate_size": 3420,
    "num_heads": 16,
    "in_chans": 3,
    "patch_size": 14,
    "spatial_merge_size": 2,
    "spatial_patch_size": 14,
    "window_size": 112,
    "fullatt_block_indexes": [7, 15, 23, 31],
    "tokens_per_second": 2,
    "temporal_patch_size": 2,
}
COMMON = {
    "architectures": ["Qwen2_5_VLForConditionalGeneration"],
    "attention_dropout": 0.0,
    "bos_token_id": 151643,
    "eos_token_id": 151645,
    "vision_start_token_id": 151652,
    "vision_end_token_id": 151653,
    "vision_token_id": 151654,
    "image_token_id": 151655,
    "video_token_id": 151656,
    "hidden_act": "silu",
    "initializer_range": 0.02,
    "max_position_embeddings": 128000,
    "model_type": "qwen2_5_vl",
    "rms_norm_eps": 1e-06,
    "rope_theta": 1000000.0,
    "sliding_window": 32768,
    "torch_dtype": "bfloat16",
    "use_cache": True,
    "use_sliding_window": False,
    "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]},
}
FLAT = {
    "3B": COMMON
    | {
        "hidden_size": 2048,
        "intermediate_size": 11008,
        "max_window_layers": 70,
        "num_attention_heads": 16,
        "num_hidden_layers": 36,
        "num_key_value_heads": 2,
        "tie_word_embeddings": True,
        "vocab_size": 151936,
        "vision_config": VISION | {"out_hidden_size": 2048},
    },
    "7B": COMMON
    | {
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "max_window_layers": 28,
        "num_attention_heads": 28,
        "num_hidden_layers": 28,
        "num_key_value_heads": 4,
        "tie_word_embeddings": False,
        "vocab_size": 152064,
        "vision_config": VISION | {"out_hidden_size": 3584},
    },
}
# A layer: query, key and value with bias, output, three of the MLP, two norms = 12. 36 (28) layers, embedding, norm.
# A vision block: qkv, projection and three of the MLP with bias, two norms = 12; 32 blocks, patch embedding.
# The merger: a norm and two layers with bias = 5. The 7B model has an output layer of its own.
TENSORS = {
    "3B": {"language": 36 * 12 + 2, "vision": 32 * 12 + 1, "merger": 5},
    "7B": {"language": 28 * 12 + 2 + 1, "vision": 32 * 12 + 1, "merger": 5},
}
# 3B: 151936*2048 + 36*77,076,992 + 2048; 32*19,702,200 + 1176*1280; 1280 + 5120*5121 + 5121*2048 - all adding up to the
# 3,754,622,976 and 8,292,166,656 parameters that the hub shows.
PARAMETERS = {
    "3B": {"language": 3_085_938_688, "vision": 631_975_680, "merger": 36_708_608},
    "7B": {"language": 7_615_616_512, "vision": 631_975_680, "merger": 44_574_464},
}
SIZES = ["3B", "7B"]


@pytest.fixture(scope="module")
def networks() -> dict[str, Qwen2_5_VLForConditionalGeneration]:
    with torch.device("meta"):
        return {size: Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig.from_dict(FLAT[size])) for size in SIZES}


def old_names(layers: int, *, tied: bool) -> list[str]:
    """The names on the hub, in the layout before transformers 4.52, written out by hand."""
    attention = [f"self_attn.{part}_proj.{kind}" for part in "qkv" for kind in ("weight", "bias")]
    layer = [*attention, "self_attn.o_proj.weight", "input_layernorm.weight", "post_attention_layernorm.weight"]
    layer += [f"mlp.{part}_proj.weight" for part in ("gate", "up", "down")]
    block = ["norm1.weight", "norm2.weight"]
    block += [f"attn.{part}.{kind}" for part in ("qkv", "proj") for kind in ("weight", "bias")]
    block += [f"mlp.{part}_proj.{kind}" for part in ("gate", "up", "down") for kind in ("weight", "bias")]
    merger = ["ln_q.weight", "mlp.0.weight", "mlp.0.bias", "mlp.2.weight", "mlp.2.bias"]
    return [
        "model.embed_tokens.weight",
        "model.norm.weight",
        *(f"model.layers.{number}.{name}" for number in range(layers) for name in layer),
        "visual.patch_embed.proj.weight",
        *(f"visual.blocks.{number}.{name}" for number in range(32) for name in block),
        *(f"visual.merger.{name}" for name in merger),
        *([] if tied else ["lm_head.weight"]),
    ]


def new_layout(name: str) -> str:
    if name.startswith("visual."):
        return f"model.{name}"
    return name.replace("model.", "model.language_model.", 1) if name.startswith("model.") else name


def zero3_layout(name: str) -> str:
    return f"model.{name}" if name.startswith(("visual.", "model.")) else name


@pytest.mark.parametrize("size", SIZES)
def test_a_released_configuration_builds(networks, size):
    config = networks[size].config
    assert config.text_config.rope_parameters["mrope_section"] == [16, 24, 24]
    assert config.text_config.rope_parameters["rope_theta"] == 1e6
    assert set(config.text_config.layer_types) == {"full_attention"}
    assert list(config.vision_config.fullatt_block_indexes) == [7, 15, 23, 31]
    assert networks[size].device.type == "meta"


@pytest.mark.parametrize("size", SIZES)
def test_the_parts_have_their_tensors_and_parameters(networks, size):
    tensors: Counter[str] = Counter()
    parameters: Counter[str] = Counter()
    for name, parameter in networks[size].named_parameters():
        tensors[part_of(name)] += 1
        parameters[part_of(name)] += parameter.numel()
    assert dict(tensors) == TENSORS[size]
    assert dict(parameters) == PARAMETERS[size]


def test_the_sums_are_the_published_numbers():
    assert {size: sum(parts.values()) for size, parts in TENSORS.items()} == {"3B": 824, "7B": 729}
    assert {size: sum(parts.values()) for size, parts in PARAMETERS.items()} == {
        "3B": 3_754_622_976,
        "7B": 8_292_166_656,
    }


@pytest.mark.parametrize("layout", [str, new_layout, zero3_layout])
@pytest.mark.parametrize("size", SIZES)
def test_parameter_names_of_every_layout_map_without_missing_or_unexpected(networks, size, layout):
    network = networks[size]
    config = FLAT[size]
    on_disk = [
        layout(name) for name in old_names(config["num_hidden_layers"], tied=bool(config["tie_word_embeddings"]))
    ]
    renamings = get_model_conversion_mapping(network)
    state = network.state_dict()
    mapped = [rename_source_key(name, renamings, [], network.base_model_prefix, state)[0] for name in on_disk]
    assert sorted(mapped) == sorted(name for name, _ in network.named_parameters())


# In the config.json of the RoboInter-Qwen checkpoints, which have no experts: the training code writes them always.
LEFT_OVER = {
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "adaptive_gate": True,
    "moe_intermediate_size": 256,
    "norm_topk_prob": 0.01,
    "mlp_only_layers": [],
    "decoder_sparse_step": 1,
}


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_left_over_fields_of_experts_change_no_parameter_of_a_released_size(networks, tmp_path, size, nested):
    text = {key: value for key, value in FLAT[size].items() if key not in ("vision_config", "architectures")}
    more = {"text_config": {**text, **LEFT_OVER, "model_type": "qwen2_5_vl_text"}} if nested else {}
    (tmp_path / "config.json").write_text(json.dumps({**FLAT[size], **LEFT_OVER, **more}))
    layers, tied = FLAT[size]["num_hidden_layers"], bool(FLAT[size]["tie_word_embeddings"])
    on_disk = old_names(layers, tied=tied)
    index = {"weight_map": dict.fromkeys(on_disk, "model-00001-of-00002.safetensors")}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    config = read_config(str(tmp_path))
    assert not any(key in json.dumps(config.to_dict()) for key in LEFT_OVER)
    with torch.device("meta"):
        network = Qwen2_5_VLForConditionalGeneration(config)
    shapes = {name: parameter.shape for name, parameter in network.named_parameters()}
    assert shapes == {name: parameter.shape for name, parameter in networks[size].named_parameters()}
    renamings, state = get_model_conversion_mapping(network), network.state_dict()
    mapped = [rename_source_key(name, renamings, [], network.base_model_prefix, state)[0] for name in on_disk]
    assert sorted(mapped) == sorted(shapes)


@pytest.mark.parametrize("tune", [("language", "merger", "vision"), ("lora", "merger"), ("lora", "vision")])
def test_every_learning_parameter_of_the_3b_model_has_its_rate_and_no_vector_decays(tune):
    with torch.device("meta"):
        network = Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig.from_dict(FLAT["3B"]))
    let_learn(network, ModelSection(path="-", tune=tune), seed=0)
    settings = OptimSection(language_lr=1e-3, merger_lr=2e-3, vision_lr=3e-3, lora_lr=5e-3, weight_decay=0.1)
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    rates = {"language": 1e-3, "merger": 2e-3, "vision": 3e-3, "lora": 5e-3}
    (optimizer,) = optimizers(network, settings)
    found = [(names[id(p)], group) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(name for name, _ in found) == sorted(n for n, p in network.named_parameters() if p.requires_grad)
    assert {part_of(name) for name, _ in found} == set(tune)
    for name, group in found:
        vector = name.endswith("bias") or "norm" in name or "ln_q" in name
        assert (group["peak_lr"], group["weight_decay"]) == (rates[part_of(name)], 0.0 if vector else 0.1), name
    # The factors of rank 16 of a layer, 2048 wide inside and 11008 in its MLP, with keys and values of 256.
    lora = 36 * 16 * (2 * (2048 + 2048) + 2 * (2048 + 256) + 3 * (2048 + 11008))
    counted = {row.part: row.trainable for row in summary(network, settings)}
    expected = PARAMETERS["3B"] | {"lora": lora}
    assert counted == {part: expected[part] if part in tune else 0 for part in counted}
