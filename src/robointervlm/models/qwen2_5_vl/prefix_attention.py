"""Attention of several segments behind one prefix, on a CPU: the prefix is multiplied with all of them at once.

A softmax over two sets of keys is the two softmaxes, each weighted by its share of the sum of exponentials; and the
gradient of either part follows from the output and that sum of the whole (as between the devices of ring attention, Liu
et al. 2023, arXiv:2310.01889). So no mask is needed and no key is copied: one call for all queries and the prefix,
which every query sees whole, and a causal one for each segment and itself.

Shape suffixes: B batch (1), H heads, L tokens of all segments, P tokens of the prefix, D width of a head.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

# What `scaled_dot_product_attention` runs on a CPU; only these tell the logarithm of the sum of exponentials.
_forward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


class _BehindPrefix(torch.autograd.Function):
    @staticmethod
    def forward(  # noqa: PLR0913, PLR0917 - what it takes is what it has gradients of
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        prefix_key: Tensor,
        prefix_value: Tensor,
        lengths: list[int],
        scale: float | None,
    ) -> Tensor:
        seen, seen_sum = _forward(query, prefix_key, prefix_value, 0.0, False, scale=scale)  # noqa: FBT003
        split = (torch.split(tensor, lengths, dim=2) for tensor in (query, key, value))
        own = [_forward(*heads, 0.0, True, scale=scale) for heads in zip(*split, strict=True)]  # noqa: FBT003
        own_sum = torch.cat([sums for _, sums in own], dim=2)
        whole_sum = torch.logaddexp(seen_sum, own_sum)
        output = seen * (seen_sum - whole_sum).exp()[..., None]
        output += torch.cat([part for part, _ in own], dim=2) * (own_sum - whole_sum).exp()[..., None]
        attended: Tensor = output.to(query.dtype)
        ctx.save_for_backward(query, key, value, prefix_key, prefix_value, attended, whole_sum)
        ctx.lengths, ctx.scale = lengths, scale
        return attended

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, prefix_key, prefix_value, output, sums = ctx.saved_tensors
        whole = (gradient, query, prefix_key, prefix_value, output, sums)
        of_query, of_prefix_key, of_prefix_value = _backward(*whole, 0.0, False, scale=ctx.scale)  # noqa: FBT003
        split = (torch.split(tensor, ctx.lengths, dim=2) for tensor in (gradient, query, key, value, output, sums))
        own = [_backward(*heads, 0.0, True, scale=ctx.scale) for heads in zip(*split, strict=True)]  # noqa: FBT003
        own_query, of_key, of_value = (torch.cat(parts, dim=2) for parts in zip(*own, strict=True))
        return of_query + own_query, of_key, of_value, of_prefix_key, of_prefix_value, None, None


def attention_behind_prefix(
    heads_BHLD: tuple[Tensor, Tensor, Tensor],
    prefix_BHPD: tuple[Tensor, Tensor],
    lengths: list[int],
    scale: float | None,
) -> Tensor:
    """What segments of these lengths attend to, each to the whole prefix and, causally, to itself; (B, H, L, D).

    `heads` are the queries, keys and values of the segments, one after the other, `prefix` its keys and values.
    """
    attended: Tensor = _BehindPrefix.apply(*heads_BHLD, *prefix_BHPD, lengths, scale)
    return attended
