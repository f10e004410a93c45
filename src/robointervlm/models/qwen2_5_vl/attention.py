"""Attention of a packed row, some of its conversations behind a shared prefix, and of the vision tower's windows.

A row is a list of segments. A token sees the tokens of its own segment up to itself and, before them, the whole of the
one segment its own one continues; nothing else. No mask of the whole row is ever made. The windows of the vision tower
are one call for all of one size, where transformers calls sdpa once for every window of every picture, with the same
result.

Shape suffixes: B batch (1), H heads, G key-value heads, L tokens of the row, K gathered keys, D width of a head; in the
vision tower N windows, P patches.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from robointervlm.core.errors import ModelError
from robointervlm.models.qwen2_5_vl.prefix_attention import attention_behind_prefix

NAME = "robointer_packed"
# With "flash" in its name transformers hands over all windows at once, and where they begin.
WINDOWS = "robointer_flash_windows"


@dataclass(frozen=True)
class Segment:
    """The tokens from `start` to before `end`, which continue those from `prefix_start` to before `prefix_end`."""

    start: int
    end: int
    prefix_start: int = 0
    prefix_end: int = 0

    @property
    def length(self) -> int:
        return self.end - self.start

    @property
    def prefix(self) -> int:
        """How many tokens stand before it."""
        return self.prefix_end - self.prefix_start


class Varlen(NamedTuple):
    """What a kernel of variable lengths takes.

    The places of the keys, shape (K,); where the queries and keys of each segment begin, int32, one more than there
    are segments; the most queries and the most keys of a segment.
    """

    places: Tensor
    query_starts: Tensor
    key_starts: Tensor
    most_queries: int
    most_keys: int


@dataclass(frozen=True)
class Segments:
    """The segments of one row, in order, without a gap between them."""

    parts: tuple[Segment, ...]
    _on: dict[torch.device, Varlen] = field(default_factory=dict, compare=False, repr=False)

    @cached_property
    def siblings(self) -> list[list[Segment]]:
        """The segments in order, those that follow each other behind the same prefix together."""
        found: list[list[Segment]] = []
        for part in self.parts:
            before = found[-1][0] if found else None
            same = before and (before.prefix_start, before.prefix_end) == (part.prefix_start, part.prefix_end)
            if part.prefix and same:
                found[-1].append(part)
            else:
                found.append([part])
        return found

    def varlen(self, device: torch.device) -> Varlen:
        """What a kernel of variable lengths takes; made once for all layers."""
        if device not in self._on:
            # What the segments see, one segment after the other.
            places = [
                place
                for part in self.parts
                for run in (range(part.prefix_start, part.prefix_end), range(part.start, part.end))
                for place in run
            ]
            queries = torch.tensor([0, *(part.length for part in self.parts)])
            keys = torch.tensor([0, *(part.prefix + part.length for part in self.parts)])
            self._on[device] = Varlen(
                torch.tensor(places, device=device),
                queries.cumsum(0).to(device, torch.int32),
                keys.cumsum(0).to(device, torch.int32),
                int(queries.max()),
                int(keys.max()),
            )
        return self._on[device]


def packed_attention(  # noqa: PLR0913 - the signature is transformers'
    module: torch.nn.Module,
    query_BHLD: Tensor,
    key_BGLD: Tensor,
    value_BGLD: Tensor,
    attention_mask: Tensor | None,
    *,
    segments: Segments | None = None,
    **settings: Any,
) -> tuple[Tensor, Tensor | None]:
    """An attention function as transformers' AttentionInterface wants it; output of shape (B, L, H, D).

    Without `segments` it is transformers' own sdpa: the same model still answers and takes batches that are not packed.
    """
    if segments is None:
        return sdpa_attention_forward(module, query_BHLD, key_BGLD, value_BGLD, attention_mask, **settings)
    if query_BHLD.shape[0] != 1 or query_BHLD.shape[2] != segments.parts[-1].end:
        raise ValueError(f"segments end at {segments.parts[-1].end}, the row is {tuple(query_BHLD.shape)} (B, H, L, D)")
    scale, dropout = settings.get("scaling"), float(settings.get("dropout", 0.0))
    # The kernel has no float32 and no dropout.
    if query_BHLD.is_cuda and value_BGLD.dtype in {torch.bfloat16, torch.float16} and not dropout:
        return _by_varlen_kernel(query_BHLD, key_BGLD, value_BGLD, segments, scale), None
    # Heads repeated once per layer: sdpa's own way of sharing them leaves the fast kernel on a CPU.
    repeats = query_BHLD.shape[1] // key_BGLD.shape[1]
    key_BHLD, value_BHLD = (tensor.repeat_interleave(repeats, dim=1) for tensor in (key_BGLD, value_BGLD))
    # Under autocast the rotary product is float32 and the values are not.
    heads = (query_BHLD.to(value_BHLD.dtype), key_BHLD.to(value_BHLD.dtype), value_BHLD)
    if query_BHLD.device.type == "cpu" and not dropout:
        pieces = _by_siblings(heads, segments, scale)
    else:
        pieces = [_one_segment(part, heads, scale, dropout) for part in segments.parts]
    return torch.cat(pieces, dim=2).transpose(1, 2).contiguous(), None


def _by_siblings(heads: tuple[Tensor, Tensor, Tensor], segments: Segments, scale: float | None) -> list[Tensor]:
    """What the tokens of a row attend to, in pieces: segments behind the same prefix together, any other one alone."""
    siblings = segments.siblings
    lengths = [sum(part.length for part in parts) for parts in siblings]
    # Split once: the gradient of a slice would be a row of zeros for each.
    query, key, value = (torch.split(tensor, lengths, dim=2) for tensor in heads)
    places = {(parts[0].start, parts[-1].end): place for place, parts in enumerate(siblings)}
    pieces = []
    for parts, *own in zip(siblings, query, key, value, strict=True):
        first = parts[0]
        if first.prefix:
            place = places[first.prefix_start, first.prefix_end]
            prefix, parted = (key[place], value[place]), [part.length for part in parts]
            pieces.append(attention_behind_prefix((own[0], own[1], own[2]), prefix, parted, scale))
        else:
            pieces.append(F.scaled_dot_product_attention(own[0], own[1], own[2], is_causal=True, scale=scale))
    return pieces


def _one_segment(part: Segment, heads: tuple[Tensor, Tensor, Tensor], scale: float | None, dropout: float) -> Tensor:
    """What the tokens of one segment attend to, of queries, keys and values of the row, each (B, H, L, D)."""
    query, key, value = (tensor_BHLD[:, :, part.start : part.end] for tensor_BHLD in heads)
    # sdpa aligns its causal edge top left. Behind a prefix it has to be bottom right, which takes a mask, but one of
    # the segment's own size; running the prefix's queries along instead costs up to four times as much.
    mask = None
    if part.prefix:
        behind = slice(part.prefix_start, part.prefix_end)
        key, value = (
            torch.cat([tensor[:, :, behind], own], dim=2) for tensor, own in zip(heads[1:], (key, value), strict=True)
        )
        mask = torch.ones(part.length, part.prefix + part.length, dtype=torch.bool, device=query.device)
        mask = mask.tril(diagonal=part.prefix)
    return F.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, is_causal=mask is None, scale=scale, dropout_p=dropout
    )


def _by_varlen_kernel(
    query_BHLD: Tensor, key_BGLD: Tensor, value_BGLD: Tensor, segments: Segments, scale: float | None
) -> Tensor:
    """All segments in one call of torch's own kernel, whose causal edge is bottom right; it has run on no GPU yet."""
    from torch.nn.attention.varlen import varlen_attn  # only a GPU needs it

    varlen = segments.varlen(query_BHLD.device)
    # Under autocast the rotary product is float32 and the values are not; the kernel wants one precision.
    query_LHD = query_BHLD[0].transpose(0, 1).to(value_BGLD.dtype).contiguous()
    key_KGD, value_KGD = (
        tensor[0].transpose(0, 1).to(value_BGLD.dtype)[varlen.places] for tensor in (key_BGLD, value_BGLD)
    )
    attended: Any = varlen_attn(
        *(query_LHD, key_KGD, value_KGD, *varlen[1:]),
        scale=scale,
        window_size=(-1, 0),
        enable_gqa=query_LHD.shape[1] != key_KGD.shape[1],
    )
    output_LHD: Tensor = attended
    return output_LHD[None]


def use_packed_attention(network: PreTrainedModel) -> None:
    """Let the language model of a Qwen2.5-VL take packed rows, and its vision tower all windows of a size at once.

    Raises `ModelError` if it attends in a sliding window, which a packed row does not know.
    """
    text_config: Any = network.config.get_text_config()
    if kinds := set(text_config.layer_types) - {"full_attention"}:
        raise ModelError(f"the model has layers of {', '.join(sorted(kinds))}; train it with batch.pack=none.")
    AttentionInterface.register(NAME, packed_attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    text_config._attn_implementation = NAME
    use_window_attention(network)


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
        return _windows_by_varlen_kernel(heads, starts, settings["max_length_q"], scale), None
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


def _windows_by_varlen_kernel(
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
        AttentionInterface.register(WINDOWS, window_attention)
        config.vision_config._attn_implementation = WINDOWS
