"""`bash scripts/sft.sh NAME GPUS`, as the README runs it, on the CPU with a tiny Qwen2.5-VL."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from robointervlm.cli.main import run
from robointervlm.runs.settings import override_values
from scripted_benchmark import ROOT, make_benchmark, robointer

FINETUNE = ROOT / "qwen-vl-finetune"
PUBLISHED = "Generation/meta/train/rh20t/origin_format/full_single_multi_contact_obj_current_box_qa.json"


def sft(*arguments: str, cwd: Path = FINETUNE, script: Path | str = "scripts/sft.sh", **environment: object):
    return subprocess.run(
        ["bash", str(script), *arguments],
        cwd=cwd,
        env={
            **{name: value for name, value in os.environ.items() if name != "PRETRAIN_MODEL"},
            "OMP_NUM_THREADS": "1",
            "ROBOINTER_PYTHON": sys.executable,
            **{name: str(value) for name, value in environment.items()},
        },
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )


def recording_python(folder: Path, code: int) -> Path:
    """A Python in whose place the command line is written down, and which ends with this exit code."""
    program = folder / "python"
    program.write_text(f'#!/usr/bin/env bash\nprintf "%s\\n" "$PWD" "$@" >"{folder}/called"\nexit {code}\n')
    program.chmod(0o755)
    return program


def test_the_documented_command_is_one_call_of_train_qwen(tmp_path):
    model = tmp_path / "a model"
    model.mkdir()
    done = sft(
        *("my_experiment", "8"),
        PRETRAIN_MODEL=model,
        OUTPUT_DIR=tmp_path / "out",
        ROBOINTER_PYTHON=recording_python(tmp_path, 0),
    )
    assert done.returncode == 0, done.stderr
    folder, *called = (tmp_path / "called").read_text().splitlines()
    assert Path(folder) == FINETUNE
    assert called[0] == "qwenvl/train/train_qwen.py"
    assert called[called.index("--gpus") + 1] == "8"
    assert called[called.index("--model_name_or_path") + 1] == str(model)
    assert called[called.index("--deepspeed") + 1] == "scripts/zero3.json"
    assert (tmp_path / "out" / "sft.sh").read_bytes() == (FINETUNE / "scripts/sft.sh").read_bytes()


def test_four_gpus_are_four_processes(tmp_path):
    python = recording_python(tmp_path, 0)
    sft("my_experiment", "4", PRETRAIN_MODEL=tmp_path, OUTPUT_DIR=tmp_path / "out", ROBOINTER_PYTHON=python)
    called = (tmp_path / "called").read_text().splitlines()
    assert called[called.index("--gpus") + 1] == "4"


def test_the_exit_code_of_the_training_passes_through(tmp_path):
    python = recording_python(tmp_path, 7)
    done = sft("x", "0", PRETRAIN_MODEL=tmp_path, OUTPUT_DIR=tmp_path / "out", ROBOINTER_PYTHON=python)
    assert done.returncode == 7


def test_what_is_said_is_in_two_files_and_on_the_console(tmp_path):
    (tmp_path / "python").write_text("#!/usr/bin/env bash\necho loss; echo trouble >&2; exit 3\n")
    (tmp_path / "python").chmod(0o755)
    out = tmp_path / "a folder"
    done = sft("x", "0", PRETRAIN_MODEL=tmp_path, OUTPUT_DIR=out, ROBOINTER_PYTHON=tmp_path / "python")
    assert (done.returncode, done.stdout, done.stderr) == (3, "loss\n", "trouble\n")
    assert sorted((out / "job.out").read_text().splitlines()) == ["loss", "trouble"]
    assert (out / "job.err").read_text() == "trouble\n"


def test_sigterm_reaches_the_training_whose_last_words_and_code_are_kept(tmp_path):
    saves = "trap 'echo saved; exit 75' TERM\ntouch {}/started\nwhile :; do sleep 0.05; done\n"
    (tmp_path / "python").write_text("#!/usr/bin/env bash\n" + saves.format(tmp_path))
    (tmp_path / "python").chmod(0o755)
    named = {"PRETRAIN_MODEL": tmp_path, "OUTPUT_DIR": tmp_path / "out", "ROBOINTER_PYTHON": tmp_path / "python"}
    process = subprocess.Popen(
        ["bash", FINETUNE / "scripts/sft.sh", "x", "0"],
        env={**os.environ, **{name: str(value) for name, value in named.items()}},
        stdout=subprocess.PIPE,
        text=True,
    )
    while not (tmp_path / "started").exists():
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=300)
    assert (process.returncode, said) == (75, "saved\n")
    assert (tmp_path / "out" / "job.out").read_text() == "saved\n"


def test_an_unset_model_fails_loudly_and_writes_nothing(tmp_path):
    done = sft("my_experiment", "8", OUTPUT_DIR=tmp_path / "out")
    assert done.returncode == 2
    assert "PRETRAIN_MODEL is not set" in done.stderr
    assert not (tmp_path / "out").exists()


def test_every_flag_of_the_script_is_known(tmp_path, monkeypatch):
    from robointervlm.compat.training import _pairs, started_processes, train_overrides  # noqa: PLC0415
    from robointervlm.settings.explained import checked  # noqa: PLC0415
    from robointervlm.train.recipe import TrainRecipe  # noqa: PLC0415

    python = recording_python(tmp_path, 0)
    sft("x", "1", PRETRAIN_MODEL=tmp_path, OUTPUT_DIR=tmp_path / "out", ROBOINTER_PYTHON=python)
    flags = _pairs((tmp_path / "called").read_text().splitlines()[2:])
    monkeypatch.chdir(FINETUNE)
    assert started_processes(flags) == []
    recipe = checked(TrainRecipe, override_values(train_overrides(flags)), source="sft.sh")
    assert (recipe.optim.language_lr, recipe.optim.vision_lr, recipe.optim.merger_lr) == (5e-6, 1e-6, 5e-6)
    assert (recipe.batch.per_device, recipe.batch.accumulate, recipe.batch.max_tokens) == (4, 2, 8192)
    assert (recipe.run.save_every, recipe.run.keep, recipe.run.epochs) == (3000, 2, 1.0)
    assert (recipe.model.min_pixels, recipe.model.max_pixels, recipe.model.tune) == (3136, 12845056, ("language",))
    assert len(recipe.mixture) == 24


FAULTY = """#!/usr/bin/env bash
[ -n "${FAULT:-}" ] || exec "$REAL_PYTHON" "$@"
exec "$REAL_PYTHON" -c 'import os, runpy, sys
sys.path.insert(0, os.environ["FAULTS"])
import train_faults
train_faults.infinite_loss(os.environ["FAULT"])
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")' "$@"
"""


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A tiny model and one dataset in the published layout, whose first question is much longer than the others."""
    folder = tmp_path_factory.mktemp("published")
    data = folder / "data"
    benchmark = make_benchmark(data, count=8)
    file = data / PUBLISHED
    file.parent.mkdir(parents=True)
    records = json.loads(benchmark.file.read_text())
    records[0]["question"] += " Look well." * 200
    file.write_text(json.dumps([{**record, "image_path": f"images/{record['image_path']}"} for record in records]))
    made = ["tiny", str(folder / "tiny"), "--root", str(data), "--texts-from", "rh20t_vla_current_box_train"]
    assert run(made) == 0
    return {
        **{"PRETRAIN_MODEL": folder / "tiny", "ROBOINTER_DATA": data, "DATASETS": "rh20t_vla_current_box_train"},
        **{"BATCH_SIZE": 1, "GRAD_ACCUM": 1, "MAX_STEPS": 3, "SAVE_STEPS": 1},
    }


