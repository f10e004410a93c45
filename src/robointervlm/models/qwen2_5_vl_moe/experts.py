"""The modified Qwen2.5-VL on transformers' own classes: a few routed experts beside the dense MLP of a layer.

A sparse layer computes, of the normed input x of its MLP,

    MLP(x) + tanh(experts_scaler) * sum of w_e * E_e(x) over the k experts that the router prefers for this token,

where w is the router's softmax over all experts (in float32), divided by the sum of the k chosen with `norm_topk_prob`.
Importing this module registers it with transformers' Auto classes.

Shape suffixes: S tokens of the batch, H hidden, E experts, K chosen experts, I width of an expert, N = S x layers.
"""

# transformers annotates few of the functions that a subclass calls.
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import functools
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.hooks import RemovableHandle
from transformers import (
    AutoConfig,
    AutoModelForImageTextToText,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLTextModel,
    initialization,
)
from transformers.activations import ACT2FN
from transformers.conversion_mapping import get_checkpoint_conversion_mapping, register_checkpoint_conversion_mapping
from transformers.core_model_loading import Concatenate, MergeModulelist, WeightConverter, WeightRenaming
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLModel, Qwen2MLP

from robointervlm.models.qwen2_5_vl_moe.config import MODEL_TYPE, MoeConfig, MoeTextConfig

# Of the published layer: a gate over the dense MLP that its forward pass never uses.
UNUSED_PUBLISHED = "mlp_gate.weight"


class Experts(nn.Module):
    """All experts of a layer, each a gated MLP; stacked, so that an expert no token chose has a gradient of zero.

    Separate parameters would have none at all, and other processes would wait for it.
    """

    def __init__(self, config: MoeTextConfig) -> None:
        super().__init__()
        experts, hidden, width = config.num_experts, config.hidden_size, config.moe_intermediate_size
        self.gate_up_proj = nn.Parameter(torch.empty(experts, 2 * width, hidden))
        self.down_proj = nn.Parameter(torch.empty(experts, hidden, width))
        self.activation = ACT2FN[config.hidden_act]

    def forward(self, x_SH: Tensor, chosen_SK: Tensor, weights_SK: Tensor) -> Tensor:
        """The weighted sum of each token's chosen experts; no other expert is computed for it."""
        by_expert = chosen_SK.flatten().argsort(stable=True)
        token = by_expert // chosen_SK.shape[1]
        counts = torch.bincount(chosen_SK.flatten(), minlength=len(self.down_proj)).tolist()
        # The activation is a module, and is called once: where weights are shared out over processes, these have to
        # call the same modules in the same order, and how many experts got a token differs between them.
        gate, up = _each_by_its_expert(x_SH[token], counts, self.gate_up_proj).chunk(2, dim=-1)
        answers = _each_by_its_expert(self.activation(gate) * up, counts, self.down_proj)
        # Put back in the order of the tokens rather than added up where they belong: a GPU adds in any order.
        back_SKH = answers[by_expert.argsort()].view(*chosen_SK.shape, -1)
        return (back_SKH * weights_SK[..., None]).sum(dim=1).to(x_SH.dtype)


def _each_by_its_expert(x: Tensor, counts: list[int], weights: Tensor) -> Tensor:
    """The rows of x (sorted by expert, `counts` of each) times the matrix of their expert, of those with rows."""
    parts = zip(x.split(counts), weights.unbind(), strict=True)
    return torch.cat([F.linear(part, weight) for part, weight in parts if len(part)])


class MixtureBlock(nn.Module):
    """The router and its experts."""

    def __init__(self, config: MoeTextConfig) -> None:
        super().__init__()
        self.chosen = config.num_experts_per_tok
        self.normalised = bool(config.norm_topk_prob)
        self.gate = nn.Linear(config.hidden_size, config.num_experts, bias=False)
        self.experts = Experts(config)

    def forward(self, x: Tensor) -> Tensor:
        x_SH = x.reshape(-1, x.shape[-1])
        share_SE = self.gate(x_SH).softmax(dim=-1, dtype=torch.float32)
        weights_SK, chosen_SK = share_SE.topk(self.chosen, dim=-1)
        if self.normalised:
            weights_SK = weights_SK / weights_SK.sum(dim=-1, keepdim=True)
        mixed_SH: Tensor = self.experts(x_SH, chosen_SK, weights_SK.to(x.dtype))
        return mixed_SH.view_as(x)


class MlpWithExperts(Qwen2MLP):
    """The dense MLP with a mixture beside it, which counts as much as `tanh(experts_scaler)`, 0 at first."""

    def __init__(self, config: MoeTextConfig) -> None:
        super().__init__(config)
        self.moe_block = MixtureBlock(config)
        self.scaler_at_first = 0.0 if config.adaptive_gate else 1.0
        scaler = torch.full((1,), self.scaler_at_first)
        if config.adaptive_gate:
            self.experts_scaler = nn.Parameter(scaler)
        else:
            self.register_buffer("experts_scaler", scaler)

    def forward(self, x: Tensor) -> Tensor:
        dense: Tensor = super().forward(x)
        mixed: Tensor = self.moe_block(x)
        return dense + mixed * torch.tanh(self.experts_scaler)


