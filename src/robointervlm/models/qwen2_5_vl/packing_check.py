"""Whether packed rows give what their conversations give alone, on a model and data at hand.

The other side is transformers' own: its attention, its loss over all logits, one conversation at a time. How far its
two attention functions differ from each other, on the same data, is what rounding does to this model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, autograd
from torch.nn import functional as F

from robointervlm.core.errors import ExhaustedError
from robointervlm.models.qwen2_5_vl.attention import use_packed_attention
from robointervlm.models.qwen2_5_vl.chat import IGNORED
from robointervlm.models.qwen2_5_vl.encoder import Batch, Encoded
from robointervlm.models.qwen2_5_vl.network import Qwen25VL, SupervisedLoss
from robointervlm.models.qwen2_5_vl.packed import Group, packed, shareable
from robointervlm.models.qwen2_5_vl.parts import part_of

# What rounding is always allowed: that of sums in float32, and one bit of bfloat16's eight or of float16's eleven.
ROUNDING = {torch.float32: 1e-5, torch.bfloat16: 2.0**-8, torch.float16: 2.0**-11}
# And several times what transformers' two ways differ by: rounding in another order is not the same every time.
TIMES = 4.0
# A gradient this much smaller than the largest of the model is compared on that scale; the rest of it is rounding.
SMALL = 1e-2


class Passed(NamedTuple):
    """One way through all conversations: the summed loss, the logits at the supervised places, every gradient."""

    loss: float
    logits_SV: Tensor
    gradients: dict[str, Tensor]


class Difference(NamedTuple):
    """How far the packed rows are from one reference in one respect; numbers are relative."""

    what: str
    reference: str
    found: float
    allowed: float

    @property
    def is_rounding(self) -> bool:
        """False for what is not a number, too."""
        return self.found <= self.allowed


@dataclass(frozen=True)
class Agreement:
    """All that was compared, and the references that memory did not allow."""

    differences: tuple[Difference, ...]
    left_out: tuple[str, ...]

    @property
    def holds(self) -> bool:
        return all(each.is_rounding for each in self.differences)


def agreement(model: Qwen25VL, groups: Sequence[Group]) -> Agreement:
    """Compare one packed row of the groups with the same conversations alone, by eager and by sdpa.

    The model takes packed rows afterwards; its gradients are gone. Holds three gradients of the whole model at a time.
    """
    found: dict[str, Passed] = {}
    left_out = []
    for attention in ("sdpa", "eager"):
        try:
            found[attention] = apart(model, groups, attention)
        except (torch.OutOfMemoryError, MemoryError):
            left_out.append(attention)
    if not found:
        raise ExhaustedError("not even one conversation alone fits into memory; take a smaller --samples or --dtype.")
    model.network.set_attn_implementation("sdpa")
    ours = together(model, packed(model.encoder, groups))
    noise = relative(found["eager"], found["sdpa"]) if len(found) == len(("sdpa", "eager")) else {}
    floor = ROUNDING[model.network.dtype]
    return Agreement(
        tuple(
            Difference(what, reference, size, max(floor, TIMES * noise.get(what, 0.0)))
            for reference, theirs in found.items()
            for what, size in relative(ours, theirs).items()
        ),
        tuple(left_out),
    )


def relative(ours: Passed, theirs: Passed) -> dict[str, float]:
    """The largest difference of loss, logits and each part's gradients, relative to the reference's own size."""
    found = {
        "loss": abs(ours.loss - theirs.loss) / abs(theirs.loss),
        "logits": float((ours.logits_SV - theirs.logits_SV).abs().max() / theirs.logits_SV.abs().max()),
    }
    sizes = {name: _largest(gradient) for name, gradient in theirs.gradients.items()}
    least = SMALL * max(sizes.values())
    parts: dict[str, list[float]] = {}
    for name in ours.gradients | theirs.gradients:
        # Of a part that has nothing to learn here one side may have zeros, the other nothing.
        one, other = (passed.gradients.get(name) for passed in (ours, theirs))
        difference = _largest(one if other is None else other if one is None else one - other)
        parts.setdefault(f"gradient of {part_of(name)}", []).append(difference / max(sizes.get(name, 0.0), least))
    # Not max(), which may lose what is not a number.
    return found | {what: float(np.max(differences)) for what, differences in parts.items()}


def _largest(tensor: Tensor | None) -> float:
    return 0.0 if tensor is None else float(tensor.abs().max())


def apart(model: Qwen25VL, groups: Sequence[Group], attention: str) -> Passed:
    """Each conversation alone, by transformers' attention function of this name and its own output layer."""
    network = model.network
    network.set_attn_implementation(attention)
    network.zero_grad()
    loss, logits = 0.0, []
    for each in (encoded for group in groups for encoded in group):
        batch = model.encoder.batch([each]).to(network.device)
        logits_SV, targets_S = _supervised(network(**_inputs(batch)).logits, batch)
        summed = F.cross_entropy(logits_SV, targets_S, reduction="sum")
        if summed.requires_grad:  # not for text alone where only the vision tower learns
            autograd.backward(summed)
        loss += float(summed.detach())
        logits.append(logits_SV.detach())
    return Passed(loss, torch.cat(logits), _gradients(network))


def together(model: Qwen25VL, batch: Batch) -> Passed:
    """One packed row, as it is trained."""
    network = model.network
    use_packed_attention(network)
    network.zero_grad()
    batch = batch.to(network.device)
    with torch.no_grad():
        logits_SV, _ = _supervised(network(**_inputs(batch), segments=batch.segments).logits, batch)
    loss = SupervisedLoss(network)(batch)
    autograd.backward(loss)
    return Passed(float(loss.detach()), logits_SV, _gradients(network))


def _inputs(batch: Batch) -> dict[str, Any]:
    return {
        "input_ids": batch.ids_BL,
        "position_ids": batch.positions_3BL,
        "pixel_values": batch.patches_PC,
        "image_grid_thw": batch.grids_N3,
        "use_cache": False,
    }


def _supervised(logits_BLV: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    targets_BL = batch.labels_BL[:, 1:]
    wanted_BL = targets_BL != IGNORED
    return logits_BLV[:, :-1][wanted_BL].float(), targets_BL[wanted_BL]


def _gradients(network: torch.nn.Module) -> dict[str, Tensor]:
    """Taken out of the network, so that the next way finds it empty."""
    found = {name: each.grad for name, each in network.named_parameters() if each.grad is not None}
    network.zero_grad()
    return found


def grouped(model: Qwen25VL, conversations: Sequence[tuple[object, Encoded]]) -> list[list[Encoded]]:
    """The conversations in groups that share: those of one key (what their pictures hold) and one beginning."""
    groups: dict[object, list[Encoded]] = {}
    for number, (key, encoded) in enumerate(conversations):
        shared = shareable(encoded, model.encoder.chat.image_token_id)
        groups.setdefault((key, encoded.ids[:shared].tobytes()) if shared else number, []).append(encoded)
    return list(groups.values())
