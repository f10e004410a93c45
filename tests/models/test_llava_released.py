"""LLaVA-OneVision 7B as published, in both layouts: every name has a place, and no parameter is left without one."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlavaOnevisionConfig, LlavaOnevisionForConditionalGeneration
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import rename_source_key

from robointervlm.core.coordinates import ImageSize
from robointervlm.core.errors import ModelError
from robointervlm.models.llava_onevision.anyres import LlavaImageEncoder, _config, _processor
from robointervlm.models.llava_onevision.llava_next import KEYS, UNUSED, is_llava_next, read_llava_next

# 36 canvases of 1 to 6 tiles of 384 pixels each way.
PINPOINTS = [[384 * first, 384 * second] for first in range(1, 7) for second in range(1, 7)]
LANGUAGE = {
    "attention_dropout": 0.0,
    "hidden_act": "silu",
    "hidden_size": 3584,
    "initializer_range": 0.02,
    "intermediate_size": 18944,
    "max_position_embeddings": 32768,
    "max_window_layers": 28,
    "num_attention_heads": 28,
    "num_hidden_layers": 28,
    "num_key_value_heads": 4,
    "rms_norm_eps": 1e-06,
    "rope_theta": 1000000.0,
    "use_cache": True,
    "use_sliding_window": False,
    "vocab_size": 152064,
}
# transformers' layout.
CONVERTED: dict[str, Any] = {
    "architectures": ["LlavaOnevisionForConditionalGeneration"],
    "ignore_index": -100,
    "image_aspect_ratio": "anyres_max_9",
    "image_grid_pinpoints": PINPOINTS,
    "image_token_index": 151646,
    "model_type": "llava_onevision",
    "projector_hidden_act": "gelu",
    "text_config": {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", **LANGUAGE},
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "use_image_newline_parameter": True,
    "video_token_index": 151647,
    "vision_aspect_ratio": "anyres_max_9",
    "vision_config": {
        "hidden_size": 1152,
        "image_size": 384,
        "intermediate_size": 4304,
        "model_type": "siglip_vision_model",
        "num_attention_heads": 16,
        "num_hidden_layers": 26,
        "patch_size": 14,
        "vision_use_head": False,
    },
    "vision_feature_layer": -1,
    "vision_feature_select_strategy": "full",
}
# The layout of the LLaVA-NeXT code, with all that its training writes into a config.json.
ORIGINAL: dict[str, Any] = {
    "architectures": ["LlavaQwenForCausalLM"],
    "model_type": "llava_qwen",
    **LANGUAGE,
    "add_faster_video": False,
    "bos_token_id": 151643,
    "eos_token_id": 151645,
    "faster_token_stride": 10,
    "force_sample": False,
    "image_aspect_ratio": "anyres_max_9",
    "image_crop_resolution": None,
    "image_grid_pinpoints": PINPOINTS,
    "image_split_resolution": None,
    "image_token_index": 151646,
    "mm_hidden_size": 1152,
    "mm_newline_position": "grid",
    "mm_patch_merge_type": "spatial_unpad",
    "mm_projector_lr": None,
    "mm_projector_type": "mlp2x_gelu",
    "mm_resampler_type": None,
    "mm_spatial_pool_mode": "bilinear",
    "mm_spatial_pool_stride": None,
    "mm_tunable_parts": "mm_vision_tower,mm_mlp_adapter,mm_language_model",
    "mm_use_im_patch_token": False,
    "mm_use_im_start_end": False,
    "mm_vision_select_feature": "patch",
    "mm_vision_select_layer": -2,
    "mm_vision_tower": "google/siglip-so400m-patch14-384",
    "mm_vision_tower_lr": 4e-06,
    "pos_skipping_range": 4096,
    "rope_scaling": None,
    "sliding_window": 131072,
    "tie_word_embeddings": False,
    "tokenizer_model_max_length": 32768,
    "tokenizer_padding_side": "right",
    "torch_dtype": "bfloat16",
    "use_mm_proj": True,
    "vision_tower_pretrained": None,
}
# 28 layers of 12 tensors, a norm, an embedding, an output layer; 26 layers of 16, a patch embedding of 2, positions, a
# norm of 2; two layers between them; the end of a row.
TENSORS = (28 * 12 + 3) + (26 * 16 + 5) + 4 + 1


def pairs(*names: str) -> list[str]:
    return [f"{name}.{kind}" for name in names for kind in ("weight", "bias")]


def language() -> list[str]:
    layer = [*pairs(*(f"self_attn.{part}_proj" for part in "qkv")), "self_attn.o_proj.weight"]
    layer += ["input_layernorm.weight", "post_attention_layernorm.weight"]
    layer += [f"mlp.{part}_proj.weight" for part in ("gate", "up", "down")]
    return ["embed_tokens.weight", "norm.weight", *(f"layers.{n}.{name}" for n in range(28) for name in layer)]


def tower(layers: int) -> list[str]:
    attention = [f"self_attn.{part}_proj" for part in ("k", "v", "q", "out")]
    layer = pairs("layer_norm1", "layer_norm2", "mlp.fc1", "mlp.fc2", *attention)
    ends = [*pairs("embeddings.patch_embedding", "post_layernorm"), "embeddings.position_embedding.weight"]
    return [*ends, *(f"encoder.layers.{number}.{name}" for number in range(layers) for name in layer)]


def of_the_hub() -> list[str]:
    """transformers before 4.52, and what it still writes."""
    return [
        "image_newline",
        "language_model.lm_head.weight",
        *pairs("multi_modal_projector.linear_1", "multi_modal_projector.linear_2"),
        *(f"language_model.model.{name}" for name in language()),
        *(f"vision_tower.vision_model.{name}" for name in tower(26)),
    ]


def of_later_versions() -> list[str]:
    return [
        "model.image_newline",
        "lm_head.weight",
        *pairs("model.multi_modal_projector.linear_1", "model.multi_modal_projector.linear_2"),
        *(f"model.language_model.{name}" for name in language()),
        *(f"model.vision_tower.vision_model.{name}" for name in tower(26)),
    ]


def of_the_original_code(*, layers: int, head: bool) -> list[str]:
    there = "model.vision_tower.vision_tower.vision_model."
    parts = ["attention.in_proj_weight", "attention.in_proj_bias", "probe"]
    parts += pairs("attention.out_proj", "layernorm", "mlp.fc1", "mlp.fc2")
    return [
        "model.image_newline",
        "lm_head.weight",
        *pairs("model.mm_projector.0", "model.mm_projector.2"),
        *(f"model.{name}" for name in language()),
        *(f"{there}{name}" for name in tower(layers)),
        *(f"{there}head.{name}" for name in parts if head),
    ]


def on_meta(config: LlavaOnevisionConfig) -> LlavaOnevisionForConditionalGeneration:
    with torch.device("meta"):
        return LlavaOnevisionForConditionalGeneration(config)


@pytest.fixture(scope="module")
def converted(tmp_path_factory) -> LlavaOnevisionForConditionalGeneration:
    folder: Path = tmp_path_factory.mktemp("converted")
    (folder / "config.json").write_text(json.dumps(CONVERTED))
    return on_meta(_config(str(folder)))


@pytest.fixture(scope="module")
def original() -> LlavaOnevisionForConditionalGeneration:
    assert is_llava_next(ORIGINAL)
    return on_meta(read_llava_next("x", ORIGINAL))


@pytest.mark.parametrize("names", [of_the_hub, of_later_versions])
def test_every_name_of_transformers_layout_has_a_place_and_no_parameter_is_left(converted, names):
    renamings = get_model_conversion_mapping(converted)
    state = converted.state_dict()
    mapped = [rename_source_key(name, renamings, [], converted.base_model_prefix, state)[0] for name in names()]
    assert len(mapped) == TENSORS
    assert sorted(mapped) == sorted(name for name, _ in converted.named_parameters())


@pytest.mark.parametrize("layers, head, unused", [(26, False, 0), (27, False, 16), (27, True, 16 + 11)])
def test_every_name_of_the_original_layout_has_a_place_or_is_known_not_to_be_looked_at(original, layers, head, unused):
    here = {name for name, _ in original.named_parameters()}
    assert len(here) == TENSORS
    renamed = set()
    for name in of_the_original_code(layers=layers, head=head):
        [new] = {re.sub(pattern, to, name) for pattern, to in KEYS.items() if re.search(pattern, name)} or {name}
        renamed.add(new)
    assert here - renamed == set()
    left = renamed - here
    assert len(left) == unused
    assert all(re.search(UNUSED, name) for name in left)


def test_both_layouts_are_the_same_network(converted, original):
    shapes = [{name: tensor.shape for name, tensor in each.named_parameters()} for each in (converted, original)]
    assert shapes[0] == shapes[1]
    rope = {"rope_type": "default", "rope_theta": 1000000.0}
    assert [each.config.text_config.rope_parameters for each in (converted, original)] == [rope, rope]


@pytest.mark.parametrize(
    "width, height, tokens",
    [
        # The overview of 27 x 27, and a tile of 27 rows with an end each.
        (384, 384, 729 + 27 * 28),
        # 2 x 2 tiles, 54 x 54 cells: of the 54 rows 480 * 54 / 640 = 40 are no padding.
        (640, 480, 729 + 40 * 55),
        # 4 x 2 tiles, 108 x 54 cells: of the 108 in a row 1280 * 54 / 720 = 96 are no padding.
        (1280, 720, 729 + 54 * 97),
        # 6 x 6 tiles are four times the nine that are allowed: half of the 162 cells each way.
        (2304, 2304, 729 + 81 * 82),
    ],
)
def test_the_published_canvases_are_those_that_both_layouts_look_at(converted, original, width, height, tokens):
    for network in (converted, original):
        processor = _processor({"image_mean": [0.5] * 3, "image_std": [0.5] * 3}, network.config)
        eyes = LlavaImageEncoder(processor, network.config)
        assert sorted(map(list, network.config.image_grid_pinpoints)) == PINPOINTS
        assert eyes.tokens(ImageSize(width, height), alone=True) == tokens


def test_the_original_layout_is_known_by_its_architecture_alone():
    # Some releases write "llava" for a model_type, which is another model in transformers.
    assert is_llava_next({**ORIGINAL, "model_type": "llava"})


@pytest.mark.parametrize("written", ["[[384, 768], [768, 384]]", "[(384, 768), (768, 384)]"])
def test_canvases_may_be_listed_in_a_text(written):
    config = read_llava_next("x", {**ORIGINAL, "image_grid_pinpoints": written})
    assert config.image_grid_pinpoints == [[768, 384], [384, 768]]


@pytest.mark.parametrize("written", ["", "anyres", "[[384]]", [], [[384, 768, 3]], [384, 768], "[[384, 'x']]", 7])
def test_canvases_that_are_no_sizes_are_refused(written):
    with pytest.raises(ModelError, match="image_grid_pinpoints is .*a list of sizes is expected"):
        read_llava_next("x", {**ORIGINAL, "image_grid_pinpoints": written})
