"""The documented training flags, translated into the recipe."""

from __future__ import annotations

import pytest

from robointervlm.compat.training import _TRAIN_FLAGS, _TRAIN_SPECIAL, _pairs, started_processes, train_overrides
from robointervlm.core.errors import RecipeError
from robointervlm.runs.run import is_installed
from robointervlm.train.recipe import TrainRecipe
from robointervlm.train.setting_names import NAMES, written
from scripted_benchmark import ROOT


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


@pytest.fixture
def no_wandb(monkeypatch):
    for name in ("WANDB_PROJECT", "WANDB_ENTITY"):
        monkeypatch.delenv(name, raising=False)
    # Also where it is installed.
    monkeypatch.setattr("robointervlm.compat.training.is_installed", lambda _: False)


@pytest.fixture
def wandb_installed(no_wandb, monkeypatch):
    monkeypatch.setattr("robointervlm.compat.training.is_installed", lambda name: name == "wandb")


@pytest.mark.parametrize("more", [(), ("--report_to", "auto")])
@pytest.mark.parametrize(
    "variable, settings",
    [
        ("WANDB_PROJECT", {'watch.to=["wandb"]', 'watch.project="arms"'}),
        ("WANDB_ENTITY", {'watch.to=["wandb"]'}),
    ],
)
def test_wandb_is_used_where_it_is_configured_and_installed(
    wandb_installed, monkeypatch, capsys, variable, settings, more
):
    monkeypatch.setenv(variable, "arms")
    assert overrides(*more) == settings
    assert capsys.readouterr().err == ""


def test_wandb_that_is_not_configured_is_not_used_and_nothing_is_said(wandb_installed, monkeypatch, capsys):
    monkeypatch.setenv("WANDB_PROJECT", "")  # as sft.sh exports it
    assert overrides() == set()
    assert capsys.readouterr().err == ""


def test_wandb_that_is_configured_and_not_installed_is_one_line(no_wandb, monkeypatch, capsys):
    monkeypatch.setenv("WANDB_ENTITY", "lab")
    assert overrides("--report_to", "auto") == set()
    said = capsys.readouterr().err
    assert said == (
        "WANDB_ENTITY is set, but nothing is logged to Weights & Biases: wandb is not installed. pip install wandb, "
        "or say REPORT_TO=none (--report_to none).\n"
    )


def test_wandb_that_is_turned_off_is_off_and_that_is_said_once(wandb_installed, monkeypatch, capsys):
    monkeypatch.setenv("WANDB_PROJECT", "arms")
    assert overrides("--report_to", "none") == set()
    assert "nothing is logged to Weights & Biases: --report_to none" in capsys.readouterr().err
    monkeypatch.setenv("RANK", "1")
    assert overrides("--report_to", "none") == set()
    assert capsys.readouterr().err == ""


def test_a_folder_called_wandb_is_no_package(tmp_path, monkeypatch):
    # Where wandb was used offline it leaves one, and Python takes it for a package without code.
    (tmp_path / "wandbx").mkdir()
    (tmp_path / "wandby").mkdir()
    (tmp_path / "wandby" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    assert [is_installed(name) for name in ("wandbx", "wandby", "wandbz", "yaml", "yaml.none.such")] == [
        *(False, True, False, True, False)
    ]


def test_the_rate_of_the_experts_and_what_is_too_long_have_flags():
    assert overrides("--moe_lr", "1e-4", "--too_long", "drop") == {"optim.experts_lr=0.0001", 'batch.too_long="drop"'}


def test_the_switch_for_changed_rates_names_the_rates():
    assert overrides("--change_lr", "False") == set()
    [setting] = overrides("--change_lr", "True")
    assert setting == (
        'run.change=["optim.language_lr", "optim.merger_lr", "optim.vision_lr", "optim.experts_lr", "optim.lora_lr"]'
    )


def test_settings_are_spelled_as_the_script_that_was_started_takes_them(monkeypatch):
    wanted = {"optim.language_lr": 1e-6, "run.change": "optim.language_lr", "batch.too_long": "drop"}
    monkeypatch.delenv("ROBOINTER_STARTED_BY", raising=False)
    assert written(wanted) == "optim.language_lr=1e-06 run.change=optim.language_lr batch.too_long=drop"
    monkeypatch.setenv("ROBOINTER_STARTED_BY", "sft.sh")
    assert written(wanted) == "LEARNING_RATE=1e-06 CHANGE_LR=True TOO_LONG=drop"
    monkeypatch.setenv("ROBOINTER_STARTED_BY", "train_qwen.py")
    assert written(wanted) == "--learning_rate 1e-06 --change_lr True --too_long drop"


def test_every_spelled_name_is_a_flag_and_a_variable_of_the_script():
    script = (ROOT / "qwen-vl-finetune/scripts/sft.sh").read_text()
    for names in NAMES.values():
        assert f'{names.variable}="${{{names.variable}:-' in script
        assert f"--{names.flag} " in script
        assert names.flag in {*_TRAIN_FLAGS, *_TRAIN_SPECIAL}
