"""Random Qwen2.5-VL models for timing: small layers, but the real vocabulary of 151,936 words and its special ids.

    python benchmarks/models_for_speed.py 190M FOLDER

The shapes follow the released 3B model where a small model can: tied embeddings, grouped-query heads, a vision tower of
a quarter to a third of the language layers' size, one block of four with full attention, windows of 112 pixels, the
published rotary settings. What it cannot follow: with this vocabulary most of a small model is its embedding.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from robointervlm.core.coordinates import CoordinateFormat
from robointervlm.models.qwen2_5_vl.chat import Chat
from robointervlm.models.qwen2_5_vl.encoder import Encoder
from robointervlm.models.qwen2_5_vl.images import PixelLimits
from robointervlm.models.qwen2_5_vl.network import Qwen25VL
from robointervlm.models.tiny import SPECIAL_TOKENS, tiny_tokenizer

VOCABULARY = 151936
# The id of <|endoftext|> in the Qwen2.5 tokenizer; the other special tokens follow it in the order of SPECIAL_TOKENS.
FIRST_SPECIAL = 151643
# How many tokens are learned from the texts; the ids from there to FIRST_SPECIAL are never written.
LEARNED = 4096


@dataclass(frozen=True)
class Shape:
    """What FLOP counts and a configuration need to know of a Qwen2.5-VL; widths in numbers of features."""

    width: int
    inner: int
    layers: int
    heads: int
    key_value_heads: int
    vision_width: int
    vision_inner: int
    vision_layers: int
    vision_heads: int
    full_attention: tuple[int, ...]
    vocabulary: int = VOCABULARY

    @property
    def head_width(self) -> int:
        return self.width // self.heads


SHAPES = {
    "1M": Shape(64, 128, 2, 2, 1, 32, 64, 2, 2, (1,), vocabulary=4608),  # for tests: nothing is timed with it
    "40M": Shape(192, 1024, 12, 3, 1, 128, 342, 8, 2, (3, 7)),
    "190M": Shape(640, 2560, 12, 5, 1, 384, 1024, 8, 6, (3, 7)),
    # Qwen/Qwen2.5-VL-3B-Instruct, from its config.json (as in tests/models/test_qwen_released.py): only counted.
    "3B": Shape(2048, 11008, 36, 16, 2, 1280, 3420, 32, 16, (7, 15, 23, 31)),
}


def full_tokenizer(texts: Iterable[str], vocabulary: int = VOCABULARY) -> PreTrainedTokenizerFast:
    """A tokenizer learned from `texts` whose special tokens have the ids of the Qwen2.5 tokenizer.

    With a smaller `vocabulary` the special tokens follow the learned ones.
    """
    learned = tiny_tokenizer(texts, LEARNED)
    if vocabulary < VOCABULARY:
        return learned
    described = json.loads(learned.backend_tokenizer.to_str())
    words = described["model"]["vocab"]
    shift = FIRST_SPECIAL - len(words)
    for number in range(len(words), FIRST_SPECIAL):
        words[f"\N{REPLACEMENT CHARACTER}{number}"] = number
    for token in described["added_tokens"]:
        token["id"] += shift
    fast: Any = PreTrainedTokenizerFast
    made: PreTrainedTokenizerFast = fast(
        tokenizer_object=Tokenizer.from_str(json.dumps(described)),
        eos_token="<|im_end|>",  # noqa: S106 - a name, not a secret
        pad_token="<|endoftext|>",  # noqa: S106
        chat_template=learned.chat_template,
        clean_up_tokenization_spaces=False,
        model_max_length=32768,
    )
    return made


def configuration(shape: Shape, tokenizer: PreTrainedTokenizerFast) -> Qwen2_5_VLConfig:
    """The configuration of a model of this shape."""
    ids = {token: int(tokenizer.convert_tokens_to_ids(token)) for token in SPECIAL_TOKENS}
    pairs = shape.head_width // 2
    config: Any = Qwen2_5_VLConfig
    made: Qwen2_5_VLConfig = config(
        text_config={
            "vocab_size": shape.vocabulary,
            "hidden_size": shape.width,
            "intermediate_size": shape.inner,
            "num_hidden_layers": shape.layers,
            "num_attention_heads": shape.heads,
            "num_key_value_heads": shape.key_value_heads,
            "rms_norm_eps": 1e-6,
            "max_position_embeddings": 32768,
            "initializer_range": 0.02,
            "bos_token_id": None,
            "eos_token_id": ids["<|im_end|>"],
            "pad_token_id": ids["<|endoftext|>"],
            # Of 64 pairs the published sections are 16, 24, 24.
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 1e6,
                "mrope_section": [pairs // 4, pairs * 3 // 8, pairs * 3 // 8],
            },
        },
        vision_config={
            "depth": shape.vision_layers,
            "hidden_size": shape.vision_width,
            "intermediate_size": shape.vision_inner,
            "num_heads": shape.vision_heads,
            "out_hidden_size": shape.width,
            "fullatt_block_indexes": list(shape.full_attention),
            "window_size": 112,
            "tokens_per_second": 2,
        },
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=ids["<|im_end|>"],
        pad_token_id=ids["<|endoftext|>"],
    )
    return made


def random_model(name: str, texts: Iterable[str], *, seed: int = 0) -> Qwen25VL:
    """A model of one of the SHAPES with random weights in float32 and a tokenizer that knows `texts`."""
    shape = SHAPES[name]
    tokenizer = full_tokenizer(texts, shape.vocabulary)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = Qwen2_5_VLForConditionalGeneration(configuration(shape, tokenizer))
    return Qwen25VL(
        network,
        Encoder(network.config, Chat(tokenizer), PixelLimits(), CoordinateFormat.RESIZED),
        name=name,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("size", choices=[name for name in SHAPES if name != "3B"])
    parser.add_argument("folder", type=Path)
    chosen = parser.parse_args()
    model = random_model(chosen.size, ["Where is the cup on the table, and what does the gripper do next?"] * 20)
    model.save(chosen.folder)
    parts: dict[str, int] = {}
    for parameter_name, parameter in model.network.named_parameters():
        part = "vision" if ".visual." in parameter_name else "words" if "embed" in parameter_name else "layers"
        parts[part] = parts.get(part, 0) + parameter.numel()
    print(f"{sum(parts.values()) / 1e6:.1f} M parameters: {parts}")


if __name__ == "__main__":
    main()
