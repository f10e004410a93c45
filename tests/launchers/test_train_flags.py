"""The documented training flags, translated into the recipe."""

from __future__ import annotations

import pytest

from robointervlm.cli.documented_train import _TRAIN_FLAGS, _pairs, started_processes, train_overrides
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
        (["--deepspeed", "scripts/none.json"], "--deepspeed: scripts/none.json does not exist"),
    ],
)
def test_a_flag_that_means_nothing_is_an_error(arguments, said):
    with pytest.raises(RecipeError, match=said):
        overrides(*arguments)


def test_experts_are_asked_for_by_their_flag_and_found_missing_when_the_model_is_known():
    assert overrides("--tune_moe", "True") == {'model.tune=["experts"]'}
    assert overrides("--tune_mm_llm", "True", "--tune_moe", "True") == {'model.tune=["language", "experts"]'}


def test_a_flag_without_effect_says_so(capsys):
    assert overrides("--tf32", "True") == set()
    assert "--tf32 has no effect here" in capsys.readouterr().err


def test_flattened_data_are_packed_rows_and_a_notice(capsys):
    assert overrides("--data_flatten", "True") == {'batch.pack="samples"'}
    assert "--data_flatten True is batch.pack=samples here" in capsys.readouterr().err
    assert overrides("--data_packing", "True", "--pack", "shared") == {'batch.pack="shared"'}
    assert overrides("--data_flatten", "False") == set()


def test_a_flag_that_asks_for_what_is_done_anyway_passes_and_another_value_is_refused():
    fixed = ["--adam_beta2", "0.999", "--adam_epsilon", "1e-08", "--save_only_model", "false", "--warmup_steps", "0"]
    assert overrides(*fixed) == set()
    with pytest.raises(RecipeError, match=r"--adam_beta2 0.95: only 0.999 is possible here: AdamW"):
        overrides("--adam_beta2", "0.95")


def test_the_time_limit_of_ddp_is_in_seconds():
    assert overrides("--ddp_timeout", "1800") == {"run.timeout_minutes=30.0"}


def test_an_optimizer_in_eight_bits_is_not_adamw():
    assert overrides("--optim", "adamw_bnb_8bit") == {'optim.name="adamw_bnb_8bit"'}  # which the recipe refuses


def test_gpus_where_there_are_none_are_processes_of_the_cpu_and_one_notice(capsys, monkeypatch):
    monkeypatch.setattr("robointervlm.train.devices.gpus_present", lambda: 0)
    given = _pairs(["--gpus", "2", "--bf16", "True", "--dataloader_num_workers", "8"])
    assert started_processes(given) == ["--processes", "2"]
    assert set(train_overrides(given)) == {
        'model.device="cpu"',
        "data.workers=0",
        "run.gradient_checkpointing=false",
    }
    assert capsys.readouterr().err.count("No GPU is found here") == 1


def test_fewer_gpus_than_asked_for_are_left_to_the_command_to_refuse(monkeypatch):
    monkeypatch.setattr("robointervlm.train.devices.gpus_present", lambda: 1)
    assert started_processes(given := _pairs(["--gpus", "8", "--bf16", "True"])) == ["--gpus", "8"]
    assert given == {"bf16": "True"}


def test_deepspeed_that_is_not_installed_is_left_out_on_the_cpu(capsys, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    given = _pairs(["--use_cpu", "True", "--deepspeed", "scripts/zero3.json"])
    assert started_processes(given) == []
    assert "deepspeed" not in given
    assert "DeepSpeed is not installed" in capsys.readouterr().err


def test_every_flag_is_a_key_of_the_training_recipe():
    for flag in _TRAIN_FLAGS.values():
        section, _, key = flag.key.partition(".")
        field = TrainRecipe.model_fields[section]
        assert not key or key in field.annotation.model_fields, flag.key  # type: ignore[union-attr]


def test_a_deepspeed_file_is_the_recipes(tmp_path, monkeypatch):
    (tmp_path / "zero3.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    assert overrides("--deepspeed", "zero3.json") == {'run.deepspeed="zero3.json"'}


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
