"""Scenarios 11 to 20 and 23 of the reliability page: training on full disks, damaged checkpoints, without workers."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from test_faults_kills import lines, samples, step_reached
from train_forks import Child

from robointervlm.train.checkpoint import damage, newest
from tiny_models import box_dataset, losses, train_arguments

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def catalog(tmp_path_factory):
    return box_dataset(tmp_path_factory.mktemp("data") / "boxes")


@pytest.fixture
def arguments(tiny_folder, catalog, tmp_path):
    """A run of six steps of two samples, saved after every second one."""

    def made(run: Path | None = None, *more: str) -> list[str]:
        common = ["batch.per_device=1", "run.max_steps=6", "run.save_every=2"]
        return train_arguments(tiny_folder, catalog, run or tmp_path / "run", *common, *more)

    return made


@pytest.fixture(scope="module")
def undisturbed(nursery, tiny_folder, catalog, tmp_path_factory):
    """The run that nothing happened to."""
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    common = ["batch.per_device=1", "run.max_steps=6", "run.save_every=2", "run.keep=3"]
    child = nursery.start(train_arguments(tiny_folder, catalog, run, *common))
    assert child.wait() == 0, child.output
    return run


def as_after_a_kill(undisturbed: Path, run: Path) -> Path:
    """The folder of a run of which all is written but its end."""
    shutil.copytree(undisturbed, run)
    (run / "result.json").unlink()
    shutil.rmtree(run / "model")
    return run / "checkpoints"


def assert_same(run: Path, undisturbed: Path) -> None:
    assert losses(run) == losses(undisturbed)
    assert samples(run, 1) == samples(undisturbed, 1)
    ours, theirs = (load_file(each / "model" / "model.safetensors") for each in (run, undisturbed))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def every_damage(checkpoint: Path) -> list[str]:
    """What scenario 11 does: each file cut at four places, deleted, one byte flipped; the whole folder emptied."""
    files = sorted(str(path.relative_to(checkpoint)) for path in checkpoint.rglob("*") if path.is_file())
    ways = ["cut 0", "cut 1", "cut 50", "cut 99", "delete", "flip"]
    return [f"{way}|{name}" for name in files for way in ways] + ["empty|"]


def do_damage(checkpoint: Path, how: str) -> None:
    way, _, name = how.partition("|")
    path = checkpoint / name
    if way == "empty":
        shutil.rmtree(path)
        path.mkdir()
    elif way == "delete":
        path.unlink()
    elif way == "flip":
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 0x10
        path.write_bytes(data)
    else:
        share = int(way.removeprefix("cut ")) / 100
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


def test_every_damage_is_found_and_the_checkpoint_before_is_used(undisturbed, tmp_path, ledger):
    # 11
    root = tmp_path / "checkpoints"
    cases = every_damage(undisturbed / "checkpoints" / "step-00000006")
    missed = []
    for how in cases:
        shutil.copytree(undisturbed / "checkpoints", root)
        do_damage(root / "step-00000006", how)
        found = newest(root)
        if found is None or found.step != 4 or damage(root / "step-00000006") is None:
            missed.append(how)
        shutil.rmtree(root)
    ledger("11 damage", injected=len(cases), survived=len(cases) - len(missed))
    assert missed == []
    assert len(cases) > 50


def test_with_the_newest_two_damaged_the_run_goes_on_from_the_third_and_ends_the_same(
    nursery, undisturbed, arguments, tmp_path
):
    # 11
    root = as_after_a_kill(undisturbed, tmp_path / "run")
    do_damage(root / "step-00000006", "flip|state.pt")
    do_damage(root / "step-00000004", "delete|MANIFEST.json")
    child = nursery.start(arguments(None, "run.keep=3"))
    assert child.wait() == 0, child.output
    assert "step-00000006 is damaged" in child.output.replace("checkpoint s", "checkpoints")
    assert "going on from" in child.output
    assert_same(tmp_path / "run", undisturbed)


def test_with_all_damaged_nothing_starts_again_in_silence(nursery, undisturbed, arguments, tmp_path):
    # 11
    root = as_after_a_kill(undisturbed, tmp_path / "run")
    for folder in root.iterdir():
        do_damage(folder, "flip|rank-00000.pt")
    before = (tmp_path / "run" / "metrics.jsonl").read_bytes()
    child = nursery.start(arguments(None, "run.keep=3"))
    assert child.wait() == 3
    assert "is whole; move the folder away to start again" in child.output
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == before


def test_a_kill_while_an_old_checkpoint_is_removed_leaves_a_whole_one(nursery, undisturbed, arguments, tmp_path):
    # 12: with run.keep=1 what saving does last is to remove the checkpoint before.
    run, marker, least = tmp_path / "run", tmp_path / "marker", []
    for number in range(14, 34, 3):
        child = nursery.start(arguments(None, "run.keep=1"), f"pause_in_save:{number}:{marker}")
        while child.poll() is None and not marker.exists():
            time.sleep(0.005)
        child.kill()
        if not marker.exists():
            break
        marker.unlink()
        whole = [each for each in (run / "checkpoints").glob("step-*") if damage(each) is None]
        least.append(len(whole))
    else:
        child = nursery.start(arguments(None, "run.keep=1"))
        assert child.wait() == 0, child.output
    assert len(least) >= 3
    # Before the first save is done there is none to lose.
    assert min(least[least.index(1) :]) == 1
    assert_same(run, undisturbed)


def test_a_checkpoint_that_cannot_be_removed_stops_nothing(nursery, undisturbed, arguments, tmp_path):
    # 12
    child = nursery.start(arguments(None, "run.keep=1"), "undeletable:step-00000002")
    assert child.wait() == 0, child.output
    assert "remove it yourself" in child.output
    assert_same(tmp_path / "run", undisturbed)


def test_a_base_model_without_a_tokenizer_is_found_before_step_1(nursery, arguments, tiny_folder, tmp_path):
    # 13
    base = tmp_path / "base"
    shutil.copytree(tiny_folder, base)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (base / name).unlink()
    child = nursery.start(arguments(None, f"model.path={json.dumps(str(base))}"))
    assert child.wait(60) == 3
    assert "error: the tokenizer does not belong to this model" in child.output
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_a_base_model_without_a_preprocessor_trains_and_is_exported_with_one(nursery, arguments, tiny_folder, tmp_path):
    # 13
    base = tmp_path / "base"
    shutil.copytree(tiny_folder, base)
    (base / "preprocessor_config.json").unlink()
    child = nursery.start(arguments(None, f"model.path={json.dumps(str(base))}", "run.max_steps=1"))
    assert child.wait() == 0, child.output
    assert (tmp_path / "run" / "model" / "preprocessor_config.json").is_file()


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_files_are_synced_before_the_folder_is_renamed_and_its_parent_after(nursery, arguments, tmp_path):
    # 14. What the order is good for, a power cut, is not tested.
    trace = tmp_path / "trace"
    child = nursery.start(arguments(None, "run.max_steps=2"), "slow_steps:0.5")
    calls = "trace=fsync,fdatasync,rename,renameat,renameat2,openat"
    tracer = subprocess.Popen(
        ["strace", "-f", "-y", "-e", calls, "-o", str(trace), "-p", str(child.pid)], stderr=subprocess.DEVNULL
    )
    assert child.wait() == 0, child.output
    if tracer.wait(timeout=30) or "step-00000002" not in trace.read_text():
        pytest.skip("strace may not follow a process here")
    said = trace.read_text().splitlines()
    renamed = next(n for n, line in enumerate(said) if re.search(r' rename.*checkpoints/step-00000002"', line))
    places = [(n, re.search(r"sync\(\d+<.*/checkpoints(.*?)>", line)) for n, line in enumerate(said)]
    synced = {found[1].removeprefix("/.tmp-step-00000002/"): n for n, found in places if found}
    parent = synced.pop("")
    files = {
        str(path.relative_to(tmp_path / "run" / "checkpoints" / "step-00000002"))
        for path in (tmp_path / "run" / "checkpoints" / "step-00000002").rglob("*")
    }
    assert files <= synced.keys()
    others = files - {"MANIFEST.json", "model"}
    assert max(synced[name] for name in others) < synced["MANIFEST.json"]
    assert max(synced.values()) < renamed < parent


@pytest.mark.parametrize("name, numbers, code", [("ENOSPC", (1, 4, 9, 22), 6), ("EIO", (10,), 6), ("EROFS", (15,), 2)])
def test_a_disk_that_fails_in_a_save_ends_the_run_and_spares_what_is_there(
    nursery, undisturbed, arguments, tmp_path, name, numbers, code
):
    # 16: the numbers reach into the second save.
    for number in numbers:
        run = tmp_path / f"run{number}"
        child = nursery.start(arguments(run), f"fail_in_save:{number}:{name}")
        assert child.wait() == code, child.output
        assert "Traceback" not in child.output
        assert all(damage(folder) is None for folder in (run / "checkpoints").glob("step-*"))
        assert not (run / "model").exists()
    child = nursery.start(arguments(run))
    assert child.wait() == 0, child.output
    assert_same(run, undisturbed)


SMALL_DISK = """
mount -t tmpfs -o size={first} none "$1" || exit 99
run="$1/run"; out="$2"; shift 2
"$@"; echo $? > "$out/codes"
cp -r "$run/." "$out/full"
mount -o remount,size={then} "${{run%/run}}"
"$@"; echo $? >> "$out/codes"
cp -r "$run" "$out/run"
"""


def test_a_disk_that_gets_full_spares_the_last_checkpoint_and_a_larger_one_lets_the_run_go_on(
    undisturbed, arguments, tmp_path
):
    # 15: room for one checkpoint and a half, then for many.
    size = sum(path.stat().st_size for path in (undisturbed / "checkpoints" / "step-00000002").rglob("*"))
    (tmp_path / "disk").mkdir()
    script = SMALL_DISK.format(first=int(1.5 * size), then=8 * size)
    command = ["unshare", "-m", "bash", "-c", script, "bash", str(tmp_path / "disk"), str(tmp_path), sys.executable]
    command += ["-m", "robointervlm.cli", "train", *arguments(tmp_path / "disk" / "run")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if not (tmp_path / "codes").exists():
        pytest.skip(f"a disk of its own can be mounted by root alone: {done.stderr}")
    assert (tmp_path / "codes").read_text().split() == ["6", "0"], done.stderr
    said = " ".join(done.stderr.split())
    assert "has no room for another checkpoint" in said
    assert "2 checkpoints of" in said  # it was warned of before the first step
    full = tmp_path / "full" / "checkpoints"
    assert [path.name for path in full.iterdir()] == ["step-00000002"]
    assert damage(full / "step-00000002") is None
    assert_same(tmp_path / "run", undisturbed)


def test_a_run_that_may_write_no_large_file_ends_at_its_first_save_without_half_of_one(nursery, arguments, tmp_path):
    # 15: the pre-check cannot see it, and the libraries that write weights have errors of their own.
    child = nursery.start(arguments(), "small_files:100000")
    assert child.wait() == 6, child.output
    assert "File too large. What was there before is intact; free some space" in child.output
    assert list((tmp_path / "run" / "checkpoints").iterdir()) == []


@pytest.mark.parametrize("fault", ["worker_killed", "worker_hangs", "worker_raises"])
def test_a_loading_process_that_fails_is_named_in_bounded_time(nursery, arguments, tmp_path, fault, ledger):
    # 18
    started = time.monotonic()
    # The limit is for the one that hangs; on a busy machine a killed one may be noticed later than that.
    limit = 5 if fault == "worker_hangs" else 60
    child = nursery.start(arguments(None, "data.workers=2", f"data.timeout_seconds={limit}"), f"{fault}:3")
    code = child.wait(90)
    ledger(f"18 {fault}", exit=code, seconds=time.monotonic() - started)
    said = child.output
    if fault == "worker_raises":
        assert code == 1
        assert "a bug in loading" in said
        return
    assert code == 75, said
    assert ("was killed" if fault == "worker_killed" else "no batch from the data workers within 5 s") in said
    assert "The same command goes on" in said
    # The other loading process may find its pipe closed, and says so from a thread of torch's.
    assert "Traceback" not in said or "resource_sharer" in said


def test_a_rank_that_is_killed_ends_the_other_in_bounded_time(nursery, arguments, tmp_path, ledger):
    # 19
    children = nursery.start_ranks(arguments(None, "run.max_steps=500"))
    wait_for_step(children, tmp_path / "run", 3)
    started = time.monotonic()
    children[1].kill()
    code = children[0].wait(40)
    ledger("19 rank killed", exit=code, seconds=time.monotonic() - started)
    assert code in {1, 75}, children[0].output
    assert "Traceback" not in children[0].output


def wait_for_step(children: list[Child], run: Path, step: int) -> None:
    end = time.monotonic() + 120
    while time.monotonic() < end and all(child.poll() is None for child in children):
        if (run / "metrics.jsonl").is_file() and step_reached(run) >= step:
            return
        time.sleep(0.01)
    pytest.fail(f"step {step} was not reached: {[child.output for child in children]}")


@pytest.mark.parametrize("fault", ["infinite_loss:0:6", "nan_pixels:6", "nan_gradient:6"])
def test_what_is_not_finite_is_not_learned_and_its_samples_are_named(nursery, arguments, undisturbed, tmp_path, fault):
    # 20: the sixth micro-batch of one sample is the second of step 3.
    child = nursery.start(arguments(), fault)
    assert child.wait() == 7, child.output
    assert step_reached(tmp_path / "run") == 2
    step = next(line["ids"] for line in lines(tmp_path / "run" / "samples.rank0.jsonl") if line["step"] == 3)
    guilty = ", ".join(step[:2] if "gradient" in fault else step[1:2])
    assert f"The samples it came from: {guilty}." in child.output
    kept = newest(tmp_path / "run" / "checkpoints")
    assert kept.step == 2
    assert all(tensor.isfinite().all() for tensor in load_file(kept.model / "model.safetensors").values())
    child = nursery.start(arguments())
    assert child.wait() == 0, child.output
    assert_same(tmp_path / "run", undisturbed)


@pytest.mark.parametrize("more", [(), ("optim.merger_lr=1e-3",)])
def test_what_is_said_after_a_loss_that_is_no_number_works_as_it_is_printed(nursery, arguments, tmp_path, more):
    # 20: the step in which it happens is the third, and a checkpoint of the second is there.
    child = nursery.start(arguments(None, *more), "infinite_loss:0:6")
    assert child.wait() == 7, child.output
    said = " ".join(child.output.split())
    assert "The same command goes on from step 2; with lower learning rates if run with " in said
    typed = re.search(r"if run with (.*?) at its end, which is recorded in changes.jsonl", said)[1]
    assert typed.startswith("optim.language_lr=0.0005 ")
    child = nursery.start(arguments(None, *more, *shlex.split(typed)))
    assert child.wait() == 0, child.output
    entries = lines(tmp_path / "run" / "changes.jsonl")
    names = ["language", *(["merger"] if more else []), "vision"]
    assert [(each["step"], each["key"], each["new"]) for each in entries] == [
        (2, f"optim.{name}_lr", 5e-4) for name in names
    ]
    assert sorted(losses(tmp_path / "run")) == [1, 2, 3, 4, 5, 6]


def test_without_a_checkpoint_a_lower_rate_begins_again(nursery, arguments, tmp_path):
    child = nursery.start(arguments(), "nan_pixels:1")
    assert child.wait() == 7, child.output
    said = " ".join(child.output.split())
    typed = re.search(r"begins again, since no checkpoint .* if run with (.*?) at its end", said)[1]
    child = nursery.start(arguments(None, *shlex.split(typed)))
    assert child.wait() == 0, child.output
    assert not (tmp_path / "run" / "changes.jsonl").exists()


def test_of_two_ranks_the_one_with_the_infinite_loss_is_named_by_both(nursery, arguments, tmp_path):
    # 20
    children = nursery.start_ranks(arguments(), ("infinite_loss:1:3", "infinite_loss:1:3"))
    assert [child.wait() for child in children] == [7, 7], children[0].output
    guilty = lines(tmp_path / "run" / "samples.rank1.jsonl")[1]["ids"][0]
    for child in children:
        assert f"The samples it came from: process 1: {guilty}." in child.output


def test_the_generators_of_libraries_go_on_where_they_were(nursery, arguments, tmp_path):
    # 8: as dropout would, the loss draws from the generators of torch, numpy and Python.
    child = nursery.start(arguments(tmp_path / "whole"), "draws")
    assert child.wait() == 0, child.output
    marker = tmp_path / "marker"
    child = nursery.start(arguments(), "draws_and_pause:35:" + str(marker))
    while child.poll() is None and not marker.exists():
        time.sleep(0.005)
    child.kill()
    assert newest(tmp_path / "run" / "checkpoints") is not None
    child = nursery.start(arguments(), "draws")
    assert child.wait() == 0, child.output
    assert_same(tmp_path / "run", tmp_path / "whole")


def test_damaged_pictures_are_counted_never_replaced_and_end_the_run_when_too_many(
    nursery, tiny_folder, arguments, tmp_path, ledger
):
    # 23: three of twelve.
    catalog = box_dataset(tmp_path / "data")
    for number in (2, 5, 9):
        picture = tmp_path / "data" / f"{number}.png"
        picture.write_bytes(picture.read_bytes()[:-40])
    common = ["batch.per_device=1", "run.max_steps=6"]
    child = nursery.start(train_arguments(tiny_folder, catalog, tmp_path / "allowed", *common, "data.max_bad_rate=0.3"))
    assert child.wait() == 0, child.output
    result = json.loads((tmp_path / "allowed" / "result.json").read_text())
    assert (result["samples"], result["bad"]) == (9, 3)
    seen = lines(tmp_path / "allowed" / "samples.rank0.jsonl")
    assert sorted(each for line in seen for each in line.get("left_out", [])) == ["s2", "s5", "s9"]
    assert len({each for line in seen for each in line["ids"]}) == 9
    child = nursery.start(train_arguments(tiny_folder, catalog, tmp_path / "refused", *common, "data.max_bad_rate=0.1"))
    assert child.wait() == 3
    assert "data.max_bad_rate=0.1" in child.output
    assert not (tmp_path / "refused" / "model").exists()


def test_a_second_ctrl_c_stops_at_once_and_the_first_had_saved_nothing_half(nursery, undisturbed, arguments, tmp_path):
    child = nursery.start(arguments(), "slow_steps:3")
    wait_for_sample_line(child, tmp_path / "run")
    child.signal(signal.SIGINT)
    time.sleep(0.3)
    child.signal(signal.SIGINT)
    assert child.wait(60) == 130, child.output
    child = nursery.start(arguments())
    assert child.wait() == 0, child.output
    assert_same(tmp_path / "run", undisturbed)


def wait_for_sample_line(child: Child, run: Path) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end and child.poll() is None:
        if (run / "samples.rank0.jsonl").is_file():
            return
        time.sleep(0.01)
    pytest.fail(f"no step was begun: {child.output}")


def test_sigterm_saves_and_asks_to_be_run_again(nursery, undisturbed, arguments, tmp_path):
    child = nursery.start(arguments(), "slow_steps:0.5")
    wait_for_sample_line(child, tmp_path / "run")
    child.signal(signal.SIGTERM)
    assert child.wait(60) == 75, child.output
    assert newest(tmp_path / "run" / "checkpoints").step == step_reached(tmp_path / "run")
    child = nursery.start(arguments())
    assert child.wait() == 0, child.output
    assert_same(tmp_path / "run", undisturbed)


def test_a_run_killed_with_its_loading_processes_alive_can_be_rerun_at_once(nursery, arguments, tmp_path):
    # They notice after seconds that the run is gone, and must not hold its lock until then.
    child = nursery.start(arguments(None, "data.workers=2"), "slow_steps:3")
    wait_for_sample_line(child, tmp_path / "run")
    child.kill()
    child = nursery.start(arguments(None, "data.workers=2"))
    assert child.wait() == 0, child.output
