"""The table printed before step 0: what learns, how fast, and how much of the model it is."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from robointervlm.train.optimizer import PartSummary
from robointervlm.train.recipe import OptimSection


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
