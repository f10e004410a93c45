"""Liger's fused kernels in a Qwen2.5-VL, where there is a GPU and the package is installed.

Taken are its RMS norms and its gated MLP. Not taken:
- its rotary positions: they replace a function of transformers that this version of it no longer calls;
- its fused output layer and loss: they replace the network's `forward`, which the training does not use, and would
  compute logits of every token. The loss here has them at supervised positions only, a small share of the tokens;
- its gated MLP in a model with experts: it would replace the layer's whole `forward`, experts included.

The attention function, so also that of packed rows, and the 3-D positions are left as they are.
"""

from __future__ import annotations

import importlib.util
import logging
from typing import Literal

from transformers import Qwen2_5_VLForConditionalGeneration

from robointervlm.core.errors import RecipeError
from robointervlm.models.qwen2_5_vl_moe.network import RoboInterQwen25VLMoe

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


def use_liger(network: Qwen2_5_VLForConditionalGeneration) -> None:
    """Replace the norms and the gated MLP of this network; has to come before low-rank updates are put in."""
    from liger_kernel.transformers import apply_liger_kernel_to_qwen2_5_vl

    apply_liger_kernel_to_qwen2_5_vl(
        rope=False,
        cross_entropy=False,
        fused_linear_cross_entropy=False,
        rms_norm=True,
        swiglu=not isinstance(network, RoboInterQwen25VLMoe),
        model=network,
    )
    logger.info("Liger's kernels compute the norms%s", "" if isinstance(network, RoboInterQwen25VLMoe) else " and MLPs")
