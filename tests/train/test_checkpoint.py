"""Checkpoints are whole or not there."""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from robointervlm.core.errors import DataError, ExhaustedError
from robointervlm.train import checkpoint as checkpoints
from robointervlm.train.checkpoint import Checkpoint, damage, newest, save


def written(into: Checkpoint) -> None:
    into.model.mkdir()
    (into.model / "weights").write_bytes(bytes(range(256)) * 8)
    into.state.write_text(f"state of step {into.step}")


def saved(root: Path, *steps: int, keep: int = 10) -> list[Path]:
    return [save(root, step, written, keep=keep).folder for step in steps]


@pytest.fixture
def warnings(caplog):
    """What the module warns of, whether or not the package's log is passed on."""
    logger = logging.getLogger("robointervlm.train.checkpoint")
    logger.addHandler(caplog.handler)
    yield caplog
    logger.removeHandler(caplog.handler)


def test_the_newest_checkpoint_is_found(tmp_path):
    saved(tmp_path, 5, 10, 100)
    found = newest(tmp_path)
    assert found is not None
    assert found.step == 100
    assert found.state.read_text() == "state of step 100"


def test_steps_are_compared_as_numbers(tmp_path):
    saved(tmp_path, 99_999_999, 100_000_000)
    assert newest(tmp_path).step == 100_000_000


def test_no_checkpoint_is_none(tmp_path):
    assert newest(tmp_path) is None


def test_only_the_newest_are_kept(tmp_path):
    saved(tmp_path, 1, 2, 3, 4, keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000003", "step-00000004"]


def test_a_write_that_dies_leaves_nothing_that_looks_like_a_checkpoint(tmp_path):
    saved(tmp_path, 1)

    def dies(into: Checkpoint) -> None:
        written(into)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        save(tmp_path, 2, dies, keep=1)
    assert newest(tmp_path).step == 1
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]


def test_a_full_disk_keeps_the_last_checkpoint(tmp_path):
    saved(tmp_path, 1)

    def full(into: Checkpoint) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(ExhaustedError, match="No space left"):
        save(tmp_path, 2, full, keep=1)
    assert newest(tmp_path).step == 1


FILES = ["model/weights", "state.pt", "MANIFEST.json"]


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 0x01
    path.write_bytes(data)


DAMAGES = {
    "emptied": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "halved": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "deleted": Path.unlink,
    "one bit": flip,
    "a list": lambda path: path.write_text('{"files": [1, 2]}'),
}


@pytest.mark.parametrize("how", DAMAGES)
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_newest_falls_back_to_the_one_before_and_is_named(tmp_path, warnings, name, how):
    _, latest = saved(tmp_path, 1, 2)
    before = (latest / name).read_bytes()
    DAMAGES[how](latest / name)
    if name == "MANIFEST.json" and how == "cut":
        # The last byte is a line break: nothing is lost.
        assert before.rstrip(b"\n") == (latest / name).read_bytes()
        return
    assert newest(tmp_path).step == 1
    assert "step-00000002" in warnings.text
    assert "damaged" in warnings.text


def test_an_empty_folder_is_a_damaged_checkpoint(tmp_path):
    saved(tmp_path, 1)
    (tmp_path / "step-00000002").mkdir()
    assert newest(tmp_path).step == 1


def test_all_damaged_never_starts_again_in_silence(tmp_path):
    for folder in saved(tmp_path, 1, 2):
        flip(folder / "state.pt")
    with pytest.raises(DataError, match="no checkpoint in .* is whole"):
        newest(tmp_path)


def test_leftovers_are_tidied_up_and_other_folders_are_left_alone(tmp_path):
    saved(tmp_path, 1)
    (tmp_path / ".tmp-step-00000002").mkdir()
    (tmp_path / "step-00000009-copy").mkdir()
    (tmp_path / "notes").mkdir()
    assert newest(tmp_path).step == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes", "step-00000001", "step-00000009-copy"]


def test_a_damaged_newer_checkpoint_never_pushes_out_the_good_one(tmp_path):
    # Resumed at 1 after 5 was found damaged; with keep=1 the checkpoint just written must be the one that stays.
    _, damaged = saved(tmp_path, 1, 5)
    flip(damaged / "state.pt")
    save(tmp_path, 2, written, keep=1)
    assert newest(tmp_path).step == 2
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000002"]


def test_an_old_checkpoint_that_cannot_be_removed_does_not_stop_the_run(tmp_path, monkeypatch, warnings):
    saved(tmp_path, 1)
    discard = checkpoints.discard

    def refuses(folder: Path) -> None:
        if folder.name == "step-00000001":
            raise PermissionError(13, "Permission denied")
        discard(folder)

    monkeypatch.setattr(checkpoints, "discard", refuses)
    save(tmp_path, 2, written, keep=1)
    assert newest(tmp_path).step == 2
    assert "remove it yourself" in warnings.text


def test_a_checkpoint_of_the_same_step_is_replaced(tmp_path):
    folder = saved(tmp_path, 1)[0]
    flip(folder / "state.pt")
    saved(tmp_path, 1)
    assert damage(folder) is None


def test_the_manifest_names_every_file_with_its_hash(tmp_path):
    folder = saved(tmp_path, 3)[0]
    manifest = json.loads((folder / "MANIFEST.json").read_text())
    assert manifest["step"] == 3
    assert set(manifest["files"]) == {"model/weights", "state.pt"}
    # printf 'state of step 3' | sha256sum
    assert manifest["files"]["state.pt"] == {
        "sha256": "d869c3eeb8b1169d5be1667b005728947ef2ba0162d4e3fca1db13efda9f994f",
        "bytes": 15,
    }


