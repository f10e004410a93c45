"""Whether packed rows give what their conversations give alone, on a model and data at hand.

The other side is transformers' own: its attention, its loss over all logits, one conversation at a time. How far its
two attention functions differ from each other, on the same data, is what rounding does to this model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from robointervlm.core.errors import ExhaustedError
from robointervlm.models.qwen2_5_vl.attention import use_packed_attention
from robointervlm.models.qwen2_5_vl.chat import IGNORED
from robointervlm.models.qwen2_5_vl.encoder import Batch, Encoded
from robointervlm.models.qwen2_5_vl.network import Qwen25VL, SupervisedLoss, part_of
from robointervlm.models.qwen2_5_vl.packed import Group, packed, shareable

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
    apart: dict[str, Passed] = {}
    left_out = []
    for attention in ("sdpa", "eager"):
        try:
            apart[attention] = _apart(model, groups, attention)
        except (torch.OutOfMemoryError, MemoryError):
            left_out.append(attention)
    if not apart:
        raise ExhaustedError("not even one conversation alone fits into memory; take a smaller --samples or --dtype.")
    model.network.set_attn_implementation("sdpa")
    ours = _together(model, packed(model.encoder, groups))
    noise = relative(apart["eager"], apart["sdpa"]) if len(apart) == len(("sdpa", "eager")) else {}
    floor = ROUNDING[model.network.dtype]
    return Agreement(
        tuple(
            Difference(what, reference, found, max(floor, TIMES * noise.get(what, 0.0)))
            for reference, theirs in apart.items()
            for what, found in relative(ours, theirs).items()
        ),
        tuple(left_out),
    )


def relative(ours: Passed, theirs: Passed) -> dict[str, float]:
    """The largest difference of loss, logits and each part's gradients, relative to the reference's own size."""
    found = {
        "loss": abs(ours.loss - theirs.loss) / abs(theirs.loss),
        "logits": float((ours.logits_SV - theirs.logits_SV).abs().max() / theirs.logits_SV.abs().max()),
    }
    sizes = {name: float(gradient.abs().max()) for name, gradient in theirs.gradients.items()}
    least = SMALL * max(sizes.values())
    for name, gradient in theirs.gradients.items():
        difference = float((ours.gradients[name] - gradient).abs().max()) / max(sizes[name], least)
        what = f"gradient of {part_of(name)}"
        # Not max(), which would lose what is not a number.
        found[what] = found.get(what, 0.0) if difference <= found.get(what, 0.0) else difference
    return found


def _apart(model: Qwen25VL, groups: Sequence[Group], attention: str) -> Passed:
    network = model.network
    network.set_attn_implementation(attention)
    network.zero_grad()
    loss, logits = 0.0, []
    for each in (encoded for group in groups for encoded in group):
        batch = model.encoder.batch([each]).to(network.device)
        logits_SV, targets_S = _supervised(network(**_inputs(batch)).logits, batch)
        summed = F.cross_entropy(logits_SV, targets_S, reduction="sum")
        summed.backward()
        loss += float(summed.detach())
        logits.append(logits_SV.detach())
    return Passed(loss, torch.cat(logits), _gradients(network))


def _together(model: Qwen25VL, batch: Batch) -> Passed:
    network = model.network
    use_packed_attention(network)
    network.zero_grad()
    batch = batch.to(network.device)
    with torch.no_grad():
        logits_SV, _ = _supervised(network(**_inputs(batch), segments=batch.segments).logits, batch)
    loss = SupervisedLoss(network)(batch)
    loss.backward()
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
