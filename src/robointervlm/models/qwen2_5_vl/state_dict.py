"""Weights by name: those that learn, that the others are still the same, and the whole of a network spread out."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from accelerate import init_empty_weights
from torch import Tensor, nn
from transformers import Qwen2_5_VLForConditionalGeneration

from robointervlm.core.errors import RecipeError
from robointervlm.models.qwen2_5_vl.lora import is_adapted, merged_state

# Values looked at per frozen tensor: enough to tell two checkpoints apart, and no minute's work for a 7B model.
_LOOKED_AT = 64
_SUBCONFIGS = ("text_config", "vision_config")


def learned_state(network: nn.Module) -> dict[str, Any]:
    """The parameters that learn, by name, and what tells whether the frozen ones are the same.

    A frozen vision tower or a language model under low-rank updates is not written again with every checkpoint.
    """
    learning = _learning(network)
    return {
        "parameters": {name: tensor.detach() for name, tensor in learning.items()},
        "frozen": frozen_digest(network),
    }


def load_learned_state(network: nn.Module, state: dict[str, Any]) -> None:
    """Put the parameters back. Raises `RecipeError` if others learn now, or the frozen ones are of another model."""
    learning, saved = _learning(network), state["parameters"]
    shapes = [{name: tuple(tensor.shape) for name, tensor in each.items()} for each in (learning, saved)]
    if shapes[0] != shapes[1]:
        differing = min(name for name, _ in shapes[0].items() ^ shapes[1].items())
        raise RecipeError(
            f"the checkpoint was written while other parameters learned: {differing} differs. "
            "Choose another run.dir, or give the model.tune and model.lora the run was begun with."
        )
    if state["frozen"] != frozen_digest(network):
        raise RecipeError(
            "the weights that do not learn are not those the run was begun with. "
            "Give the same model.path and model.dtype again, or choose another run.dir."
        )
    with torch.no_grad():
        for name, parameter in learning.items():
            parameter.copy_(saved[name])


def _learning(network: nn.Module) -> dict[str, nn.Parameter]:
    return {name: parameter for name, parameter in network.named_parameters() if parameter.requires_grad}


def frozen_digest(network: nn.Module) -> str:
    """A hash of the names, shapes and some values of all that does not learn, buffers too."""
    learning = {name for name, each in network.named_parameters(remove_duplicate=False) if each.requires_grad}
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        if name not in learning:
            digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype} ".encode())
            flat = tensor.detach().flatten()
            digest.update(flat[:: max(1, flat.numel() // _LOOKED_AT)].float().cpu().numpy().tobytes())
    return digest.hexdigest()


def whole_network(
    network: Qwen2_5_VLForConditionalGeneration, weights: Mapping[str, Tensor], device: torch.device
) -> Qwen2_5_VLForConditionalGeneration:
    """A second network of the same settings, made of all the weights of the first by name, without copying them.

    Whole in one process where the first is spread over several: for answers, not for learning.
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