@pytest.mark.slow
def test_what_is_said_after_a_loss_that_is_no_number_can_be_typed(published, tmp_path):
    (tmp_path / "python").write_text(FAULTY)
    (tmp_path / "python").chmod(0o755)
    out = tmp_path / "out"
    command = {**published, "OUTPUT_DIR": out, "ROBOINTER_PYTHON": tmp_path / "python", "REAL_PYTHON": sys.executable}
    failed = sft("x", "0", **command, FAULT="0:3", FAULTS=ROOT / "tests" / "faults")
    assert failed.returncode == 7, failed.stderr
    said = re.search(
        r"goes on from step 2; with lower learning rates if run with (.*) in its environment", failed.stderr
    )
    assert said is not None, failed.stderr
    assert said[1] == "LEARNING_RATE=2.5e-06 CHANGE_LR=True"
    refused = sft("x", "0", **command, LEARNING_RATE="2.5e-6")
    assert refused.returncode == 2
    assert "optim.language_lr was 5e-06, is 2.5e-06" in refused.stderr
    assert "add CHANGE_LR=True; that is recorded in changes.jsonl" in refused.stderr
    done = sft("x", "0", **command, **dict(setting.split("=") for setting in said[1].split()))
    assert done.returncode == 0, done.stderr
    entries = [json.loads(line) for line in (out / "changes.jsonl").read_text().splitlines()]
    assert {(each["key"], each["step"], each["old"], each["new"]) for each in entries} == {
        ("optim.language_lr", 2, 5e-6, 2.5e-6),
        ("optim.merger_lr", 2, 5e-6, 2.5e-6),
        ("optim.experts_lr", 2, 5e-6, 2.5e-6),
    }


