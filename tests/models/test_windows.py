"""The windows of the vision tower, all of one size in one call, give what transformers' loop over them gives."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from robointervlm.core.prompt import Message
from robointervlm.models.qwen2_5_vl.windows import NAME, _by_varlen_kernel, use_window_attention, window_attention
from tiny_models import fresh_model, noise

# Windows of 112 pixels do not divide 252x140: it has full ones and three smaller kinds.
PICTURES = [noise(252, 140, 1), noise(112, 112, 2), noise(252, 140, 3), noise(56, 84, 4)]


def test_features_and_gradients_are_bit_for_bit_those_of_the_loop():
    model = fresh_model()
    visual = model.network.model.visual
    visual.fullatt_block_indexes = [1]
    text = "<image>" * len(PICTURES)
    batch = model.encoder.batch([model.encoder.encode([Message("user", text), Message("assistant", "Yes")], PICTURES)])

    def made() -> list[torch.Tensor]:
        visual.zero_grad()
        features = visual(batch.patches_PC, grid_thw=batch.grids_N3).pooler_output
        features.square().sum().backward()
        return [features.detach(), *(parameter.grad.clone() for parameter in visual.parameters())]

    theirs = made()
    use_window_attention(model.network)
    assert visual.config._attn_implementation == NAME
    for ours, expected in zip(made(), theirs, strict=True):
        assert torch.equal(ours, expected)


def test_a_tower_that_attends_by_eager_is_left_alone():
    model = fresh_model()
    model.network.set_attn_implementation("eager")
    use_window_attention(model.network)
    assert model.network.model.visual.config._attn_implementation == "eager"


def plain_varlen(query, key, value, query_starts, key_starts, *most, scale, window_size):
    """What the documentation of torch's kernel says, window by window."""
    assert (window_size, most) == ((-1, -1), (3, 3))
    assert query_starts is key_starts
    sizes = query_starts.diff().tolist()
    pieces = zip(*(tensor.transpose(0, 1).split(sizes, dim=1) for tensor in (query, key, value)), strict=True)
    found = [F.softmax(q @ k.transpose(1, 2) * scale, dim=-1) @ v for q, k, v in pieces]
    return torch.cat(found, dim=1).transpose(0, 1)


def test_the_kernel_of_variable_lengths_is_asked_for_the_same(monkeypatch: pytest.MonkeyPatch):
    # The kernel itself runs on a GPU only.
    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", plain_varlen)
    generator = torch.Generator().manual_seed(0)
    heads = tuple(torch.randn((1, 2, 6, 8), generator=generator) for _ in range(3))
    starts = torch.tensor([0, 3, 4, 6], dtype=torch.int32)
    looped, _ = window_attention(torch.nn.Module(), *heads, cu_seq_lens_q=starts, max_length_q=3, scaling=0.3)
    torch.testing.assert_close(_by_varlen_kernel(heads, starts, 3, 0.3), looped, rtol=0, atol=1e-6)
