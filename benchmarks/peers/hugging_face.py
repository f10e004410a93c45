"""The steps of a Hugging Face trainer in turn with those of the other sides."""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback
from turns import Turns, summed_loss


class InTurn(TrainerCallback):
    """Waits before every step, the loading of its samples included, and tells how long it took."""

    def __init__(self, turns: Turns, steps: int) -> None:
        self.turns = turns
        self.left = steps

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """The optimizer has stepped; the samples of the next step are loaded after this."""
        self.turns.end()
        self.left -= 1
        if self.left:
            self.turns.begin()


def train_in_turns(trainer: Any, turns: Turns, steps: int, *, turn_end: int) -> None:
    """Tell the loss of all samples, train, tell it again."""
    trainer.add_callback(InTurn(turns, steps))
    turns.say(ready=True, **_loss(trainer, turn_end))
    turns.begin()
    trainer.train()
    turns.say(done=True, **_loss(trainer, turn_end))


def _loss(trainer: Any, turn_end: int) -> dict[str, float]:
    device = trainer.model.device
    batches = (
        {k: v.to(device) if hasattr(v, "to") else v for k, v in b.items()} for b in trainer.get_train_dataloader()
    )
    return summed_loss(trainer.model, batches, turn_end)
