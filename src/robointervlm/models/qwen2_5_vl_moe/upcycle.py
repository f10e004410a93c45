"""A mixture of experts from a dense checkpoint: the same answers at first, with room to learn more."""

from __future__ import annotations

from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field

from robointervlm.core.errors import ModelError, RecipeError
from robointervlm.models.qwen2_5_vl.encoder import Encoder
from robointervlm.models.qwen2_5_vl.network import Qwen25VL
from robointervlm.models.qwen2_5_vl.parts import part_of
from robointervlm.models.qwen2_5_vl_moe.config import with_experts
from robointervlm.models.qwen2_5_vl_moe.experts import Experts, MlpWithExperts, RoboInterQwen25VLMoe


class Shape(BaseModel):
    """How many experts, how wide, and in which layers. The defaults are the published ones."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    num_experts: int = Field(default=16, ge=1)
    num_experts_per_tok: int = Field(default=4, ge=1)
    moe_intermediate_size: int = Field(default=2048, ge=1)
    norm_topk_prob: bool = True
    decoder_sparse_step: int = Field(default=1, ge=1)
    mlp_only_layers: tuple[int, ...] = ()
    router_aux_loss_coef: float = Field(default=0.001, ge=0)


def upcycled(dense: Qwen25VL, shape: Shape, *, seed: int) -> Qwen25VL:
    """The dense model with experts that count for nothing yet: its logits are the same bits.

    Experts and routers are drawn as transformers draws a layer (normal, the config's `initializer_range`), every
    `experts_scaler` is exactly 0 and learns. Raises `ModelError` where there are experts already, `RecipeError` for a
    shape that does not fit.
    """
    if isinstance(dense.network, RoboInterQwen25VLMoe):
        raise ModelError(f"'{dense.name}' has experts already; give a dense checkpoint.")
    layers = len(dense.network.model.language_model.layers)
    if outside := [layer for layer in shape.mlp_only_layers if not 0 <= layer < layers]:
        raise RecipeError(
            f"layer {outside[0]} of mlp_only_layers does not exist; the model has layers 0 to {layers - 1}."
        )
    if shape.num_experts_per_tok > shape.num_experts:
        raise RecipeError(f"{shape.num_experts_per_tok} experts per token, but there are only {shape.num_experts}.")
    fields = shape.model_dump() | {"mlp_only_layers": list(shape.mlp_only_layers), "adaptive_gate": True}
    config = with_experts(dense.network.config, fields)
    with torch.random.fork_rng():
        kind: Any = RoboInterQwen25VLMoe
        network: RoboInterQwen25VLMoe = kind._from_config(config, dtype=dense.network.dtype)
    if not any(isinstance(module, MlpWithExperts) for module in network.modules()):
        raise RecipeError("this decoder_sparse_step and these mlp_only_layers leave no layer with experts.")
    missing, unexpected = network.load_state_dict(dense.network.state_dict(), strict=False)
    if unexpected or any(part_of(name) != "experts" for name in missing):
        raise ModelError(f"'{dense.name}' does not fit: {[*unexpected, *missing][:4]} are left over.")
    _draw(network, network.model.language_model.config.initializer_range, seed)
    network.generation_config = dense.network.generation_config
    network.train(mode=False)
    old = dense.encoder
    return Qwen25VL(network, Encoder(network.config, old.chat, old.limits, old.coordinates), name=f"{dense.name}-moe")


def _draw(network: RoboInterQwen25VLMoe, deviation: float, seed: int) -> None:
    """Draw routers and experts from the seed alone, whatever else was drawn before."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, MlpWithExperts):
                module.experts_scaler.zero_()
                module.moe_block.gate.weight.normal_(0.0, deviation, generator=generator)
            elif isinstance(module, Experts):
                for weight in (module.gate_up_proj, module.down_proj):
                    weight.normal_(0.0, deviation, generator=generator)