@dataclass
class Thread:
    """One of several ranks that are threads of the test; a rank that waits for 20 seconds breaks the barrier."""

    rank: int
    world: int
    barrier: threading.Barrier
    given: list[Any]

    def gather(self, value: Any) -> list[Any]:
        self.given[self.rank] = value
        self.wait()
        everything = list(self.given)
        self.wait()
        return everything

    def wait(self) -> None:
        self.barrier.wait(timeout=20)


def each_rank(part: Callable[[Thread], Any], world: int = 3) -> list[Any]:
    """What the part returns or raises on each rank."""
    barrier, given = threading.Barrier(world), [None] * world
    with ThreadPoolExecutor(world) as pool:
        futures = [pool.submit(part, Thread(rank, world, barrier, given)) for rank in range(world)]
        return [future.exception() or future.result() for future in futures]


def test_every_rank_writes_into_the_one_checkpoint(tmp_path):
    def part(ranks: Thread) -> Checkpoint:
        return save(tmp_path, 4, lambda into: into.rank_state(ranks.rank).write_text("mine"), keep=1, ranks=ranks)

    folder = tmp_path / "step-00000004"
    assert {checkpoint.folder for checkpoint in each_rank(part)} == {folder}
    assert {path.name for path in folder.iterdir()} == {
        *("MANIFEST.json", "rank-00000.pt", "rank-00001.pt", "rank-00002.pt")
    }
    assert json.loads((folder / "MANIFEST.json").read_text())["processes"] == 3
    assert damage(folder) is None


@pytest.mark.parametrize("failing", [0, 2])
def test_a_rank_whose_disk_is_full_leaves_no_other_waiting_and_the_old_checkpoint_whole(tmp_path, failing):
    saved(tmp_path, 1)

    def part(ranks: Thread) -> Checkpoint:
        def write(into: Checkpoint) -> None:
            if ranks.rank == failing:
                raise OSError(errno.ENOSPC, "No space left on device")
            into.rank_state(ranks.rank).write_text("mine")

        return save(tmp_path, 2, write, keep=1, ranks=ranks)

    errors = each_rank(part)
    assert [type(error) for error in errors] == [ExhaustedError] * 3
    assert all("No space left" in str(error) for error in errors)
    assert f"process {failing}: " in str(errors[1])
    assert newest(tmp_path).step == 1
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]


def test_a_folder_that_the_ranks_do_not_share_is_refused_on_all(tmp_path):
    def part(ranks: Thread) -> Checkpoint:
        return save(tmp_path / str(ranks.rank), 1, lambda into: None, keep=1, ranks=ranks)

    assert all("not the same folder for all processes" in str(error) for error in each_rank(part))


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_whichever_call_the_disk_fails_at_no_damaged_checkpoint_gets_its_name(tmp_path, monkeypatch, code):
    # Scenario 16: the n-th call fails, and so do all after it, as on a disk that stays full.
    outcomes = []
    for number in range(1, 51):
        root = tmp_path / str(number)
        saved(root, 1)
        left = [number]

        def failing(real: Callable[..., Any], left: list[int] = left) -> Callable[..., Any]:
            def call(*arguments: Any, **more: Any) -> Any:
                left[0] -= 1
                if left[0] <= 0:
                    raise OSError(code, "failed")
                return real(*arguments, **more)

            return call

        with monkeypatch.context() as patch:
            for name in ("fsync", "replace", "mkdir", "open"):
                patch.setattr(os, name, failing(getattr(os, name)))
            try:
                save(root, 2, written, keep=1)
            except ExhaustedError:
                outcomes.append("refused")
            else:
                outcomes.append("saved")
        assert all(damage(folder) is None for folder in root.glob("step-*")), number
        assert newest(root).step == (1 if outcomes[-1] == "refused" and not (root / "step-00000002").exists() else 2)
    assert outcomes[0] == "refused"
    assert outcomes[-1] == "saved"
    assert outcomes == sorted(outcomes)


def test_a_disk_without_room_for_one_more_checkpoint_is_refused_before_it_is_written(tmp_path, monkeypatch):
    saved(tmp_path, 1)
    monkeypatch.setattr("shutil.disk_usage", lambda path: shutil._ntuple_diskusage(10_000, 8_000, 2_000))
    with pytest.raises(ExhaustedError, match="no room for another checkpoint: .* are needed, 0.00 MB are free"):
        save(tmp_path, 2, lambda into: pytest.fail("it was begun"), keep=2)
    assert newest(tmp_path).step == 1


def test_room_for_fewer_checkpoints_than_are_kept_is_warned_of(tmp_path, monkeypatch, warnings):
    monkeypatch.setattr("shutil.disk_usage", lambda path: shutil._ntuple_diskusage(10**10, 0, 10**10))
    checkpoints.refuse_full_disk(tmp_path, 4 * 10**9, keep=2)
    assert "10.00 GB are free, and 2 checkpoints of 4.00 GB or more are kept" in warnings.text
    with pytest.raises(ExhaustedError, match=r"no room for a checkpoint: 11.00 GB are needed, 10.00 GB are free"):
        checkpoints.refuse_full_disk(tmp_path, 11 * 10**9, keep=2)
