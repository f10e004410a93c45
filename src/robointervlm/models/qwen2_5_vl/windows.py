"""Attention inside the vision tower: the windows of a layer, in one call for all of one size.

transformers calls sdpa once for every window of every picture. The result is the same.

Shape suffixes: B batch (1), N windows, H heads, P patches, D width of a head.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import AttentionInterface, PreTrainedModel

# With "flash" in its name transformers hands over all windows at once, and where they begin.
NAME = "robointer_flash_windows"


def window_attention(
    _module: torch.nn.Module,
    query_BHPD: Tensor,
    key_BHPD: Tensor,
    value_BHPD: Tensor,
    _attention_mask: Tensor | None = None,
    **settings: Any,
) -> tuple[Tensor, None]:
    """An attention function as transformers' AttentionInterface wants it; output of shape (B, P, H, D)."""
    starts, scale, dropout = settings["cu_seq_lens_q"], settings.get("scaling"), float(settings.get("dropout", 0.0))
    heads = (query_BHPD, key_BHPD, value_BHPD)
    # The kernel has no float32 and no dropout.
    if query_BHPD.is_cuda and value_BHPD.dtype in {torch.bfloat16, torch.float16} and not dropout:
        return _by_varlen_kernel(heads, starts, settings["max_length_q"], scale), None
    sizes: list[int] = starts.diff().tolist()
    by_size: dict[int, list[int]] = {}
    for window, size in enumerate(sizes):
        by_size.setdefault(size, []).append(window)
    windows = [torch.split(tensor, sizes, dim=2) for tensor in heads]
    found: dict[int, Tensor] = {}
    for places in by_size.values():
        query, key, value = (torch.cat([split[place] for place in places]) for split in windows)
        attended_NHPD = F.scaled_dot_product_attention(query, key, value, scale=scale, dropout_p=dropout)
        found |= zip(places, torch.split(attended_NHPD, 1), strict=True)
    return torch.cat([found[place] for place in range(len(sizes))], dim=2).transpose(1, 2), None


def _by_varlen_kernel(
    heads: tuple[Tensor, Tensor, Tensor], starts: Tensor, longest: int, scale: float | None
) -> Tensor:
    """All windows in one call of torch's own kernel; it has run on no GPU yet."""
    from torch.nn.attention.varlen import varlen_attn  # only a GPU needs it

    query_PHD, key_PHD, value_PHD = (tensor[0].transpose(0, 1).to(heads[2].dtype).contiguous() for tensor in heads)
    attended: Any = varlen_attn(
        *(query_PHD, key_PHD, value_PHD, starts, starts, longest, longest), scale=scale, window_size=(-1, -1)
    )
    output_PHD: Tensor = attended
    return output_PHD[None]


def use_window_attention(network: PreTrainedModel) -> None:
    """Let the vision tower attend to all windows of one size at once, if it would attend by sdpa."""
    config: Any = network.config
    if config.vision_config._attn_implementation == "sdpa":
        AttentionInterface.register(NAME, window_attention)
        config.vision_config._attn_implementation = NAME
