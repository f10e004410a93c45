"""The two ends of the language model give torch's own loss and gradients."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from robointervlm.models.qwen2_5_vl import embedding_loss as words
from robointervlm.models.qwen2_5_vl.embedding_loss import share_gradient, summed_loss, vectors

IDS = torch.tensor([[3, 5, 5, 0, 2, 7]])
TARGETS = torch.tensor([1, 5, 8])


def ends(*, tied: bool, dtype: torch.dtype = torch.float32) -> tuple[nn.Embedding, nn.Linear]:
    torch.manual_seed(0)
    embedding, output = nn.Embedding(9, 4, padding_idx=0), nn.Linear(4, 9, bias=False)
    nn.init.normal_(embedding.weight)
    if tied:
        output.weight = embedding.weight
    return embedding.to(dtype), output.to(dtype)


def learned(embedding: nn.Embedding, output: nn.Linear, *, plainly: bool) -> tuple[float, list[torch.Tensor]]:
    """The loss of a small model between the two ends, and the gradients of both."""
    shared = None if plainly else share_gradient(embedding, output)
    found = embedding(IDS) if plainly else vectors(embedding, IDS, shared)
    hidden = torch.tanh(found.cumsum(dim=1))[0, :3]
    if plainly:
        loss = F.cross_entropy(output(hidden).float(), TARGETS, reduction="sum")
    else:
        loss = summed_loss(output, hidden, TARGETS, shared)
    (0.25 * loss).backward()
    return float(loss.detach()), [embedding.weight.grad, output.weight.grad]


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("rows", [1, 2, 100])
def test_loss_and_gradients_are_those_of_torch_whatever_the_chunk(tied, rows, monkeypatch):
    monkeypatch.setattr(words, "CHUNK_BYTES", 4 * 9 * rows)
    loss, gradients = learned(*ends(tied=tied), plainly=False)
    right, expected = learned(*ends(tied=tied), plainly=True)
    assert loss == pytest.approx(right, rel=1e-6)
    for ours, theirs in zip(gradients, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-7)


def test_gradients_of_several_passes_add_up():
    embedding, output = ends(tied=True)
    for _ in range(2):
        learned(embedding, output, plainly=False)
    _, (expected, _) = learned(*ends(tied=True), plainly=True)
    torch.testing.assert_close(embedding.weight.grad, 2 * expected)


def test_a_batch_without_labels_gives_zeros():
    embedding, output = ends(tied=True)
    shared = share_gradient(embedding, output)
    hidden = vectors(embedding, IDS, shared)[0, :0]
    loss = summed_loss(output, hidden, TARGETS[:0], shared)
    loss.backward()
    assert float(loss.detach()) == 0
    assert not embedding.weight.grad.any()


def test_a_frozen_output_layer_passes_the_gradient_on():
    embedding, output = ends(tied=False)
    output.requires_grad_(False)
    hidden = torch.ones(3, 4, requires_grad=True)
    summed_loss(output, hidden, TARGETS, None).backward()
    expected = torch.ones(3, 4, requires_grad=True)
    F.cross_entropy(output(expected), TARGETS, reduction="sum").backward()
    torch.testing.assert_close(hidden.grad, expected.grad)
    assert output.weight.grad is None


def test_under_autocast_the_products_are_bfloat16_and_the_gradient_float32():
    with torch.autocast("cpu", torch.bfloat16):
        loss, (ours, _) = learned(*ends(tied=True), plainly=False)
        right, (theirs, _) = learned(*ends(tied=True), plainly=True)
    assert loss == pytest.approx(right, rel=2**-8)
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours, theirs, rtol=0, atol=2**-6 * float(theirs.abs().max()))


def test_float16_goes_torchs_own_way():
    # Its small gradients live behind the scaler, which multiplies the loss: they are made in the backward pass.
    _, output = ends(tied=False, dtype=torch.float16)
    loss = summed_loss(output, torch.ones(3, 4, dtype=torch.float16), TARGETS, None)
    assert type(loss.grad_fn).__name__ == "NllLossBackward0"


def test_the_gradient_of_one_loss_is_taken_once():
    embedding, output = ends(tied=False)
    loss = summed_loss(output, embedding(IDS)[0, :3], TARGETS, None)
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="taken already"):
        loss.backward()


def test_without_gradients_none_is_made():
    embedding, output = ends(tied=True)
    with torch.no_grad():
        shared = share_gradient(embedding, output)
        loss = summed_loss(output, vectors(embedding, IDS, shared)[0, :3], TARGETS, shared)
    assert not loss.requires_grad
    assert float(loss) > 0
