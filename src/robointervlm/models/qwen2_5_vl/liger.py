"""Liger's fused kernels in a Qwen2.5-VL, where there is a GPU and the package is installed.

Taken are its RMS norm and its gated MLP, put into this network's modules one by one. liger-kernel 0.8.5 has a function
that does it for the whole model, but with transformers 5.23 that one ends in an ImportError. Not taken:

- its rotary positions: they replace a function that this transformers no longer has;
- its fused output layer and loss: they save the logits of all tokens, which the loss here never computes: it has those
  of the supervised ones, a small share;
- the MLPs that have experts beside them, whose `forward` is another one.

The attention function, also that of packed rows, and the 3-D positions are untouched.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
from types import MethodType
from typing import Any, Literal

from torch import Tensor, nn
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLMLP, Qwen2_5_VLRMSNorm, Qwen2MLP

from robointervlm.core.errors import RecipeError

logger = logging.getLogger(__name__)

Setting = Literal["auto", "on", "off"]


def is_wanted(setting: Setting, *, on_gpu: bool, installed: bool | None = None) -> bool:
    """Whether the kernels are to be used; `installed` is found out if not given.

    Raises `RecipeError` where `on` cannot be had.
    """
    if installed is None:
        installed = importlib.util.find_spec("liger_kernel") is not None
    if setting == "on" and not on_gpu:
        raise RecipeError("model.liger=on: Liger's kernels run on a GPU only, and this run has none; use auto or off.")
    if setting == "on" and not installed:
        raise RecipeError("model.liger=on: the package is not there; pip install liger-kernel, or use auto or off.")
    return setting != "off" and on_gpu and installed


def use_liger(network: nn.Module) -> None:
    """Compute the norms and gated MLPs of this network, and of no other, by Liger's kernels."""
    # By name: it needs triton, and is on few machines.
    functions: Any = importlib.import_module("liger_kernel.transformers.functional")

    def normed(module: Any, hidden: Tensor) -> Tensor:
        # Not in place, which would write over a gradient that something else may still read.
        output: Tensor = functions.liger_rms_norm(hidden, module.weight, module.variance_epsilon, in_place=False)
        return output

    def gated(module: Any, hidden: Tensor) -> Tensor:
        output: Tensor = module.down_proj(functions.liger_swiglu(module.gate_proj(hidden), module.up_proj(hidden)))
        return output

    ways = {Qwen2_5_VLRMSNorm: normed, Qwen2MLP: gated, Qwen2_5_VLMLP: gated}
    # By the very class: one derived from it, as the MLP with experts is, computes something else.
    replaced = [module for module in network.modules() if type(module) in ways]
    for module in replaced:
        module.forward = MethodType(ways[type(module)], module)
    logger.info("Liger's kernels compute %d norms and MLPs", len(replaced))
