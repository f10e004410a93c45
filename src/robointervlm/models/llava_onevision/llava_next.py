"""Checkpoints in the layout of the LLaVA-NeXT code (`llava_qwen`), read as transformers' LLaVA-OneVision.

Nothing is converted on the disk: the configuration is built from the original one, the weights are renamed on the way.
"""

from __future__ import annotations

import ast
import contextlib
import re
from pathlib import Path
from typing import Any

from transformers import LlavaOnevisionConfig, SiglipVisionConfig

from robointervlm.core.errors import ModelError

KEYS = {
    r"^model\.vision_tower\.vision_tower\.vision_model\.": "model.vision_tower.",
    r"^model\.mm_projector\.0\.": "model.multi_modal_projector.linear_1.",
    r"^model\.mm_projector\.2\.": "model.multi_modal_projector.linear_2.",
    r"^model\.(embed_tokens|layers|norm)": r"model.language_model.\1",
}
"""What the weights are called there, as patterns, and here."""

UNUSED = r"vision_tower\.(head\.|encoder\.layers\.\d+\.)"
"""Weights that may be left over: LLaVA looks at what the vision tower's last layer but one makes, without a head."""

# The vision tower is not in the checkpoint's config.json but named there, after its hub name or the folder in which it
# was trained from; the shape is that of its own config.json. The weights have to be of this shape, or are refused.
_TOWERS = {
    "siglip-so400m-patch14-384": {
        "hidden_size": 1152,
        "intermediate_size": 4304,
        "num_attention_heads": 16,
        "num_hidden_layers": 27,
        "image_size": 384,
        "patch_size": 14,
    }
}
# What of the original configuration is about the language model.
_LANGUAGE = (
    "attention_dropout",
    "bos_token_id",
    "eos_token_id",
    "hidden_act",
    "hidden_size",
    "initializer_range",
    "intermediate_size",
    "max_position_embeddings",
    "max_window_layers",
    "num_attention_heads",
    "num_hidden_layers",
    "num_key_value_heads",
    "rms_norm_eps",
    "rope_scaling",
    "rope_theta",
    "sliding_window",
    "tie_word_embeddings",
    "use_sliding_window",
    "vocab_size",
)
# What LLaVA-OneVision does, and what nothing else is offered for here.
_EXPECTED = {
    "mm_patch_merge_type": "spatial_unpad",
    "mm_projector_type": "mlp2x_gelu",
    "mm_vision_select_layer": -2,
    "mm_vision_select_feature": "patch",
}


def is_llava_next(said: dict[str, Any]) -> bool:
    """Whether a config.json is one of the LLaVA-NeXT code, with Qwen2 as the language model."""
    return said.get("model_type") == "llava_qwen" or said.get("architectures") == ["LlavaQwenForCausalLM"]


def read_llava_next(path: str, said: dict[str, Any]) -> LlavaOnevisionConfig:
    """The configuration that the original one means. Raises `ModelError` where it means something else."""
    for key, expected in _EXPECTED.items():
        if said.get(key) != expected:
            raise ModelError(
                f"'{path}': {key} is {said.get(key)!r} in its config.json; only {expected!r} is supported."
            )
    name = said.get("mm_vision_tower")
    shape: dict[str, Any] = _TOWERS.get(Path(str(name)).name, {})
    if isinstance(name, str) and (Path(name) / "config.json").is_file():
        shape = SiglipVisionConfig.from_pretrained(name).to_dict()
    if not shape:
        raise ModelError(
            f"'{path}': mm_vision_tower is '{name}' in its config.json; known: {', '.join(_TOWERS)}, "
            "or a folder with the config.json of a SigLIP."
        )
    # Without its last layer and its head, neither of which LLaVA looks at.
    layers = int(shape["num_hidden_layers"]) - 1
    vision = shape | {"model_type": "siglip_vision_model", "num_hidden_layers": layers, "vision_use_head": False}
    build: Any = LlavaOnevisionConfig
    config: LlavaOnevisionConfig = build(
        vision_config=vision,
        text_config={"model_type": "qwen2", **{key: said[key] for key in _LANGUAGE if key in said}},
        tie_word_embeddings=bool(said.get("tie_word_embeddings", False)),
        vision_aspect_ratio=said.get("image_aspect_ratio"),
        image_grid_pinpoints=_pinpoints(path, said.get("image_grid_pinpoints"), vision["image_size"]),
        dtype=said.get("torch_dtype"),
    )
    return config


def _pinpoints(path: str, said: object, tile: int) -> list[list[int]]:
    """The canvases a picture may be put on, each as height and width; the original has width and height.

    They are listed, maybe in a text, or written as a range of tiles such as (1x1),...,(6x6).
    """
    if isinstance(said, str) and (numbers := re.findall(r"\((\d+)x(\d+)\)", said)):
        (first_width, first_height), (last_width, last_height) = (map(int, pair) for pair in (numbers[0], numbers[-1]))
        wide, high = range(first_width, last_width + 1), range(first_height, last_height + 1)
        return [[tile * rows, tile * columns] for columns in wide for rows in high]
    listed = said
    if isinstance(said, str):
        with contextlib.suppress(ValueError, SyntaxError):
            listed = ast.literal_eval(said)
    try:
        sizes = [(int(width), int(height)) for width, height in listed]  # type: ignore[attr-defined]
    except (ValueError, TypeError):
        sizes = []
    if not sizes:
        raise ModelError(f"'{path}': image_grid_pinpoints is {said!r} in its config.json; a list of sizes is expected.")
    return [[height, width] for width, height in sizes]
