"""The documented training flags, translated into the recipe."""

from __future__ import annotations

import pytest

from robointervlm.cli.documented import _TRAIN_FLAGS, _pairs, train_overrides
from robointervlm.core.errors import RecipeError
from robointervlm.train.recipe import TrainRecipe


def overrides(*arguments: str) -> set[str]:
    return set(train_overrides(_pairs(arguments)))


def test_the_documented_flags_are_settings_of_the_recipe():
    assert overrides(
        *("--model_name_or_path", "/models/Qwen2.5-VL-3B", "--dataset_use", "a%30,b", "--output_dir", "out"),
        *("--learning_rate", "5e-6", "--mm_projector_lr=1e-5", "--vision_tower_lr", "1e-6", "--optim", "adamw_torch"),
        *("--per_device_train_batch_size", "4", "--gradient_accumulation_steps", "2", "--num_train_epochs", "1.0"),
        *("--model_max_length", "8192", "--max_pixels", "12845056", "--save_steps", "3000", "--bf16", "True"),
        *("--tune_mm_llm", "True", "--tune_mm_mlp", "False", "--tune_mm_vision", "True", "--max_steps", "-1"),
    ) == {
        'model.path="/models/Qwen2.5-VL-3B"',
        'mixture=["a%30", "b"]',
        'run.dir="out"',
        "optim.language_lr=5e-06",
        "optim.merger_lr=1e-05",
        "optim.vision_lr=1e-06",
        'optim.name="adamw"',
        "batch.per_device=4",
        "batch.accumulate=2",
        "run.epochs=1.0",
        "batch.max_tokens=8192",
        "model.max_pixels=12845056",
        "run.save_every=3000",
        'run.precision="bf16"',
        'model.tune=["language", "vision"]',
    }


def test_the_cpu_does_not_get_half_precision():
    assert overrides("--use_cpu", "True", "--bf16", "True") == {'model.device="cpu"'}


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["--learning_rte", "1"], "nearest: --learning_rate"),
        (["--learning_rate", "fast"], "--learning_rate: 'fast' is not a number"),
        (["--tune_mm_llm", "False", "--tune_mm_mlp", "False"], "nothing would learn"),
        (["--tune_moe", "False"], "--tune_moe False: nothing would learn"),
        (["3000"], "follows no flag"),
        (["--save_steps", "2.5"], "not a whole number"),
    ],
)
def test_a_flag_that_means_nothing_is_an_error(arguments, said):
    with pytest.raises(RecipeError, match=said):
        overrides(*arguments)


def test_experts_are_asked_for_by_their_flag_and_found_missing_when_the_model_is_known():
    assert overrides("--tune_moe", "True") == {'model.tune=["experts"]'}
    assert overrides("--tune_mm_llm", "True", "--tune_moe", "True") == {'model.tune=["language", "experts"]'}


def test_a_flag_without_effect_says_so(capsys):
    assert overrides("--data_flatten", "True") == set()
    assert "--data_flatten has no effect here" in capsys.readouterr().err


def test_every_flag_is_a_key_of_the_training_recipe():
    for flag in _TRAIN_FLAGS.values():
        section, _, key = flag.key.partition(".")
        field = TrainRecipe.model_fields[section]
        assert not key or key in field.annotation.model_fields, flag.key  # type: ignore[union-attr]


def test_low_rank_updates_are_asked_for_by_the_flags_of_the_published_script():
    given = ("--lora_r", "8", "--lora_alpha", "16", "--lora_dropout", "0.1", "--learning_rate", "2e-4")
    assert overrides("--lora_enable", "True", "--tune_mm_llm", "True", "--tune_mm_mlp", "True", *given) == {
        'model.tune=["lora", "merger"]',
        *("model.lora.rank=8", "model.lora.alpha=16", "model.lora.dropout=0.1"),
        *("optim.lora_lr=0.0002", "optim.language_lr=0.0002"),
    }


def test_the_published_rank_and_alpha_hold_where_none_is_given():
    # QwenLM's qwen-vl-finetune/qwenvl/train/argument.py: 64, 128 and 0.
    assert overrides("--lora_enable", "True", "--tune_mm_llm", "False") == {
        'model.tune=["lora"]',
        *("model.lora.rank=64", "model.lora.alpha=128", "model.lora.dropout=0.0"),
    }


def test_without_the_switch_the_flags_of_low_rank_updates_change_nothing():
    assert overrides("--lora_enable", "False", "--lora_r", "8", "--tune_mm_llm", "True") == {'model.tune=["language"]'}
