"""What is said when a loss or a gradient is not a number: the samples it can have come from, wherever they are."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from robointervlm.core.errors import NonFiniteLossError
from robointervlm.train.data.dataset import MicroBatch
from robointervlm.train.optimizer import PartSummary
from robointervlm.train.ranks import Ranks
from robointervlm.train.recipe import TrainRecipe
from robointervlm.train.same_recipe import CHANGES
from robointervlm.train.setting_names import where_to_write, written

# How many ids the message names; all of them are in `samples.rankK.jsonl`.
NAMED = 16


def non_finite(  # noqa: PLR0913 - one for each thing that is told
    ranks: Ranks,
    step: int,
    micro_batches: Sequence[MicroBatch],
    losses: Sequence[Tensor],
    norm: float,
    *,
    advice: str,
) -> NonFiniteLossError:
    """The error of a step; `losses` are this process's, one per micro-batch. Every process has to call this.

    `advice` is what can be done, see `how_to_go_on`.

    The guilty are the micro-batches whose own loss is not finite; if there are none the gradient is to blame, and that
    may be any of the step.
    """
    found = [float(loss) for loss in losses]
    guilty = [micro for micro, loss in zip(micro_batches, found, strict=True) if not math.isfinite(loss)]
    mine = ([_ids(guilty), [loss for loss in found if not math.isfinite(loss)]], _ids(micro_batches))
    gathered = ranks.gather(mine)
    by_loss = any(losses for (_, losses), _ in gathered)
    if by_loss:
        values = sorted({str(loss) for (_, losses), _ in gathered for loss in losses})
        what = f"the loss is {' and '.join(values)}"
        named = {rank: ids for rank, ((ids, losses), _) in enumerate(gathered) if losses}
    else:
        what = f"the gradient's norm is {norm}, the loss a number"
        named = {rank: ids for rank, (_, ids) in enumerate(gathered)}
    said = "; ".join(_named(rank, ids, ranks.world) for rank, ids in named.items())
    return NonFiniteLossError(
        f"step {step}: {what}; the step was not applied. The samples it came from: {said}. Look at them. {advice}"
    )


def how_to_go_on(recipe: TrainRecipe, parts: Sequence[PartSummary], last: int | None) -> str:
    """What to type to go on with half the learning rates, from the checkpoint of step `last` if there is one.

    A rate that follows `optim.language_lr` is not named: it follows.
    """
    own = {f"optim.{part.part}_lr" for part in parts if part.lr is not None}
    values = {key: getattr(recipe.optim, key.removeprefix("optim.")) for key in sorted(own)}
    if not values or None in values.values():
        values["optim.language_lr"] = recipe.optim.language_lr
    rates = {key: rate / 2 for key, rate in values.items() if rate is not None}
    settings = {**{key: f"{rate:.6g}" for key, rate in rates.items()}, "run.change": ",".join(rates)}
    start = "begins again, since no checkpoint was written yet" if last is None else f"goes on from step {last}"
    return (
        f"The same command {start}; with lower learning rates if run with {written(settings)} {where_to_write()}, "
        f"which is recorded in {CHANGES}."
    )


def _ids(micro_batches: Sequence[MicroBatch]) -> list[str]:
    return [each for micro in micro_batches for each in micro.ids]


def _named(rank: int, ids: list[str], world: int) -> str:
    more = f" and {len(ids) - NAMED} more (samples.rank{rank}.jsonl)" if len(ids) > NAMED else ""
    return (f"process {rank}: " if world > 1 else "") + ", ".join(ids[:NAMED]) + more
