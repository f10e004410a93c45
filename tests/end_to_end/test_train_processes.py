"""Training in processes of its own: several at once, stopped by the system, failing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from robointervlm.models.qwen2_5_vl import Section
from robointervlm.models.qwen2_5_vl.network import Qwen25VL
from robointervlm.models.qwen2_5_vl_moe.upcycle import Shape, upcycled
from tiny_models import box_dataset, losses, train_arguments

pytestmark = pytest.mark.slow

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def started(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "robointervlm.cli", "train", *arguments]
    return subprocess.Popen(command, env=ENVIRONMENT, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def finished(*arguments: str) -> tuple[int, str]:
    process = started(*arguments)
    _, error = process.communicate(timeout=300)
    return process.returncode, error


def numbers(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def wait_for_step(process: subprocess.Popen[str], run: Path, step: int) -> None:
    end = time.monotonic() + 120
    while time.monotonic() < end and process.poll() is None:
        metrics = run / "metrics.jsonl"
        if metrics.is_file() and metrics.read_text().count("\n") >= step:
            return
        time.sleep(0.02)
    pytest.fail(f"step {step} was not reached: {process.communicate()[1] if process.poll() is not None else ''}")


@pytest.mark.parametrize("pack", ["samples", "shared"])
def test_two_processes_train_packed_rows_as_one_with_twice_the_accumulation(tiny_folder, tmp_path, pack):
    # The same pictures under two names share rows; text alone and a bad sample stand among them.
    catalog = box_dataset(tmp_path / "data", wordy=4, bad=[7])
    records = [
        {"id": f"t{n}", "conversations": [{"from": "human", "value": "Open?"}, {"from": "gpt", "value": "Yes"}]}
        for n in range(3)
    ]
    (tmp_path / "data" / "texts.json").write_text(json.dumps(records))
    more = "again: {task: current_box, annotations: boxes.json}\ntexts: {task: chat, annotations: texts.json}\n"
    catalog.write_text(catalog.read_text() + more)
    common = ["mixture=[boxes,again,texts]", "run.max_steps=3", "data.max_bad_rate=0.9", f"batch.pack={pack}"]
    common += ["batch.max_tokens=240"]
    one = train_arguments(tiny_folder, catalog, tmp_path / "one", *common, "batch.accumulate=4")
    two = train_arguments(tiny_folder, catalog, tmp_path / "two", *common, "batch.accumulate=2")
    code, error = finished(*one)
    assert code == 0, error
    code, error = finished(*two, "--processes", "2")
    assert code == 0, error
    for ours, theirs in zip(numbers(tmp_path / "one"), numbers(tmp_path / "two"), strict=True):
        for name in ("loss", "grad_norm"):
            assert theirs[name] == pytest.approx(ours[name], rel=1e-4), name
        for name in ("step", "samples", "supervised", "bad"):
            assert theirs[name] == ours[name], name
    assert numbers(tmp_path / "one")[-1]["samples"] > 3 * 4


def test_two_processes_train_as_one_with_twice_the_accumulation(tiny_folder, tmp_path):
    # Samples of different lengths, one of them bad: no split may change what the step learns.
    catalog = box_dataset(tmp_path / "data", wordy=4, bad=[7])
    common = ["run.max_steps=3", "batch.per_device=1", "data.max_bad_rate=0.5"]
    one = train_arguments(tiny_folder, catalog, tmp_path / "one", *common, "batch.accumulate=4")
    two = train_arguments(tiny_folder, catalog, tmp_path / "two", *common, "batch.accumulate=2")
    assert finished(*one)[0] == 0
    code, error = finished(*two, "--processes", "2")
    assert code == 0, error
    for ours, theirs in zip(numbers(tmp_path / "one"), numbers(tmp_path / "two"), strict=True):
        for name in ("loss", "grad_norm"):
            assert theirs[name] == pytest.approx(ours[name], rel=1e-4), name
        for name in ("step", "samples", "supervised", "bad"):
            assert theirs[name] == ours[name], name
    assert json.loads((tmp_path / "two" / "result.json").read_text())["samples"] == 11


def test_two_processes_train_experts_as_one_does(tiny_folder, tmp_path):
    # More experts than some batches have tokens for: one that nobody chose must not leave the other process waiting.
    moe = upcycled(
        Qwen25VL.load(Section(path=str(tiny_folder), device="cpu")),
        Shape(num_experts=64, moe_intermediate_size=16),
        seed=0,
    )
    moe.save(tmp_path / "moe")
    catalog = box_dataset(tmp_path / "data", wordy=4)
    common = ["model.tune=[language,experts]", "run.max_steps=3", "batch.per_device=1", "optim.experts_lr=1e-2"]
    one = train_arguments(tmp_path / "moe", catalog, tmp_path / "one", *common, "batch.accumulate=4")
    two = train_arguments(tmp_path / "moe", catalog, tmp_path / "two", *common, "batch.accumulate=2")
    assert finished(*one)[0] == 0
    code, error = finished(*two, "--processes", "2")
    assert code == 0, error
    for ours, theirs in zip(numbers(tmp_path / "one"), numbers(tmp_path / "two"), strict=True):
        assert theirs["loss"] == pytest.approx(ours["loss"], rel=1e-4)
        assert theirs["grad_norm"] == pytest.approx(ours["grad_norm"], rel=1e-4)


def test_sigterm_saves_and_says_so_and_the_same_command_goes_on(tiny_folder, tmp_path):
    catalog = box_dataset(tmp_path / "data")
    long = ["run.max_steps=60", "optim.schedule=constant"]
    arguments = train_arguments(tiny_folder, catalog, tmp_path / "run", *long)
    process = started(*arguments)
    wait_for_step(process, tmp_path / "run", 3)
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=300)
    assert process.returncode == 75
    assert "rerun the same command" in error
    stopped = max(losses(tmp_path / "run"))
    assert (tmp_path / "run" / "checkpoints" / f"step-{stopped:08d}").is_dir()
    assert 3 <= stopped < 60
    assert finished(*arguments)[0] == 0
    assert sorted(losses(tmp_path / "run")) == list(range(1, 61))


def test_sigterm_stops_all_processes_at_one_step_and_they_go_on(tiny_folder, tmp_path):
    catalog = box_dataset(tmp_path / "data")
    arguments = train_arguments(tiny_folder, catalog, tmp_path / "run", "run.max_steps=200", "batch.accumulate=1")
    process = started(*arguments, "--processes", "2")
    wait_for_step(process, tmp_path / "run", 2)
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=300)
    assert process.returncode == 75, error
    stopped = max(losses(tmp_path / "run"))
    assert (tmp_path / "run" / "checkpoints" / f"step-{stopped:08d}").is_dir()


def test_what_goes_wrong_in_several_processes_keeps_its_exit_code_and_shows_no_traceback(tiny_folder, tmp_path):
    catalog = box_dataset(tmp_path / "data", bad=range(12))
    arguments = train_arguments(tiny_folder, catalog, tmp_path / "run")
    code, error = finished(*arguments, "--processes", "2")
    assert code == 3
    assert "data.max_bad_rate" in error
    assert "Traceback" not in error


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process of its parent's end")
def test_processes_whose_starter_is_killed_save_and_end_and_the_run_goes_on(tiny_folder, tmp_path):
    catalog = box_dataset(tmp_path / "data")
    more = ["run.max_steps=40", "batch.accumulate=1", "optim.schedule=constant"]
    arguments = train_arguments(tiny_folder, catalog, tmp_path / "run", *more)
    process = started(*arguments, "--processes", "2")
    wait_for_step(process, tmp_path / "run", 2)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert len(children) == 2
    process.kill()
    process.communicate(timeout=300)  # they have its outputs, too: read to the end, they are gone
    stopped = max(losses(tmp_path / "run"))
    assert 2 <= stopped < 40
    assert (tmp_path / "run" / "checkpoints" / f"step-{stopped:08d}").is_dir()
    code, error = finished(*arguments, "--processes", "2")
    assert code == 0, error
    assert sorted(losses(tmp_path / "run")) == list(range(1, 41))