@pytest.mark.slow
def test_too_long_samples_are_counted_before_step_0_and_left_out_unless_the_script_says_otherwise(published, tmp_path):
    command = {**published, "MAX_LENGTH": 500, "OUTPUT_DIR": tmp_path / "out"}
    refused = sft("x", "0", **command, TOO_LONG="error")
    assert refused.returncode == 3
    assert "1 of 8 samples are longer than MAX_LENGTH=500" in refused.stderr
    assert "To go on, leave them out with TOO_LONG=drop, raise MAX_LENGTH, or lower MAX_PIXELS" in refused.stderr
    assert not (tmp_path / "out" / "metrics.jsonl").exists()
    done = sft("x", "0", **{**command, "MAX_STEPS": 8, "SAVE_STEPS": 50})
    assert done.returncode == 0, done.stderr
    assert "They are left out, as TOO_LONG=drop says." in " ".join(done.stderr.split())
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert (result["samples"], result["too_long"]) == (7, 1)


@pytest.mark.slow
def test_a_tiny_model_is_trained_and_answers(tmp_path):
    data = tmp_path / "data"
    benchmark = make_benchmark(data, count=8)
    published = data / PUBLISHED
    published.parent.mkdir(parents=True)
    records = json.loads(benchmark.file.read_text())
    published.write_text(json.dumps([{**record, "image_path": f"images/{record['image_path']}"} for record in records]))
    tiny = tmp_path / "tiny"
    made = robointer(
        "tiny", tiny, "--texts-from", "rh20t_vla_current_box_train", ROBOINTER_DATA=str(data), OMP_NUM_THREADS="1"
    )
    assert made.returncode == 0, made.stderr

    settings = {"PRETRAIN_MODEL": tiny, "ROBOINTER_DATA": data, "DATASETS": "rh20t_vla_current_box_train%50"}
    out = tmp_path / "out"
    trained = sft("my_experiment", "0", OUTPUT_DIR=out, MAX_STEPS=2, BATCH_SIZE=2, GRAD_ACCUM=1, **settings)
    assert trained.returncode == 0, trained.stdout + trained.stderr
    assert json.loads((out / "result.json").read_text())["steps"] == 2
    assert (out / "job.out").read_text()

    asked = [
        *("--model_path", str(out / "model"), "--json_path", str(benchmark.file), "--image_dir", str(benchmark.images)),
        *("--type", "current_box", "--batch_size", "4", "--max_new_tokens", "4"),
        *("--output_dir", str(tmp_path / "eval"), "--log_dir", str(tmp_path / "logs")),
    ]
    script = ROOT / "eval/benchmark/eval_manip/evaluation_intermediate.py"
    answered = subprocess.run(
        [sys.executable, str(script), *asked],
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert answered.returncode == 0, answered.stderr
    statuses = json.loads((tmp_path / "eval" / "report.json").read_text())["statuses"]
    assert statuses["ok"] + statuses["unparsable"] == 8
    shutil.rmtree(out)
