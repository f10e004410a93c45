"""Segments behind one prefix, in one call for all of them: what a mask for each gives, and the same gradients."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from robointervlm.models.qwen2_5_vl.prefix_attention import attention_behind_prefix


def heads(*lengths: int, seed: int, dtype: torch.dtype) -> list[torch.Tensor]:
    made = torch.Generator().manual_seed(seed)
    return [torch.randn(1, 2, length, 8, generator=made, dtype=dtype).requires_grad_() for length in lengths]


def by_masks(query, key, value, prefix_key, prefix_value, lengths):
    """Each segment alone, with a mask that lets it see the prefix whole and itself up to each token."""
    pieces, start, before = [], 0, prefix_key.shape[2]
    for length in lengths:
        part = slice(start, start + length)
        mask = torch.ones(length, before + length, dtype=torch.bool).tril(diagonal=before)
        seen = [
            torch.cat([prefix, own[:, :, part]], dim=2) for prefix, own in ((prefix_key, key), (prefix_value, value))
        ]
        pieces.append(F.scaled_dot_product_attention(query[:, :, part], *seen, attn_mask=mask))
        start += length
    return torch.cat(pieces, dim=2)


@settings(max_examples=40)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=6), st.integers(1, 70), st.integers(0, 99))
def test_output_and_gradients_are_those_of_a_mask_for_each_segment(lengths, prefix, seed):
    total = sum(lengths)
    given_ = heads(total, total, total, prefix, prefix, seed=seed, dtype=torch.float64)
    query, key, value, prefix_key, prefix_value = given_
    expected = by_masks(*given_, lengths)
    found = attention_behind_prefix((query, key, value), (prefix_key, prefix_value), lengths, None)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    weights = torch.randn(expected.shape, generator=torch.Generator().manual_seed(seed + 1), dtype=torch.float64)
    theirs = torch.autograd.grad((expected * weights).sum(), given_)
    ours = torch.autograd.grad((found * weights).sum(), given_)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


def test_scores_far_apart_are_weighed_without_an_overflow():
    query, key, value, prefix_key, prefix_value = heads(3, 3, 3, 4, 4, seed=0, dtype=torch.float32)
    with torch.no_grad():
        prefix_key.mul_(1000)
    found = attention_behind_prefix((query, key, value), (prefix_key, prefix_value), [2, 1], None)
    torch.testing.assert_close(found, by_masks(query, key, value, prefix_key, prefix_value, [2, 1]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_precision_stays_and_the_difference_is_rounding(dtype):
    given_ = heads(30, 30, 30, 20, 20, seed=3, dtype=dtype)
    found = attention_behind_prefix((given_[0], given_[1], given_[2]), (given_[3], given_[4]), [10, 20], None)
    assert found.dtype is dtype
    exact = by_masks(*[each.double() for each in given_], [10, 20])
    bound = 2**-7 if dtype is torch.bfloat16 else 1e-6
    assert float((found.double() - exact).detach().abs().max()) < bound * float(exact.abs().max())
