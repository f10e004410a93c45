"""The side of TRL's SFTTrainer: prompt and completion, batches of one, accumulated over the samples of a step.

`--head own`: as it comes. On a CPU its output layer then reads every token; on a GPU only those that are learned.
`--head answers`: its compute_loss overridden, which is its documented way, to have only those on a CPU as well.
"""

from __future__ import annotations

import json
from typing import Any

import torch
from datasets import Dataset, Features, Image, List, Value
from hugging_face import train_in_turns
from torch.nn import functional as F
from transformers import AutoModelForImageTextToText, AutoProcessor
from trl import SFTConfig, SFTTrainer
from turns import CLIP, LEARNING_RATE, Turns, arguments


class AnswerOnlyTrainer(SFTTrainer):
    """The output layer and the loss only where there is a label."""

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,  # noqa: FBT001, FBT002 - the signature is the trainer's
        num_items_in_batch: Any = None,
    ) -> Any:
        """The mean over the tokens of the step, as the trainer's own loss is."""
        labels = inputs.pop("labels")[0, 1:]
        kept = (labels != -100).nonzero()[:, 0]
        outputs = model(**inputs, use_cache=False, logits_to_keep=kept)
        summed = F.cross_entropy(outputs.logits[0].float(), labels[kept], reduction="sum")
        loss = summed / (len(kept) if num_items_in_batch is None else num_items_in_batch)
        return (loss, outputs) if return_outputs else loss


def dataset(chosen: Any) -> Dataset:
    """Prompts, completions and pictures, which are decoded when a sample is taken."""
    said = {"role": Value("string"), "content": Value("string")}
    features = Features({"prompt": List(said), "completion": List(said), "images": List(Image())})
    rows = [json.loads(line) for line in (chosen.data / "trl.jsonl").read_text().splitlines()]
    return Dataset.from_list(rows, features=features)


def main() -> None:
    chosen = arguments(__doc__, head=["own", "answers"])
    turns = Turns(chosen.device)
    processor = AutoProcessor.from_pretrained(chosen.model)
    model = AutoModelForImageTextToText.from_pretrained(chosen.model, dtype=torch.float32, attn_implementation="sdpa")
    model.model.visual.requires_grad_(requires_grad=False)  # the merger is a part of it
    settings = SFTConfig(
        output_dir=str(chosen.work),
        max_steps=chosen.steps,
        per_device_train_batch_size=1,
        gradient_accumulation_steps=chosen.samples,
        learning_rate=LEARNING_RATE,
        lr_scheduler_type="constant",
        warmup_steps=0,
        weight_decay=0.0,
        max_grad_norm=CLIP,
        max_length=None,
        use_cpu=chosen.device == "cpu",
        bf16=chosen.bf16,
        gradient_checkpointing=False,
        logging_strategy="no",
        save_strategy="no",
        report_to="none",
        dataloader_num_workers=0,
        disable_tqdm=True,
    )
    trainer_of = AnswerOnlyTrainer if chosen.head == "answers" else SFTTrainer
    trainer = trainer_of(model=model, args=settings, train_dataset=dataset(chosen), processing_class=processor)
    trainer.model.train()
    train_in_turns(trainer, turns, chosen.steps, turn_end=processor.tokenizer.convert_tokens_to_ids("<|im_end|>"))


if __name__ == "__main__":
    main()
