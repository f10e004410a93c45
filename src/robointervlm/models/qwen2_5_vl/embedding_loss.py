"""The two ends of the language model, from words to vectors and from vectors to the loss, with as little as they need.

Where both ends have one weight, torch makes a gradient of the whole vocabulary for each and adds them into a third: on
a small model a quarter of a step. Here the output's gradient is kept, and the few rows of the input are added to it.

Shape suffixes: B batch, L tokens, S supervised tokens, V vocabulary, H hidden.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

# Of the logits in float32 at once; thousands of supervised tokens would be gigabytes.
CHUNK_BYTES = 1 << 28


@dataclass
class OutputGradient:
    """The output layer's part of the gradient of a weight that both ends share, on its way to the input's part.

    Of one forward pass: the backward pass reaches the output layer first, and the word vectors last.
    """

    weight_VH: Tensor | None = None


def share_gradient(words: nn.Module, output: nn.Module) -> OutputGradient | None:
    """What carries the gradient of the output layer to the word vectors; None where each makes its own."""
    if type(words) is not nn.Embedding or not takes_chunks(output):
        return None
    return OutputGradient() if words.weight is output.weight and words.weight.requires_grad else None


def takes_chunks(output: nn.Module) -> bool:
    """Whether the loss can be made of the layer's weight, without calling the layer itself."""
    return type(output) is nn.Linear and output.bias is None


def vectors(words: nn.Module, ids_BL: Tensor, shared: OutputGradient | None) -> Tensor:
    """The word vectors of a batch, shape (B, L, H)."""
    if shared is None or not torch.is_grad_enabled():
        found: Tensor = words(ids_BL)
        return found
    with torch.no_grad():
        found = words(ids_BL)
    learning: Any = _Vectors.apply
    read: Tensor = learning(found, words.weight, ids_BL, words.padding_idx, shared)
    return read


def summed_loss(output: nn.Module, hidden_SH: Tensor, targets_S: Tensor, shared: OutputGradient | None) -> Tensor:
    """The summed cross-entropy of the output layer's logits, float32; the logits of a chunk of tokens exist at a time.

    The gradient is made along with it, so the logits are neither kept nor computed twice.
    """
    weight: Any = output.weight
    kind = weight.device.type
    # What the layer computes in.
    dtype: torch.dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype
    # What is right by less than float16 can hold is kept by the scaler, which comes after the loss.
    if not takes_chunks(output) or dtype == torch.float16:
        return F.cross_entropy(output(hidden_SH).float(), targets_S, reduction="sum")
    summed: Any = _SummedLoss.apply
    loss: Tensor = summed(hidden_SH.to(dtype), weight, targets_S, torch.is_grad_enabled(), shared)
    return loss


class _Vectors(torch.autograd.Function):
    @staticmethod
    def forward(  # noqa: PLR0913, PLR0917 - autograd passes by place
        ctx: Any, found_BLH: Tensor, weight_VH: Tensor, ids_BL: Tensor, padding: int | None, shared: OutputGradient
    ) -> Tensor:
        ctx.ids, ctx.padding, ctx.shared, ctx.shape = ids_BL, padding, shared, weight_VH.shape
        return found_BLH.view_as(found_BLH)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient_BLH: Tensor) -> tuple[Tensor | None, ...]:
        whole_VH, ctx.shared.weight_VH = ctx.shared.weight_VH, None
        if whole_VH is None:
            whole_VH = gradient_BLH.new_zeros(ctx.shape)
        if ctx.padding is not None:
            gradient_BLH = gradient_BLH.masked_fill((ctx.ids == ctx.padding)[..., None], 0.0)
        # Not index_add_, which adds in any order on a GPU.
        rows = gradient_BLH.flatten(0, -2).to(whole_VH.dtype)
        whole_VH.index_put_((ctx.ids.flatten(),), rows, accumulate=True)
        return None, whole_VH, None, None, None


class _SummedLoss(torch.autograd.Function):
    @staticmethod
    def forward(  # noqa: PLR0913, PLR0917
        ctx: Any,
        hidden_SH: Tensor,
        weight_VH: Tensor,
        targets_S: Tensor,
        learning: bool,  # noqa: FBT001 - autograd passes by place
        shared: OutputGradient | None,
    ) -> Tensor:
        dtype = hidden_SH.dtype
        output_VH = weight_VH.to(dtype)
        wants_hidden, wants_weight = (learning and needed for needed in ctx.needs_input_grad[:2])
        hidden_gradient = torch.empty_like(hidden_SH) if wants_hidden else None
        weight_gradient = torch.zeros_like(weight_VH) if wants_weight and not len(hidden_SH) else None
        loss = torch.zeros((), device=hidden_SH.device)
        rows = max(1, CHUNK_BYTES // (4 * len(weight_VH)))
        for start in range(0, len(hidden_SH), rows):
            chunk_SH, chunk_S = hidden_SH[start : start + rows], targets_S[start : start + rows, None]
            logits_SV = F.log_softmax((chunk_SH @ output_VH.T).float(), dim=-1)
            loss -= logits_SV.gather(1, chunk_S).sum()
            if not (wants_hidden or wants_weight):
                continue
            # The gradient of the logits: what the model says less what is right.
            wrong_SV = logits_SV.exp_().scatter_add_(1, chunk_S, logits_SV.new_full(chunk_S.shape, -1.0)).to(dtype)
            if hidden_gradient is not None:
                hidden_gradient[start : start + rows] = wrong_SV @ output_VH
            if wants_weight:
                part_VH = (wrong_SV.T @ chunk_SH).to(weight_VH.dtype)
                weight_gradient = part_VH if weight_gradient is None else weight_gradient.add_(part_VH)
        ctx.gradients, ctx.shared = (hidden_gradient, weight_gradient), shared
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.gradients is None:
            raise RuntimeError("the gradient of this loss was taken already; its tensors are gone")
        (hidden_SH, weight_VH), ctx.gradients = ctx.gradients, None
        hidden_SH = None if hidden_SH is None else hidden_SH.mul_(gradient)
        weight_VH = None if weight_VH is None else weight_VH.mul_(gradient)
        if ctx.shared is not None and weight_VH is not None:
            ctx.shared.weight_VH, weight_VH = weight_VH, None
        return hidden_SH, weight_VH, None, None, None
