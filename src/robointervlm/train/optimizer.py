"""What learns and how fast: parameters by part of the model, the optimizers, the schedule."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from rich.table import Table
from torch import nn
from transformers import PreTrainedModel

from robointervlm.core.errors import RecipeError
from robointervlm.models.qwen2_5_vl.lora import add_lora
from robointervlm.models.qwen2_5_vl.parts import Part, part_of
from robointervlm.train.muon import Muon
from robointervlm.train.recipe import ModelSection, OptimSection

PARTS: tuple[Part, ...] = ("language", "merger", "vision", "experts", "lora")


@dataclass(frozen=True)
class PartSummary:
    """How many parameters of one part there are, how many of them learn and decay; shared ones count once."""

    part: Part
    tensors: int
    parameters: int
    trainable: int
    decaying: int
    lr: float | None


def let_learn(network: PreTrainedModel, section: ModelSection, *, seed: int) -> None:
    """Put in what is trained beside the model's own parameters, and let exactly what the recipe names learn."""
    if "lora" in section.tune:
        add_lora(network, section.lora, seed=seed)
    freeze(network, section.tune)


def freeze(network: nn.Module, tune: Iterable[Part]) -> None:
    """Let exactly the parameters of the named parts learn. Set on the parameters: a module's attribute does nothing."""
    wanted = set(tune)
    present = set()
    for name, parameter in network.named_parameters():
        present.add(part := part_of(name))
        parameter.requires_grad_(part in wanted)
    if "experts" in wanted - present:
        raise RecipeError(
            "model.tune (--tune_moe True) names experts, but this model is dense and has none; tune language "
            "(--tune_mm_llm True), or make a model with experts of it: robointer convert upcycle DENSE MOE."
        )
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise RecipeError(f"no trainable parameters: model.tune={sorted(wanted)} matches nothing in this model.")


def learning_rate(part: Part, settings: OptimSection) -> float:
    rates = {
        "language": settings.language_lr,
        "merger": settings.merger_lr,
        "vision": settings.vision_lr,
        "experts": settings.experts_lr,
        "lora": settings.lora_lr,
    }
    return rates[part] or settings.language_lr


def summary(network: nn.Module, settings: OptimSection) -> list[PartSummary]:
    """The table printed before step 0; a part that this model does not have is not in it."""
    rows = []
    for part in PARTS:
        own = [parameter for name, parameter in network.named_parameters() if part_of(name) == part]
        if not own:
            continue
        learning = [parameter for parameter in own if parameter.requires_grad]
        decaying = [parameter for parameter in learning if settings.weight_decay and decays(parameter)]
        total, trainable, decayed = (sum(each.numel() for each in those) for those in (own, learning, decaying))
        rate = learning_rate(part, settings) if learning else None
        rows.append(PartSummary(part, len(own), total, trainable, decayed, rate))
    return rows


def parts_table(rows: Sequence[PartSummary], settings: OptimSection) -> Table:
    """One line per part of the model, and their sum; shares are of all parameters."""
    everything = sum(row.parameters for row in rows)
    table = Table("part", title="What is trained")
    for column in ("tensors", "parameters", "learning", "share", "peak lr", "weight decay"):
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(row.part, *_amounts(row.tensors, row.parameters, row.trainable, everything), *_how(row, settings))
    table.add_section()
    tensors, learning = sum(row.tensors for row in rows), sum(row.trainable for row in rows)
    table.add_row("all", *_amounts(tensors, everything, learning, everything), "", "")
    return table


def _amounts(tensors: int, parameters: int, learning: int, everything: int) -> tuple[str, str, str, str]:
    share = f"{learning / everything:.2%}" if learning else "-"
    return f"{tensors:,}", f"{parameters:,}", f"{learning:,}" if learning else "-", share


def _how(row: PartSummary, settings: OptimSection) -> tuple[str, str]:
    """The peak learning rate and the weight decay of a part."""
    if row.lr is None:
        return "frozen", ""
    if not row.decaying:
        return f"{row.lr:.1e}", "none"
    rest = row.trainable - row.decaying
    return f"{row.lr:.1e}", f"{settings.weight_decay:g}" + (f", none on {rest:,}" if rest else "")


# Where torch has a fused AdamW that we have seen to equal the plain one.
FUSED_ON = ("cpu", "cuda")


def optimizers(network: nn.Module, settings: OptimSection) -> list[torch.optim.Optimizer]:
    """One AdamW, and with `muon` a Muon for the matrices inside the layers; groups by part, decay only on matrices.

    Each group carries `peak_lr`, which the schedule scales.
    """
    by_muon: list[dict[str, object]] = []
    by_adamw: list[dict[str, object]] = []
    for part in PARTS:
        named = [(n, p) for n, p in network.named_parameters() if p.requires_grad and part_of(n) == part]
        rate = learning_rate(part, settings)
        inner = [p for n, p in named if _is_inner_matrix(n, p)]
        matrices = [p for n, p in named if decays(p) and not _is_inner_matrix(n, p)]
        vectors = [p for _, p in named if not decays(p)]
        decay = settings.weight_decay
        if settings.name == "muon":
            by_muon.append({"params": inner, "lr": rate, "peak_lr": rate, "weight_decay": decay})
        else:
            matrices = inner + matrices
        by_adamw.append({"params": matrices, "lr": rate, "peak_lr": rate, "weight_decay": decay})
        by_adamw.append({"params": vectors, "lr": rate, "peak_lr": rate, "weight_decay": 0.0})
    made: list[torch.optim.Optimizer] = []
    if groups := [group for group in by_muon if group["params"]]:
        made.append(Muon(groups))
    if groups := [group for group in by_adamw if group["params"]]:
        # Fused: one pass over weights, gradients and moments instead of a dozen, the memory's speed being the limit.
        fused = all(parameter.device.type in FUSED_ON for parameter in network.parameters() if parameter.requires_grad)
        made.append(torch.optim.AdamW(groups, betas=(0.9, 0.999), eps=1e-8, fused=fused))
    return made


def decays(parameter: nn.Parameter) -> bool:
    """Whether weight decay is for it: not for norms, biases and the scalers of experts, which have one dimension."""
    return parameter.ndim >= 2


def schedule(step: int, total: int, settings: OptimSection) -> float:
    """The share of its peak that every learning rate has at a step: linear warm-up, then a half cosine to zero."""
    warmup = math.ceil(settings.warmup_ratio * total)
    if step < warmup:
        return (step + 1) / warmup
    if settings.schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


def _is_inner_matrix(name: str, parameter: nn.Parameter) -> bool:
    """Whether Muon's orthogonalised update is meant for it: a matrix between hidden states.

    A table of words is none, nor is a router, whose rows are scores; experts are stacked, and Muon takes no stacks. A
    factor of a low-rank update is no matrix of its own either: what the update does is the product of the two.
    """
    other = ("embed_tokens", "lm_head", "patch_embed", "moe_block.gate", ".lora_")
    return parameter.ndim == 2 and not any(word in name for word in other)
