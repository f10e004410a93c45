"""Unpacking: what is there afterwards, also after a stop, of split archives, and beside what was there before."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import zipfile
from collections import namedtuple
from pathlib import Path

import pytest

from robointervlm.cli.main import run
from robointervlm.data.prepare import unpack as unpacking

SCRIPT = Path(__file__).resolve().parents[2] / "data_process" / "unpack_from_hf.py"
PICTURES = {f"boxes/{number:03}.jpg": os.urandom(2000) for number in range(120)}


def archive(content: dict[str, bytes]) -> bytes:
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w") as file:
        for name, data in content.items():
            file.writestr(name, data)
    return memory.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "Generation" / "image" / "train"
    made.mkdir(parents=True)
    return made


def unpacked(root: Path, *options: str) -> int:
    return run(["data", "unpack", "--root", str(root), "--workers", "1", *options])


def there(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.jpg")}


def test_the_second_run_writes_nothing_and_a_lost_file_is_written_again(tmp_path, folder, capsys):
    (folder / "boxes.zip").write_bytes(archive(PICTURES))
    assert unpacked(tmp_path) == 0
    assert there(folder) == PICTURES
    assert unpacked(tmp_path) == 0
    assert "0 files written, 120 there already" in capsys.readouterr().out
    (folder / "boxes" / "007.jpg").unlink()
    assert unpacked(tmp_path) == 0
    assert "1 files written, 119 there already" in capsys.readouterr().out
    assert there(folder) == PICTURES


def test_parts_are_unpacked_as_one_archive_without_a_copy(tmp_path, folder, capsys):
    whole = archive(PICTURES)
    for number in range(3):
        (folder / f"boxes.zip.{number:02}").write_bytes(whole[number * 100_000 : (number + 1) * 100_000])
    assert unpacked(tmp_path) == 0
    assert there(folder) == PICTURES
    assert not (folder / "boxes.zip").exists()
    (folder / "boxes.zip.01").unlink()
    assert unpacked(tmp_path) == 3
    assert "part 01 is missing" in capsys.readouterr().err


def test_many_small_jobs_in_two_processes_give_the_same(tmp_path, folder, monkeypatch):
    monkeypatch.setattr(unpacking, "_MEMBERS_PER_JOB", 7)
    (folder / "boxes.zip").write_bytes(archive(PICTURES))
    assert unpacked(tmp_path, "--workers", "2") == 0
    assert there(folder) == PICTURES


def test_what_a_stopped_unzip_left_is_completed_and_another_file_is_not_replaced(tmp_path, folder, capsys):
    (folder / "boxes.zip").write_bytes(archive(PICTURES))
    (folder / "boxes").mkdir()
    (folder / "boxes" / "000.jpg").write_bytes(PICTURES["boxes/000.jpg"][:1000])
    (folder / "boxes" / "001.jpg").write_bytes(b"mine")
    assert unpacked(tmp_path) == 5
    assert "001.jpg is there already and differs" in capsys.readouterr().err
    assert there(folder) == {**PICTURES, "boxes/001.jpg": b"mine"}


def test_of_two_archives_with_another_content_for_one_file_the_second_is_refused(tmp_path, folder, capsys):
    (folder / "a.zip").write_bytes(archive(PICTURES))
    (folder / "b.zip").write_bytes(archive({"boxes/005.jpg": b"other"}))
    assert unpacked(tmp_path) == 5
    assert "'boxes/005.jpg' stands in" in capsys.readouterr().err
    assert there(folder) == PICTURES


def test_a_dry_run_says_what_there_is_and_writes_nothing(tmp_path, folder, capsys):
    (folder / "boxes.zip").write_bytes(archive(PICTURES))
    assert unpacked(tmp_path, "--dry-run") == 0
    assert "120 files, 0.00 GB; 0 there already" in capsys.readouterr().out
    assert there(folder) == {}


def test_a_disk_without_the_space_is_said_before_anything_is_written(tmp_path, folder, monkeypatch, capsys):
    (folder / "boxes.zip").write_bytes(archive(PICTURES))
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(unpacking.shutil, "disk_usage", lambda _: usage(239_999))
    assert unpacked(tmp_path) == 6
    assert there(folder) == {}
    monkeypatch.setattr(unpacking.shutil, "disk_usage", lambda _: usage(240_000))
    assert unpacked(tmp_path) == 0


def test_types_without_archives_and_unknown_ones_are_errors(tmp_path, folder, capsys):
    assert unpacked(tmp_path, "--data-type", "Understanding") == 3
    assert "no archive" in capsys.readouterr().err
    assert unpacked(tmp_path, "--data-type", "understanding") == 2
    assert unpacked(tmp_path, "--max-unpacked", "much") == 2


def test_the_documented_script_takes_its_flags_and_says_a_failure(tmp_path, folder):
    (tmp_path / "Task_planning").mkdir()
    (tmp_path / "Task_planning" / "task_planning.zip.00").write_bytes(archive({"plan/1.jpg": b"x"}))
    (folder / "bad.zip").write_bytes(b"no archive")
    flags = ["--data_type", "all", "--num_workers", "1", "--data_root", str(tmp_path)]
    done = subprocess.run([sys.executable, SCRIPT, *flags], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 3
    assert "bad.zip cannot be read: it has no end record" in done.stderr
    assert (tmp_path / "Task_planning" / "plan" / "1.jpg").read_bytes() == b"x"
