"""A genuine but small Qwen2.5-VL with a small tokenizer: the model of the demo and of the tests.

The same classes, names, chat template and file layout as the real one, so that whatever works on it works on a 7B
checkpoint, only larger. The weights are random; the tokenizer is learned from the texts it will meet.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Self

import torch
from pydantic import BaseModel, ConfigDict, model_validator
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from robointervlm.core.coordinates import CoordinateFormat
from robointervlm.models.qwen2_5_vl.chat import Chat
from robointervlm.models.qwen2_5_vl.encoder import Encoder
from robointervlm.models.qwen2_5_vl.images import PixelLimits
from robointervlm.models.qwen2_5_vl.network import Qwen25VL

# In the order of the Qwen2.5 tokenizer.
SPECIAL_TOKENS = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|object_ref_start|>",
    "<|object_ref_end|>",
    "<|box_start|>",
    "<|box_end|>",
    "<|quad_start|>",
    "<|quad_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
]

MAX_POSITIONS = 32768

# How Qwen2.5 cuts text before merging bytes: contractions, words with their space, single digits, punctuation, breaks.
WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

# Renders as the template of Qwen2.5-VL-7B-Instruct does (held against it in a test).
CHAT_TEMPLATE = """\
{%- for message in messages -%}
{%- if loop.first and message.role != 'system' -%}
{{- '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' -}}
{%- endif -%}
{{- '<|im_start|>' + message.role + '\\n' -}}
{%- if message.content is string -%}
{{- message.content -}}
{%- else -%}
{%- for part in message.content -%}
{%- if part.type == 'image' -%}
{{- '<|vision_start|><|image_pad|><|vision_end|>' -}}
{%- elif part.type == 'video' -%}
{{- '<|vision_start|><|video_pad|><|vision_end|>' -}}
{%- else -%}
{{- part.text -}}
{%- endif -%}
{%- endfor -%}
{%- endif -%}
{{- '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|im_start|>assistant\\n' -}}
{%- endif -%}
"""


class TinySize(BaseModel):
    """The shape of a small Qwen2.5-VL."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    language_width: int = 128
    language_layers: int = 3
    heads: int = 4
    key_value_heads: int = 4
    vision_width: int = 96
    vision_layers: int = 2
    vision_heads: int = 3
    initializer_range: float = 0.06
    vocabulary: int = 448

    @model_validator(mode="after")
    def _divisible(self) -> Self:
        if self.heads % self.key_value_heads or self.language_width % (2 * self.heads):
            raise ValueError("key_value_heads divides heads, and twice the heads divide language_width")
        return self


def tiny_tokenizer(texts: Iterable[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer learned from `texts`; digits are single tokens and any text can be written in it."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=False))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary - len(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS])
    fast: Any = PreTrainedTokenizerFast
    made: PreTrainedTokenizerFast = fast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",  # noqa: S106 - a name, not a secret
        pad_token="<|endoftext|>",  # noqa: S106
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
        model_max_length=MAX_POSITIONS,
    )
    return made


def tiny_model(texts: Iterable[str], size: TinySize, *, seed: int, max_pixels: int = 12845056) -> Qwen25VL:
    """A random small Qwen2.5-VL whose tokenizer knows `texts`; the same seed and texts give the same bytes."""
    tokenizer = tiny_tokenizer(texts, size.vocabulary)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = Qwen2_5_VLForConditionalGeneration(_config(size, tokenizer))
    network.train(mode=False)
    return Qwen25VL(
        network,
        Encoder(network.config, Chat(tokenizer), PixelLimits(max_pixels=max_pixels), CoordinateFormat.RESIZED),
        name="tiny",
    )


# The frequencies of the rotary pairs, in radians per position.
_STILL = 0.001
_ORDER = (0.3, 1.0)
_NEAREST, _FARTHEST = 1.0, 0.1


def _rotary(pairs: int) -> dict[str, Any]:
    """Multimodal rotary positions for a picture of a few tokens and texts of a few dozen.

    A real model has pairs of every frequency on a head of 128; with 32 the usual geometric series leaves a head either
    without a sense of place or without one of content: pairs that turn with every token match nothing once the question
    is a word longer. So five in sixteen pairs each are for height and width and tell single cells apart, two are for
    the order of a text, and the rest stand still and match by content. (Written as LongRoPE's factors, which is how the
    config of any Qwen2.5-VL can hold frequencies of its own.)
    """
    spatial = pairs * 5 // 16
    time = pairs - 2 * spatial
    turning = _ORDER[-min(2, time) :]
    cells = [_NEAREST * (_FARTHEST / _NEAREST) ** (i / max(1, spatial - 1)) for i in range(spatial)]
    wanted = [*[_STILL] * (time - len(turning)), *turning, *cells, *cells]
    theta = 10.0
    factors = [theta ** (-i / pairs) / frequency for i, frequency in enumerate(wanted)]
    return {
        "rope_type": "longrope",
        "rope_theta": theta,
        "short_factor": factors,
        "long_factor": factors,
        "factor": 1.0,
        "attention_factor": 1.0,
        "original_max_position_embeddings": MAX_POSITIONS,
        "mrope_section": [time, spatial, spatial],
    }


def _config(size: TinySize, tokenizer: PreTrainedTokenizerFast) -> Qwen2_5_VLConfig:
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in SPECIAL_TOKENS}
    rotary = _rotary(size.language_width // size.heads // 2)
    config: Any = Qwen2_5_VLConfig
    made: Qwen2_5_VLConfig = config(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": size.language_width,
            "intermediate_size": 4 * size.language_width * 2 // 3,
            "num_hidden_layers": size.language_layers,
            "num_attention_heads": size.heads,
            "num_key_value_heads": size.key_value_heads,
            "rms_norm_eps": 1e-6,
            "max_position_embeddings": MAX_POSITIONS,
            "initializer_range": size.initializer_range,
            "use_cache": True,
            "bos_token_id": None,
            "eos_token_id": ids["<|im_end|>"],
            "pad_token_id": ids["<|endoftext|>"],
            "rope_parameters": rotary,
        },
        vision_config={
            "depth": size.vision_layers,
            "hidden_size": size.vision_width,
            "intermediate_size": 4 * size.vision_width * 2 // 3,
            "num_heads": size.vision_heads,
            "out_hidden_size": size.language_width,
            "fullatt_block_indexes": list(range(size.vision_layers)),
            "window_size": 112,
            "initializer_range": size.initializer_range,
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
