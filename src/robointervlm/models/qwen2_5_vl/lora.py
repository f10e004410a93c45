"""Low-rank updates of a Qwen2.5-VL: put in by peft, merged out of place, written in peft's own format.

The layers are replaced inside the network, whose class stays: its loss, its answers and its parts are used as before.
"""

from __future__ import annotations

import dataclasses
import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from robointervlm.core.errors import ModelError, RecipeError
from robointervlm.models.qwen2_5_vl.parts import Lora, part_of

logger = logging.getLogger(__name__)

ADAPTER = "adapter"
"""The folder, inside a model's, that holds its low-rank updates alone."""

# peft's name of an adapter that was given none; it stands in the names of the parameters.
_NAME = "default"
_CONFIG, _WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def add_lora(network: PreTrainedModel, lora: Lora, *, seed: int) -> None:
    """Put low-rank updates beside the linear layers; they are zero at first, so every answer stays the same bits.

    A is drawn as peft draws it, from the seed alone, B is zero. Both are float32 whatever the weights beside them are:
    steps of 1e-4 would be lost in bfloat16. Raises `RecipeError` where peft is not installed.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError:
        raise RecipeError("model.tune=[lora] needs peft: pip install peft.") from None
    # As an expression that peft matches in full; a list of names would also match in other towers.
    layers = rf"model\.language_model\.layers\.\d+\.(self_attn|mlp)\.({'|'.join(lora.targets)})"
    if lora.vision:
        layers += r"|model\.visual\.blocks\.\d+\.(attn|mlp)\.(qkv|proj|gate_proj|up_proj|down_proj)"
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=layers,
        base_model_name_or_path=network.config.name_or_path,
    )
    training = network.training
    with torch.random.fork_rng(), warnings.catch_warnings():
        # peft asks transformers for something by its old name.
        warnings.simplefilter("ignore", FutureWarning)
        torch.manual_seed(seed)
        inject_adapter_in_model(config, network)
    for name, parameter in network.named_parameters():
        if part_of(name) == "lora":
            parameter.data = parameter.data.float()
    network.train(training)


def is_adapted(network: nn.Module) -> bool:
    """Whether low-rank updates were put in."""
    return hasattr(network, "peft_config")


def merged_state(network: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights under their ordinary names, W + alpha / rank * B A, in W's own precision.

    `state` is the state of the adapted network, gathered if it is spread over processes. The network is not touched:
    adding the updates and taking them out again would leave other bits behind.
    """
    config = _config(network)
    scale = config.lora_alpha / config.r
    merged: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if part_of(name) == "lora":
            continue
        layer, adapted, kind = name.partition(".base_layer.")
        if adapted and kind == "weight":
            down, up = (state[f"{layer}.lora_{factor}.{_NAME}.weight"].float() for factor in "AB")
            # Onto the CPU one by one: beside the model there may be no room for its weights again.
            merged[f"{layer}.weight"] = torch.add(tensor.float(), up @ down, alpha=scale).to(tensor.dtype).cpu()
        else:
            merged[f"{layer}.{kind}" if adapted else name] = tensor
    return merged


def write_adapter(network: nn.Module, state: Mapping[str, Tensor], folder: Path) -> None:
    """Write what learned as peft's `PeftModel.from_pretrained(base, folder)` reads it.

    A merger or vision tower that learned in full is in it too. Not written where experts learned: peft has no place
    for them beside low-rank updates of the same layer, and an adapter without them would answer otherwise.
    """
    learned = {part_of(name) for name, parameter in network.named_parameters() if parameter.requires_grad}
    if "experts" in learned:
        logger.info("%s is not written: the experts learned in full, which an adapter cannot hold", folder)
        return
    # The vision tower contains the merger.
    whole = ["visual"] if "vision" in learned else ["merger"] if "merger" in learned else []
    inside = tuple(f".{name}." for name in whole)
    kept = {
        f"base_model.model.{name}".replace(f".{_NAME}.", "."): tensor.detach().cpu().contiguous()
        for name, tensor in state.items()
        if part_of(name) == "lora" or any(each in name for each in inside)
    }
    folder.mkdir(parents=True)
    save_file(kept, folder / _WEIGHTS, metadata={"format": "pt"})
    config = dataclasses.replace(_config(network), modules_to_save=whole or None, inference_mode=True)
    config.save_pretrained(str(folder))


def _config(network: nn.Module) -> Any:
    configs: Any = network.peft_config
    return configs[_NAME]


class HasNetwork(Protocol):
    """A model whose network is adapted in place, and what errors call it."""

    network: Any

    @property
    def name(self) -> str: ...


def merge_adapter(model: HasNetwork, folder: Path) -> None:
    """Make the updates of an adapter folder, ours or any of peft's for this model, part of the model's own weights.

    Raises `ModelError` where the folder holds none or it is not one for this model.
    """
    for name in (_CONFIG, _WEIGHTS):
        if not (folder / name).is_file():
            raise ModelError(f"'{folder}' is no adapter: it has no {name}.")
    try:
        from peft import PeftModel
    except ImportError:
        raise RecipeError("merging an adapter needs peft: pip install peft.") from None
    try:
        with warnings.catch_warnings():
            # Of missing parameters peft only warns; they are looked for below.
            warnings.simplefilter("ignore")
            adapted: Any = PeftModel.from_pretrained(model.network, str(folder))
            loaded = adapted.load_adapter(str(folder), _NAME)
            merged = adapted.merge_and_unload(safe_merge=True)
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, SafetensorError) as error:
        said = " ".join(str(error).split())
        raise ModelError(f"the adapter in '{folder}' does not fit '{model.name}': {said}") from None
    for how, keys in (("is not in it", loaded.missing_keys), ("has no place in the model", loaded.unexpected_keys)):
        if keys:
            raise ModelError(f"the adapter in '{folder}' does not fit '{model.name}': {min(keys)} {how}.")
    model.network = merged
