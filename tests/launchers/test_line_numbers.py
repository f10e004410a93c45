"""The README of the system names settings by file and line; the numbers here are copied from it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from robointervlm.data.mixture import parse_entries
from robointervlm.data.spec import Catalog
from scripted_benchmark import ROOT

SCRIPTS = ROOT / "eval/benchmark/eval_manip/scripts"
SFT = ROOT / "qwen-vl-finetune/scripts/sft.sh"
README = ROOT.parent / "shared/spec/RoboInterVLM_README.md"

SETTINGS = [
    (SFT, 18, 18, "OUTPUT_DIR="),
    (SFT, 35, 35, "export WANDB_ENTITY="),
    (SFT, 36, 36, "export WANDB_PROJECT="),
    (SFT, 57, 57, "PRETRAIN_MODEL="),
    (SFT, 69, 69, "cd "),
    (SCRIPTS / "eval.sh", 8, 10, "model_path_list=("),
    (SCRIPTS / "eval.sh", 16, 19, "json_path_list=("),
    (SCRIPTS / "eval.sh", 21, 23, "type_list=("),
    (SCRIPTS / "eval.sh", 25, 27, "image_dirs=("),
    (SCRIPTS / "eval.sh", 29, 31, "question_types=("),
    (SCRIPTS / "eval_lang.sh", 8, 10, "model_path_list=("),
    (SCRIPTS / "eval_lang.sh", 13, 15, "json_path_list=("),
    (SCRIPTS / "eval_lang.sh", 21, 21, "image_dir="),
]


@pytest.mark.parametrize("file, first, last, setting", SETTINGS)
def test_the_setting_stands_on_its_documented_lines(file: Path, first: int, last: int, setting: str):
    lines = file.read_text().splitlines()
    assert lines[first - 1].startswith(setting)
    if setting.endswith("("):
        assert lines[last - 1] == ")"
        assert ")" not in [line.strip() for line in lines[first : last - 1]]


@pytest.mark.skipif(not README.exists(), reason="the description of the system is not on this machine")
def test_the_numbers_are_those_of_the_readme():
    named = {
        tuple(int(number) for number in re.findall(r"\d+", found))
        for found in re.findall(r"# Line ([\d-]+)", README.read_text())
    }
    here = {(first,) if first == last else (first, last) for _, first, last, _ in SETTINGS}
    assert named == here - {(35,), (36,)} | {(35, 36)}


@pytest.mark.parametrize("name", ["zero2", "zero3", "zero3_offload"])
def test_a_zero_configuration_leaves_optimizer_and_schedule_to_the_recipe(name: str):
    config = json.loads((SFT.parent / f"{name}.json").read_text())
    assert config["zero_optimization"]["stage"] == (2 if name == "zero2" else 3)
    assert not {"optimizer", "scheduler"} & set(config)
    assert config["train_micro_batch_size_per_gpu"] == "auto"


def test_sft_trains_the_documented_mixture_with_the_documented_numbers():
    text = SFT.read_text()
    for setting, default in [
        ("LEARNING_RATE", "5e-6"),
        ("VISION_LR", "1e-6"),
        ("BATCH_SIZE", "4"),
        ("GRAD_ACCUM", "2"),
        ("MAX_LENGTH", "8192"),
        ("MIN_PIXELS", "3136"),
        ("MAX_PIXELS", "12845056"),
        ("SAVE_STEPS", "3000"),
        ("TUNE_LLM", "True"),
        ("TUNE_MLP", "False"),
        ("TUNE_VISION", "False"),
    ]:
        assert f'{setting}="${{{setting}:-{default}}}"' in text
    for dataset in ("rh20t_vla_current_box_train%65", "droid_vla_contact_box_train%40", "manipvqa_train"):
        assert dataset in text


def test_every_dataset_of_sft_is_in_the_catalog():
    text = SFT.read_text().replace("\\\n", "")
    lists = re.findall(r'^\w+_datasets="\$\{\w+_datasets-([^}]+)\}"', text, re.MULTILINE)
    names = [entry.name for entry in parse_entries(",".join(lists))]
    catalog = Catalog()
    assert len(names) == 24
    assert [name for name in names if name not in catalog] == []
