"""Muon in float32 on a CPU: the same update as torch's own, up to bfloat16's rounding."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from robointervlm.train.muon import Muon, orthogonal


def test_a_diagonal_matrix_goes_through_the_quintic_five_times():
    # By hand: 0.8 and 0.6 have norm 1; s -> 3.4445 s - 4.775 s^3 + 2.0315 s^5, five times in float64.
    found = orthogonal(torch.diag(torch.tensor([4.0, 3.0])))
    torch.testing.assert_close(found, torch.diag(torch.tensor([1.119204, 0.722876])), atol=2e-5, rtol=0)


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**16), st.sampled_from([1e-6, 1.0, 1e6]))
def test_all_singular_values_come_near_one_at_any_size_and_scale(rows, columns, seed, scale):
    matrix = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    well = left @ torch.diag(values.clamp(min=0.02 * values.max())) @ right
    found = orthogonal(well * scale)
    assert found.shape == (rows, columns)
    values = torch.linalg.svdvals(found)
    assert float(values.min()) > 0.65
    assert float(values.max()) < 1.25


def test_a_matrix_of_zeros_stays_one():
    assert not orthogonal(torch.zeros(3, 2)).any()


@pytest.mark.parametrize("shape", [(24, 16), (16, 24), (20, 20)])
def test_a_run_of_steps_is_torchs_own_up_to_bfloat16(shape):
    torch.manual_seed(0)
    start, gradients = torch.randn(shape), torch.randn(4, *shape)
    ends, buffers = [], []
    for kind in ("ours", "torch"):
        weight = torch.nn.Parameter(start.clone())
        settings = {"params": [weight], "lr": 0.01, "weight_decay": 0.1}
        optimizer = Muon([settings]) if kind == "ours" else torch.optim.Muon([settings], adjust_lr_fn="match_rms_adamw")
        for gradient in gradients:
            weight.grad = gradient.clone()
            optimizer.step()
        ends.append(weight.detach())
        buffers.append(optimizer.state[weight]["momentum_buffer"])
    assert torch.equal(*buffers)
    moved = (ends[1] - start).abs().max()
    assert float((ends[0] - ends[1]).abs().max()) < 0.03 * float(moved)
    assert float((ends[0] - ends[1]).abs().max()) > 0  # it is the rounding that went


def test_parameters_without_a_gradient_stay():
    weight = torch.nn.Parameter(torch.ones(2, 2))
    Muon([{"params": [weight], "lr": 0.1, "weight_decay": 0.1}]).step()
    assert torch.equal(weight.detach(), torch.ones(2, 2))
