"""Flags of Hugging Face's TrainingArguments that a user of the documented script may give and that set nothing here.

Some ask for what is done anyway: then they pass, and with another value they are an error that says what there is
instead. The others change nothing that is learned.
"""

from __future__ import annotations

from typing import NamedTuple

from robointervlm.core.errors import RecipeError


class Fixed(NamedTuple):
    """The only value a flag may have, and what to do instead of another."""

    value: str
    instead: str


_ADAM = "AdamW has betas 0.9 and 0.999 and epsilon 1e-8"
FIXED = {
    "adam_beta1": Fixed("0.9", _ADAM),
    "adam_beta2": Fixed("0.999", _ADAM),
    "adam_epsilon": Fixed("1e-8", _ADAM),
    "auto_find_batch_size": Fixed("False", "give --per_device_train_batch_size"),
    "average_tokens_across_devices": Fixed("True", "the loss is averaged over the tokens of all processes"),
    "data_seed": Fixed("None", "--seed decides the order, too"),
    "dataloader_drop_last": Fixed("False", "every sample is seen once in an epoch"),
    "fsdp": Fixed("", "give run.strategy in a recipe"),
    "full_determinism": Fixed("False", "the order and the random changes follow from --seed in any case"),
    "group_by_length": Fixed("False", "--pack samples leaves no padding at all"),
    "group_by_modality_length": Fixed("False", "--pack samples leaves no padding at all"),
    "ignore_data_skip": Fixed("False", "a resumed run goes on with the sample after the last one it has seen"),
    "label_smoothing_factor": Fixed("0", "the loss is the plain cross-entropy"),
    "load_best_model_at_end": Fixed("False", "evaluate the checkpoints by robointer predict and choose"),
    "lr_scheduler_kwargs": Fixed("{}", "--lr_scheduler_type and --warmup_ratio say all"),
    "neftune_noise_alpha": Fixed("None", "no noise is added"),
    "overwrite_output_dir": Fixed("False", "a folder that holds a run is gone on with; remove it to begin again"),
    "push_to_hub": Fixed("False", "nothing is uploaded; the finished model is a folder to upload"),
    "save_on_each_node": Fixed("False", "the folder is one that all machines see"),
    "save_only_model": Fixed("False", "a checkpoint that a run cannot go on from is not written"),
    "save_safetensors": Fixed("True", "weights are written as safetensors"),
    "torch_compile": Fixed("False", "nothing is compiled"),
    "use_liger_kernel": Fixed("False", "give model.liger in a recipe"),
    "warmup_steps": Fixed("0", "give --warmup_ratio, the share of all steps"),
}

_EVALUATION = "robointer predict evaluates"
_SPEED = "it changes nothing that is learned, and is chosen here by the device"
_LOGGING = "the numbers are in the run folder's metrics.jsonl"
WITHOUT_EFFECT = {
    **dict.fromkeys(
        ("do_eval", "do_predict", "eval_steps", "eval_delay", "eval_on_start", "eval_accumulation_steps"), _EVALUATION
    ),
    **dict.fromkeys(("bf16_full_eval", "fp16_full_eval", "prediction_loss_only"), _EVALUATION),
    **dict.fromkeys(
        ("dataloader_pin_memory", "dataloader_persistent_workers", "dataloader_prefetch_factor", "accelerator_config"),
        _SPEED,
    ),
    **dict.fromkeys(
        ("ddp_backend", "ddp_bucket_cap_mb", "ddp_broadcast_buffers", "ddp_find_unused_parameters"), _SPEED
    ),
    **dict.fromkeys(("gradient_checkpointing_kwargs", "half_precision_backend", "torch_empty_cache_steps"), _SPEED),
    **dict.fromkeys(("logging_dir", "logging_first_step", "logging_strategy", "logging_nan_inf_filter"), _LOGGING),
    **dict.fromkeys(("disable_tqdm", "log_level", "log_level_replica", "log_on_each_node"), _LOGGING),
    "remove_unused_columns": "no field of a record is removed",
    "resume_from_checkpoint": "a run goes on from its newest checkpoint by itself",
    "tf32": "matrix products in float32 are not rounded, and those in bf16 do not meet it",
}


def refuse_other_values(name: str, text: str) -> None:
    """Raise `RecipeError` if a flag that is fixed here asks for something else."""
    value, instead = FIXED[name]
    try:
        same = float(text) == float(value)
    except ValueError:
        same = text.strip().lower() == value.lower()
    if not same:
        raise RecipeError(f"--{name} {text}: only {value or 'an empty text'} is possible here: {instead}.")
