"""What a training run will take of memory and arithmetic, from the shape of the model alone.

Counted are weights, gradients, optimizer states and saved activations; not the CUDA context, the allocator's leftovers,
communication buffers and what an operation needs for a moment. Nothing here was measured on a GPU.

Sources: the states per parameter and how the stages divide them, Rajbhandari et al. 2020 (ZeRO), section 3 and figure
1, with 2 bytes for bfloat16 weights and gradients and 12 for the float32 copy and Adam's two moments. Operations: 2 for
each weight and token forwards, twice that backwards, Kaplan et al. 2020, section 2.1, attention's products added.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import Qwen2_5_VLConfig
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLDecoderLayer

from robointervlm.models.qwen2_5_vl.parts import part_of

GIB = 2**30
STRATEGIES = ("ddp", "zero2", "zero3", "zero3_offload", "fsdp")


class Sizes(NamedTuple):
    """Parameters: all of them, those that learn, those of the largest layer."""

    all: int
    learning: int
    layer: int


class Memory(NamedTuple):
    """Bytes for one GPU, and on the host for each process."""

    weights: float
    gradients: float
    optimizer: float
    activations: float
    host: float

    @property
    def gpu(self) -> float:
        return self.weights + self.gradients + self.optimizer + self.activations

    def gib(self) -> dict[str, float]:
        """As `plan.json` says it."""
        parts = {**self._asdict(), "gpu": self.gpu}
        return {name: round(value / GIB, 3) for name, value in parts.items()}


@dataclass(frozen=True)
class RowSize:
    """What a process handles at once: its tokens, how many have a label, and the patches of its pictures."""

    tokens: int
    supervised: int
    patches: int


def sizes_of(network: nn.Module) -> Sizes:
    parameters = list(network.named_parameters())
    by_layer: dict[str, int] = {}
    for name, parameter in parameters:
        before, found, after = name.partition(".layers.")
        key = f"{before}.{after.split('.')[0]}" if found else name
        by_layer[key] = by_layer.get(key, 0) + parameter.numel()
    learning = sum(parameter.numel() for _, parameter in parameters if parameter.requires_grad)
    return Sizes(sum(parameter.numel() for _, parameter in parameters), learning, max(by_layer.values()))


def memory(strategy: str, sizes: Sizes, activations: float, gpus: int, *, bf16: bool) -> Memory:
    """The estimate for one of `STRATEGIES` on so many GPUs; AdamW, all weights of the model loaded.

    ddp keeps float32 weights (with a bfloat16 copy of those that learn while a step is computed), gradients, and their
    buckets, whole in every process; fsdp the same divided, and gathers two layers at a time; ZeRO has bfloat16 weights.
    """
    everything, learning, layer = sizes
    copy = 2 * learning if bf16 else 0
    match strategy:
        case "ddp":
            buckets = 4 * learning if gpus > 1 else 0
            return Memory(4 * everything + copy, 4 * learning + buckets, 8 * learning, activations, 0)
        case "zero2":
            return Memory(2 * everything, 2 * learning / gpus, 12 * learning / gpus, activations, 0)
        case "zero3":
            weights = 2 * everything / gpus + 2 * 2 * layer
            return Memory(weights, 2 * learning / gpus, 12 * learning / gpus, activations, 0)
        case "zero3_offload":
            host = (2 * everything + 12 * learning) / gpus
            return Memory(2 * 2 * layer, 2 * learning / gpus, 0, activations, host)
        case "fsdp":
            weights = 4 * everything / gpus + 2 * (2 if bf16 else 4) * layer
            return Memory(weights, 4 * learning / gpus, 8 * learning / gpus, activations, 0)
    raise ValueError(f"strategy '{strategy}' is none of {STRATEGIES}")


def activation_bytes(config: Qwen2_5_VLConfig, row: RowSize, *, bf16: bool, checkpointing: bool) -> float:
    """What the language model keeps of a row for the backward pass, and the logits where there are labels.

    A layer's share is counted in the layer itself, run without memory (see `layer_bytes_per_token`). With gradient
    checkpointing only what goes into each layer is kept, and one layer at a time is computed again. The logits are
    counted in their own precision, in float32 and as their gradient. A vision tower that learns is not counted.
    """
    text: Any = config.text_config
    layers, width = text.num_hidden_layers, text.hidden_size
    layer = layer_bytes_per_token(config, bf16=bf16) * row.tokens
    kept: float = layers * 4 * width * row.tokens + layer if checkpointing else layers * layer
    logits: float = row.supervised * text.vocab_size * ((2 if bf16 else 4) + 4 + 4)
    return kept + logits


def layer_bytes_per_token(config: Qwen2_5_VLConfig, *, bf16: bool) -> float:
    """How many bytes one decoder layer saves for each token: what autograd keeps in two rows of different lengths.

    Fake tensors have shapes and no memory. What does not grow with the row, such as copies of weights, is left out.
    """
    short, long = (_saved_bytes(config, tokens, bf16=bf16) for tokens in (256, 512))
    return (long - short) / 256


def _saved_bytes(config: Qwen2_5_VLConfig, tokens: int, *, bf16: bool) -> int:
    text: Any = config.text_config
    head = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    saved: dict[int, Any] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage: Any = tensor.untyped_storage()
        saved[storage._cdata] = storage  # held, so that its place is not taken by another one
        return tensor

    with FakeTensorMode(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        before = text._attn_implementation
        text._attn_implementation = "sdpa"
        try:
            layer: Any = Qwen2_5_VLDecoderLayer(text, 0).train()
        finally:
            text._attn_implementation = before
        hidden = torch.empty(1, tokens, text.hidden_size, requires_grad=True)
        angles = torch.empty(1, tokens, head)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            layer(hidden, position_embeddings=(angles, angles), position_ids=None, attention_mask=None)
        weights = {parameter.untyped_storage()._cdata for parameter in layer.parameters()}
    return sum(storage.nbytes() for place, storage in saved.items() if place not in weights)


def operations(network: nn.Module, config: Qwen2_5_VLConfig, row: RowSize, *, checkpointing: bool) -> float:
    """Floating-point operations of a row, forwards and backwards.

    A part that is frozen has no gradients of its weights; the language model passes gradients on only down to the
    lowest part that learns. With experts each token goes through a few of them; all are counted here, so this is the
    most it can be.
    """
    text: Any = config.text_config
    matrices = {"language": 0, "vision": 0, "merger": 0, "experts": 0}
    learns = dict.fromkeys(matrices, False)
    for name, parameter in network.named_parameters():
        if parameter.ndim >= 2 and not any(word in name for word in ("embed_tokens", "lm_head")):
            matrices[part_of(name)] += parameter.numel()
            learns[part_of(name)] |= parameter.requires_grad
    language = matrices["language"] + matrices["experts"]
    language_learns = learns["language"] or learns["experts"]
    below_learns = learns["merger"] or learns["vision"]
    # Causal attention: half of two products of tokens x tokens x width.
    attention = 2.0 * row.tokens**2 * text.hidden_size * text.num_hidden_layers
    forward: float = 2.0 * language * row.tokens + attention
    passes = 1 + (1 if language_learns or below_learns else 0) + (1 if language_learns else 0) + int(checkpointing)
    vision = 2.0 * (matrices["vision"] * row.patches + matrices["merger"] * row.patches / 4)
    head: float = 3 * 2.0 * text.vocab_size * text.hidden_size * row.supervised
    return forward * passes + vision * (3 if learns["vision"] else 1) + head
