"""The settings of a Qwen2.5-VL with experts: transformers' own, and those of the mixture."""

# transformers annotates few of the functions that a subclass calls.
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from huggingface_hub.dataclasses import strict
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLTextConfig
from transformers.models.qwen2_5_vl.configuration_qwen2_5_vl import Qwen2_5_VLVisionConfig

MODEL_TYPE = "robointer_qwen2_5_vl_moe"


@strict
class MoeTextConfig(Qwen2_5_VLTextConfig):
    """The language model's settings. The defaults are the published ones.

    `norm_topk_prob` is yes or no; a published number, such as 0.01, is yes if it is above 0. Without `adaptive_gate`
    the scaler is a constant (1 unless the checkpoint says otherwise), not a parameter.
    """

    model_type = MODEL_TYPE + "_text"

    num_experts: int = 16
    num_experts_per_tok: int = 4
    moe_intermediate_size: int = 2048
    norm_topk_prob: bool | int | float = True
    adaptive_gate: bool = False
    decoder_sparse_step: int = 1
    mlp_only_layers: list[int] | tuple[int, ...] | None = None
    router_aux_loss_coef: float = 0.001

    def __post_init__(self, **kwargs: Any) -> None:
        self.norm_topk_prob = self.norm_topk_prob > 0
        self.mlp_only_layers = list(self.mlp_only_layers or [])
        super().__post_init__(**kwargs)
        if self.decoder_sparse_step < 1:
            raise ValueError(f"decoder_sparse_step is {self.decoder_sparse_step}; every how many layers: 1 or more.")
        if self.num_experts and not 1 <= self.num_experts_per_tok <= self.num_experts:
            raise ValueError(f"num_experts_per_tok is {self.num_experts_per_tok}, of {self.num_experts} experts.")

    def is_sparse(self, layer: int) -> bool:
        """Whether the layer of this number, from 0, has experts."""
        kept_dense = layer in (self.mlp_only_layers or [])
        return not kept_dense and self.num_experts > 0 and (layer + 1) % self.decoder_sparse_step == 0


@strict
class MoeConfig(Qwen2_5_VLConfig):
    """The whole model's settings, with a `model_type` that no dense class reads and forgets the experts of."""

    model_type = MODEL_TYPE
    sub_configs_defaults: ClassVar[dict[str, Any]] = {
        "vision_config": Qwen2_5_VLVisionConfig,
        "text_config": MoeTextConfig,
    }


# What a dense text config lacks.
EXPERT_FIELDS = (
    *("num_experts", "num_experts_per_tok", "moe_intermediate_size", "norm_topk_prob", "adaptive_gate"),
    *("decoder_sparse_step", "mlp_only_layers", "router_aux_loss_coef"),
)
# The published code writes these as well, and nothing here reads them.
_UNREAD_FIELDS = ("output_router_logits", "shared_expert_intermediate_size")
NEEDED_FIELDS = ("num_experts", "num_experts_per_tok", "moe_intermediate_size", "norm_topk_prob")
"""What the weights of experts do not tell, or not alone, and what answers depend on."""


def with_experts(dense: Qwen2_5_VLConfig, fields: dict[str, Any]) -> MoeConfig:
    """The settings of a dense model with these `EXPERT_FIELDS` added."""
    settings = dense.to_dict()
    dropped = ("model_type", *EXPERT_FIELDS, *_UNREAD_FIELDS)
    text = {key: value for key, value in settings["text_config"].items() if key not in dropped}
    other = {key: value for key, value in settings.items() if key not in (*dropped, "architectures", "text_config")}
    config: Any = MoeConfig
    made: MoeConfig = config(text_config=text | fields, **other)
    return made


def drop_expert_fields(dense: Qwen2_5_VLConfig) -> None:
    """Forget what the settings of a dense model say of experts, so that no export says it again."""
    for holder in (dense, dense.text_config):
        for key in (*EXPERT_FIELDS, *_UNREAD_FIELDS):
            vars(holder).pop(key, None)


def published_fields(said: Mapping[str, Any]) -> dict[str, Any]:
    """The `EXPERT_FIELDS` of a config.json, flat or in its `text_config`, which goes first; empty if it has none."""
    nested = said.get("text_config")
    holders = (said, nested) if isinstance(nested, Mapping) else (said,)
    return {key: holder[key] for holder in holders for key in EXPERT_FIELDS if holder.get(key) is not None}
