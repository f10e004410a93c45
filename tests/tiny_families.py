"""A tiny random checkpoint of every evaluated-only family, in the layout that the family is published in."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import (
    InternVLConfig,
    InternVLForConditionalGeneration,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    PreTrainedTokenizerBase,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)

from robointervlm.models.tiny import TinySize, tiny_model, tiny_tokenizer
from tiny_models import SIZE, TEXTS

WIDTH = 32
# Larger than usual, so that a random model does not only repeat its last token.
RANGE = 0.4
LANGUAGE = {
    "hidden_size": WIDTH,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 32768,
    "initializer_range": RANGE,
    "tie_word_embeddings": True,
}
MROPE = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]}
SIGLIP = {
    "model_type": "siglip_vision_model",
    "hidden_size": WIDTH,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 56,
    "patch_size": 14,
    "vision_use_head": False,
}
# The template that transformers' conversion of InternVL writes: a picture ends its line.
INTERNVL_TEMPLATE = """\
{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n'}}\
{% if message['content'] is string %}{{ message['content'] }}\
{% else %}{% for content in message['content'] %}\
{% if content['type'] == 'image' %}{{ '<IMG_CONTEXT>\\n' }}\
{% elif content['type'] == 'text' %}{{ content['text'] }}{% endif %}\
{% endfor %}{% endif %}{{'<|im_end|>\\n'}}{% endfor %}\
{% if add_generation_prompt %}{{'<|im_start|>assistant\\n' }}{% endif %}"""


def make_checkpoint(
    family: str, folder: Path, *, seed: int = 0, tokenizer: PreTrainedTokenizerBase | None = None
) -> Path:
    """A folder with a checkpoint of this family; `llava_next` is LLaVA-OneVision in its original layout."""
    folder.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        _MAKERS[family](folder, tokenizer or tiny_tokenizer(TEXTS, 448))
    return folder


def _qwen2_vl(folder: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    vision = {"depth": 2, "embed_dim": WIDTH, "hidden_size": WIDTH, "num_heads": 2, "mlp_ratio": 2}
    config = Qwen2VLConfig(
        text_config={**LANGUAGE, "vocab_size": len(tokenizer), "rope_parameters": MROPE},
        vision_config={**vision, "initializer_range": RANGE},
        tie_word_embeddings=True,
        **_qwen_ids(tokenizer),
    )
    _write(folder, Qwen2VLForConditionalGeneration(config), tokenizer)
    # As Qwen2-VL's own file has it: the limits twice.
    limits = {"min_pixels": 3136, "max_pixels": 12845056}
    _processor(folder, "Qwen2VLImageProcessor", patch_size=14, merge_size=2, size=limits, **limits)


def _qwen3_vl(folder: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    config = Qwen3VLConfig(
        text_config={
            **LANGUAGE,
            "vocab_size": len(tokenizer),
            "head_dim": 16,
            "rope_parameters": {**MROPE, "mrope_interleaved": True},
        },
        vision_config={
            "depth": 3,
            "hidden_size": WIDTH,
            "intermediate_size": 48,
            "num_heads": 2,
            "out_hidden_size": WIDTH,
            "deepstack_visual_indexes": [0, 1],
            "initializer_range": RANGE,
        },
        tie_word_embeddings=True,
        **_qwen_ids(tokenizer),
    )
    _write(folder, Qwen3VLForConditionalGeneration(config), tokenizer)
    size = {"shortest_edge": 65536, "longest_edge": 16777216}
    half = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    _processor(folder, "Qwen2VLImageProcessorFast", patch_size=16, merge_size=2, size=size, **half)


def _internvl(folder: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    tokenizer.add_tokens(["<img>", "</img>", "<IMG_CONTEXT>"], special_tokens=True)
    tokenizer.chat_template = INTERNVL_TEMPLATE
    config = InternVLConfig(
        text_config={**LANGUAGE, "model_type": "qwen2", "vocab_size": len(tokenizer)},
        vision_config={
            "hidden_size": WIDTH,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": [56, 56],
            "layer_scale_init_value": 1.0,
            "initializer_range": RANGE,
        },
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=4,
    )
    _write(folder, InternVLForConditionalGeneration(config), tokenizer)
    size = {"height": 56, "width": 56}
    _processor(folder, "GotOcr2ImageProcessorFast", size=size, image_mean=[0.485, 0.456, 0.406], crop_to_patches=False)


def _llava_onevision(folder: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    tokenizer.add_tokens(["<image>", "<video>"], special_tokens=True)
    _write(folder, llava_network(tokenizer), tokenizer)
    half = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    _processor(folder, "LlavaOnevisionImageProcessor", size={"height": 56, "width": 56}, **half)


def llava_network(tokenizer: PreTrainedTokenizerBase, **more: Any) -> LlavaOnevisionForConditionalGeneration:
    # Padded, as the vocabulary of Qwen2 is.
    config = LlavaOnevisionConfig(
        text_config={**LANGUAGE, "model_type": "qwen2", "vocab_size": len(tokenizer) + 8},
        vision_config=SIGLIP,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>") or 0,
        video_token_index=tokenizer.convert_tokens_to_ids("<video>") or 1,
        image_grid_pinpoints=[[56 * rows, 56 * columns] for rows in range(1, 7) for columns in range(1, 7)],
        tie_word_embeddings=True,
        **more,
    )
    network = LlavaOnevisionForConditionalGeneration(config)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.3)
    return network


ORIGINAL_NAMES = {
    "vision_tower.": "vision_tower.vision_tower.vision_model.",
    "multi_modal_projector.linear_1.": "mm_projector.0.",
    "multi_modal_projector.linear_2.": "mm_projector.2.",
    "language_model.": "",
    "image_newline": "image_newline",
}
"""How a part is called in transformers and, after `model.`, in the LLaVA-NeXT code."""


def _llava_next(folder: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    network = llava_network(tokenizer)
    state: dict[str, torch.Tensor] = {}
    for name, tensor in network.model.state_dict().items():
        [(here, there)] = [(a, b) for a, b in ORIGINAL_NAMES.items() if name.startswith(a)]
        state[f"model.{there}{name.removeprefix(here)}"] = tensor.clone()
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    tokenizer.save_pretrained(folder)
    tower = folder / "tower"
    tower.mkdir()
    (tower / "config.json").write_text(json.dumps({**SIGLIP, "num_hidden_layers": 3}))
    config = {
        "architectures": ["LlavaQwenForCausalLM"],
        "model_type": "llava_qwen",
        **LANGUAGE,
        "vocab_size": network.config.text_config.vocab_size,
        "hidden_act": "silu",
        "rope_theta": network.config.text_config.rope_parameters["rope_theta"],
        "rms_norm_eps": network.config.text_config.rms_norm_eps,
        "image_aspect_ratio": "anyres_max_9",
        "image_grid_pinpoints": "(1x1),...,(6x6)",
        "mm_patch_merge_type": "spatial_unpad",
        "mm_projector_type": "mlp2x_gelu",
        "mm_vision_select_layer": -2,
        "mm_vision_select_feature": "patch",
        "mm_vision_tower": str(tower),
        "mm_use_im_start_end": False,
        "torch_dtype": "bfloat16",
    }
    (folder / "config.json").write_text(json.dumps(config))


def _robobrain(folder: Path, _tokenizer: PreTrainedTokenizerBase) -> None:
    size: TinySize = SIZE.model_copy(update={"initializer_range": RANGE})
    tiny_model(TEXTS, size, seed=0).save(folder)


def _qwen_ids(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    names = ("vision_start", "vision_end", "image", "video")
    tokens = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
    return {
        f"{name}_token_id": tokenizer.convert_tokens_to_ids(token) for name, token in zip(names, tokens, strict=True)
    }


def _write(folder: Path, network: Any, tokenizer: PreTrainedTokenizerBase) -> None:
    network.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _processor(folder: Path, kind: str, **settings: object) -> None:
    (folder / "preprocessor_config.json").write_text(json.dumps({"image_processor_type": kind, **settings}))


_MAKERS: dict[str, Callable[[Path, PreTrainedTokenizerBase], None]] = {
    "qwen2_vl": _qwen2_vl,
    "qwen3_vl": _qwen3_vl,
    "internvl": _internvl,
    "llava_onevision": _llava_onevision,
    "llava_next": _llava_next,
    "robobrain": _robobrain,
}
FAMILIES: Iterable[str] = tuple(_MAKERS)


def section_of(family: str, folder: Path) -> dict[str, object]:
    """The `model` section with which a checkpoint of this family is loaded: nothing but the path, where that can be."""
    return {"path": str(folder), "device": "cpu"} | ({"family": "robobrain"} if family == "robobrain" else {})
