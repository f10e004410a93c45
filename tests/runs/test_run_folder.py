from __future__ import annotations

import errno
import json
import logging
import os
from pathlib import Path

import pytest

from robointervlm.core.errors import ExhaustedError, RecipeError
from robointervlm.runs.files import write_atomically
from robointervlm.runs.log import MetricsLog
from robointervlm.runs.run import Run, locked
from robointervlm.runs.settings import Settings


class Recipe(Settings):
    name: str = "a"


def test_a_run_keeps_recipe_environment_and_log(tmp_path):
    with Run.opened(tmp_path / "run", Recipe()) as run:
        logging.getLogger("robointervlm.somewhere").info("step %d", 3)
    assert (run.folder / "recipe.yaml").read_text() == "name: a\n"
    environment = json.loads((run.folder / "environment.json").read_text())
    assert environment["packages"]["numpy"]
    assert "step 3" in (run.folder / "log.txt").read_text()


def test_the_environment_names_no_host_user_or_path(tmp_path):
    with Run.opened(tmp_path / "run", Recipe()) as run:
        text = (run.folder / "environment.json").read_text()
    assert os.uname().nodename not in text
    assert str(Path.home()) not in text


def test_a_locked_folder_names_the_process(tmp_path):
    with locked(tmp_path), pytest.raises(RecipeError, match=f"locked by pid {os.getpid()}"), locked(tmp_path):
        pass
    with locked(tmp_path):
        pass


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RecipeError, match="Choose an output folder"):
        Run.opened(tmp_path / "file" / "run", Recipe()).__enter__()


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failed_write_leaves_the_old_file_and_no_rubbish(tmp_path, monkeypatch, call):
    path = tmp_path / "report.json"
    write_atomically(path, "old")

    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(*(os, "fsync") if call == "fsync" else (Path, "replace"), full)
    with pytest.raises(ExhaustedError, match="free some space"):
        write_atomically(path, "new")
    monkeypatch.undo()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_is_synced_before_it_gets_its_name_and_the_folder_after(tmp_path, monkeypatch):
    order: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def synced(descriptor: int) -> None:
        order.append("folder" if Path(f"/proc/self/fd/{descriptor}").is_dir() else "file")
        fsync(descriptor)

    def renamed(source: Path, target: Path) -> Path:
        order.append("rename")
        return replace(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", renamed)
    write_atomically(tmp_path / "a", "text")
    assert order == ["file", "rename", "folder"]


def test_metrics_are_json_lines(tmp_path):
    with MetricsLog(tmp_path / "metrics.jsonl") as log:
        log.write(step=1, loss=0.5)
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == {"step": 1, "loss": 0.5}
