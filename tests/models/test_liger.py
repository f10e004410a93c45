"""When Liger's kernels are used, and on what. The kernels need a GPU: plain arithmetic stands in for them here."""

from __future__ import annotations

import copy
import importlib
import importlib.util
import inspect
import sys
from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional as F

from robointervlm.core.errors import RecipeError
from robointervlm.models.qwen2_5_vl.liger import is_wanted, use_liger
from robointervlm.models.qwen2_5_vl_moe.upcycle import Shape, upcycled
from tiny_models import fresh_model

IDS = torch.tensor([[20, 30, 40, 50, 60]])


@pytest.mark.parametrize(
    "setting, on_gpu, installed, wanted",
    [
        ("auto", True, True, True),
        ("auto", True, False, False),
        ("auto", False, True, False),
        ("auto", False, False, False),
        ("off", True, True, False),
        ("off", False, False, False),
        ("on", True, True, True),
    ],
)
def test_the_kernels_are_wanted_where_they_can_run(setting, on_gpu, installed, wanted):
    assert is_wanted(setting, on_gpu=on_gpu, installed=installed) is wanted


@pytest.mark.parametrize("on_gpu, installed, said", [(False, True, "GPU only"), (True, False, "pip install liger")])
def test_kernels_that_cannot_be_had_are_an_error_when_asked_for(on_gpu, installed, said):
    with pytest.raises(RecipeError, match=said):
        is_wanted("on", on_gpu=on_gpu, installed=installed)


class StandIn:
    """Liger's two functions in plain arithmetic, counting their calls."""

    def __init__(self) -> None:
        self.norms = self.gates = 0

    def liger_rms_norm(self, hidden, weight, eps, offset=0.0, casting_mode="llama", *, in_place=True):
        self.norms += 1
        return F.rms_norm(hidden, weight.shape, weight, eps)

    def liger_swiglu(self, gate, up):
        self.gates += 1
        return F.silu(gate) * up


@pytest.fixture
def stand_in(monkeypatch):
    functions = StandIn()
    monkeypatch.setitem(sys.modules, "liger_kernel", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "liger_kernel.transformers", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "liger_kernel.transformers.functional", functions)
    return functions


def test_norms_and_mlps_go_through_the_kernels_and_give_the_same_logits(stand_in):
    plain = fresh_model().network
    fused = copy.deepcopy(plain)
    use_liger(fused)
    with torch.no_grad():
        difference = (plain(input_ids=IDS).logits - fused(input_ids=IDS).logits).abs().max()
    assert difference < 1e-5
    # Two layers with two norms and an MLP each, and the last norm; the other network used none of them.
    assert (stand_in.norms, stand_in.gates) == (5, 2)


def test_the_vision_tower_goes_through_the_kernels_too(stand_in):
    network = fresh_model().network
    use_liger(network)
    patches = torch.zeros(4, 1176)
    network.model.visual(patches, grid_thw=torch.tensor([[1, 2, 2]]))
    # Two blocks with two norms and an MLP each, and the merger's norm.
    assert (stand_in.norms, stand_in.gates) == (5, 2)


def test_the_experts_are_still_computed(stand_in):
    network = upcycled(
        fresh_model(), Shape(num_experts=4, num_experts_per_tok=2, moe_intermediate_size=8), seed=0
    ).network
    for layer in network.model.language_model.layers:
        layer.mlp.experts_scaler.data.fill_(2.0)
    plain = copy.deepcopy(network)
    use_liger(network)
    with torch.no_grad():
        assert torch.allclose(network(input_ids=IDS).logits, plain(input_ids=IDS).logits, atol=1e-5)
    assert (stand_in.norms, stand_in.gates) == (5, 0)


def test_the_installed_package_has_the_two_functions():
    if importlib.util.find_spec("liger_kernel") is None:
        pytest.skip("liger-kernel is not installed")
    functions = importlib.import_module("liger_kernel.transformers.functional")
    assert list(inspect.signature(functions.liger_swiglu).parameters) == ["a", "b"]
    names = list(inspect.signature(functions.liger_rms_norm).parameters)
    assert names[:3] == ["X", "W", "eps"]
    assert "in_place" in names