class MoeTextModel(Qwen2_5_VLTextModel):
    """transformers' language model with experts in its sparse layers."""

    config: MoeTextConfig
    config_class = MoeTextConfig

    def __init__(self, config: MoeTextConfig) -> None:
        super().__init__(config)
        for index, layer in enumerate(self.layers):
            if config.is_sparse(index):
                layer.mlp = MlpWithExperts(config)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        # Parameters that are no Linear's are unknown to transformers, and would stay what the memory held before.
        if isinstance(module, Experts):
            for weight in (module.gate_up_proj, module.down_proj):
                initialization.normal_(weight, mean=0.0, std=self.config.initializer_range)
        elif isinstance(module, MlpWithExperts):
            initialization.constant_(module.experts_scaler, module.scaler_at_first)


class MoeModel(Qwen2_5_VLModel):
    """transformers' vision tower and the language model with experts."""

    config: MoeConfig
    config_class = MoeConfig

    def __init__(self, config: MoeConfig) -> None:
        super().__init__(config)
        self.language_model = MoeTextModel._from_config(config.text_config)
        self.post_init()


class RoboInterQwen25VLMoe(Qwen2_5_VLForConditionalGeneration):
    """The model with its output layer; in training its loss of `labels` contains the balancing loss."""

    config: MoeConfig
    config_class = MoeConfig
    # How many tokens an expert gets is known only when the router has spoken.
    _can_compile_fullgraph = False

    def __init__(self, config: MoeConfig) -> None:
        super().__init__(config)
        self.model = MoeModel(config)
        self.post_init()

    # Wrapped, because `generate` looks at the names of its parameters.
    @functools.wraps(Qwen2_5_VLForConditionalGeneration.forward)
    def forward(self, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        if kwargs.get("labels") is None or not self.training:
            return super().forward(*args, **kwargs)
        with Routing(self) as routing:
            output = super().forward(*args, **kwargs)
        if not routing.logits:
            return output
        mask = kwargs.get("attention_mask")
        balance = routing.loss(None if mask is None else mask.bool())
        if isinstance(output, tuple):
            return output[0] + balance, *output[1:]
        output["loss"] = output["loss"] + balance
        return output


class Routing:
    """What the routers that learn said in the forward passes made inside this context.

    The hooks are gone when it is left: the second forward pass of gradient checkpointing, during backward, is not
    counted again. Of a model without experts it records nothing.
    """

    def __init__(self, network: nn.Module) -> None:
        self.logits: list[Tensor] = []
        blocks = [module for module in network.modules() if isinstance(module, MixtureBlock)]
        self._blocks = [block for block in blocks if block.gate.weight.requires_grad]
        config: Any = getattr(network, "config", None)
        self._coefficient = float(config.text_config.router_aux_loss_coef) if blocks else 0.0
        self._hooks: list[RemovableHandle] = []

    def __enter__(self) -> Self:
        self._hooks = [
            block.gate.register_forward_hook(lambda _gate, _inputs, logits: self.logits.append(logits))
            for block in self._blocks
        ]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for hook in self._hooks:
            hook.remove()

    def loss(self, counted: Tensor | None = None) -> Tensor:
        """`router_aux_loss_coef` times the balancing loss of the tokens where `counted` (any shape of S) is true."""
        logits = self.logits if counted is None else [each[counted.flatten()] for each in self.logits]
        return self._coefficient * balancing_loss(torch.cat(logits), self._blocks[0].chosen)


def balancing_loss(logits_NE: Tensor, chosen: int) -> Tensor:
    """E times the sum over experts of (choices of e per token) x (mean share of e); k if all experts are used alike.

    The tokens of all layers count together. Source: the published layer (Switch Transformer's loss, as Mixtral has it).
    """
    share_NE = logits_NE.softmax(dim=-1, dtype=torch.float32)
    tokens, experts = share_NE.shape
    choices_E = torch.bincount(share_NE.topk(chosen, dim=-1).indices.flatten(), minlength=experts)
    return experts * (choices_E * share_NE.sum(dim=0)).sum() / max(1, tokens) ** 2


def _published_names() -> list[WeightRenaming | WeightConverter]:
    """How the published parameter names become ours: those of the dense model, and one tensor per expert stacked."""
    dense: list[WeightRenaming | WeightConverter] = get_checkpoint_conversion_mapping(
        Qwen2_5_VLForConditionalGeneration.__name__
    )
    return [
        *dense,
        WeightRenaming(r"(layers\.\d+)\.experts_scaler", r"\1.mlp.experts_scaler"),
        WeightRenaming(r"(layers\.\d+)\.moe_block\.", r"\1.mlp.moe_block."),
        WeightConverter(
            source_patterns=["moe_block.experts.*.gate_proj.weight", "moe_block.experts.*.up_proj.weight"],
            target_patterns="moe_block.experts.gate_up_proj",
            operations=[MergeModulelist(dim=0), Concatenate(dim=1)],
        ),
        WeightConverter(
            source_patterns="moe_block.experts.*.down_proj.weight",
            target_patterns="moe_block.experts.down_proj",
            operations=[MergeModulelist(dim=0)],
        ),
    ]


AutoConfig.register(MODEL_TYPE, MoeConfig, exist_ok=True)
AutoConfig.register(MODEL_TYPE + "_text", MoeTextConfig, exist_ok=True)
AutoModelForImageTextToText.register(MoeConfig, RoboInterQwen25VLMoe, exist_ok=True)
register_checkpoint_conversion_mapping(RoboInterQwen25VLMoe.__name__, _published_names(), overwrite=True)
