"""The side of ms-swift: `swift sft` on messages and pictures, batches of one, accumulated over the samples of a step.

Its output layer reads only the tokens that are learned (its use_logits_to_keep), which is its own default here. Its
packing and padding-free batches want a flash-attention kernel and so a GPU.
"""

from __future__ import annotations

from typing import Any

from hugging_face import train_in_turns
from swift.pipelines import SwiftSft
from turns import CLIP, LEARNING_RATE, Turns, arguments


class InTurnSft(SwiftSft):
    """The pipeline as it is, its training in turns."""

    turns: Turns
    steps: int

    def train(self, trainer: Any) -> None:
        trainer.model.train()
        turn_end = self.processor.tokenizer.convert_tokens_to_ids("<|im_end|>")
        train_in_turns(trainer, self.turns, self.steps, turn_end=turn_end)


def main() -> None:
    chosen = arguments(__doc__)
    turns = Turns(chosen.device)
    settings: dict[str, object] = {
        "model": chosen.model,
        "model_type": "qwen2_5_vl",
        "template": "qwen2_5_vl",
        "dataset": chosen.data / "swift.jsonl",
        "split_dataset_ratio": 0,
        "load_from_cache_file": False,
        "tuner_type": "full",
        "freeze_llm": False,
        "freeze_vit": True,
        "freeze_aligner": True,
        "torch_dtype": "float32",
        "bf16": chosen.bf16,
        "attn_impl": "sdpa",
        "max_steps": chosen.steps,
        "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": chosen.samples,
        "learning_rate": LEARNING_RATE,
        "lr_scheduler_type": "constant",
        "warmup_ratio": 0,
        "weight_decay": 0,
        "max_grad_norm": CLIP,
        "max_length": 8192,
        "use_cpu": chosen.device == "cpu",
        "gradient_checkpointing": False,
        "logging_steps": 1_000_000,
        "logging_first_step": False,
        "save_strategy": "no",
        "eval_strategy": "no",
        "report_to": "none",
        "dataloader_num_workers": 0,
        "output_dir": chosen.work,
        "add_version": False,
    }
    pipeline = InTurnSft([word for name, value in settings.items() for word in (f"--{name}", str(value))])
    pipeline.turns, pipeline.steps = turns, chosen.steps
    pipeline.run()


if __name__ == "__main__":
    main()
