"""A network that is spread over processes, whole in one of them: for answers, not for learning."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from accelerate import init_empty_weights
from torch import Tensor
from transformers import Qwen2_5_VLForConditionalGeneration

from robointervlm.models.qwen2_5_vl.lora import is_adapted, merged_state

_SUBCONFIGS = ("text_config", "vision_config")


def whole_network(
    network: Qwen2_5_VLForConditionalGeneration, weights: Mapping[str, Tensor], device: torch.device
) -> Qwen2_5_VLForConditionalGeneration:
    """A second network of the same settings, made of all the weights of the first by name, without copying them.

    Low-rank updates are merged, as they are in an exported model. No random generator advances.
    """
    state = merged_state(network, weights) if is_adapted(network) else dict(weights)
    config = copy.deepcopy(network.config)
    for name in _SUBCONFIGS:
        getattr(config, name)._attn_implementation = "sdpa"  # the names of ours are not known while it is made
    with torch.random.fork_rng(), init_empty_weights(include_buffers=False):
        whole: Any = type(network)(config)
    for name in _SUBCONFIGS:
        getattr(config, name)._attn_implementation = getattr(network.config, name)._attn_implementation
    whole.load_state_dict(state, assign=True)
    whole.tie_weights()
    whole.generation_config = network.generation_config
    placed: Qwen2_5_VLForConditionalGeneration = whole.to(device).eval().requires_grad_(requires_grad=False)
    return placed
