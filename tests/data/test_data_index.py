"""What is kept about large files: found once, never stale, and not needed."""

from __future__ import annotations

import json
import logging
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robointervlm.core.errors import DataError
from robointervlm.data import annotations, index, spans
from robointervlm.data.annotations import RecordFile
from robointervlm.data.records import Annotations
from robointervlm.data.spec import DatasetSpec

RECORDS = [{"id": str(number), "question": "Where?", "ground_truth": "here"} for number in range(5)]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own, in which everything is kept, however small."""
    monkeypatch.setenv("ROBOINTER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(annotations, "STORE_FROM_BYTES", 0)
    return tmp_path / "cache"


@pytest.fixture
def walks(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that were walked."""
    walked = []

    def counted(path: Path, *rest: Any) -> Any:
        walked.append(path)
        return spans.list_spans(path, *rest)

    monkeypatch.setattr(annotations, "list_spans", counted)
    return walked


def written(folder: Path, records: list[dict[str, Any]] = RECORDS) -> Path:
    (folder / "a.json").write_text(json.dumps(records))
    return folder / "a.json"


def read(path: Path) -> list[Any]:
    file = RecordFile(path)
    return [file[position] for position in range(len(file))]


def test_a_large_file_is_walked_once(tmp_path: Path, cache: Path, walks: list[Path]) -> None:
    path = written(tmp_path)
    assert read(path) == read(path) == RECORDS
    assert walks == [path]
    assert len(list(cache.glob("records/*.npy"))) == 1


def test_a_changed_file_is_walked_again_and_the_old_index_goes(tmp_path: Path, cache: Path, walks: list[Path]) -> None:
    path = written(tmp_path)
    read(path)
    assert read(written(tmp_path, RECORDS[:2])) == RECORDS[:2]
    assert len(walks) == 2
    assert len(list(cache.glob("records/*.npy"))) == 1


@pytest.mark.usefixtures("cache")
def test_a_file_of_the_same_size_and_time_but_another_end_is_walked_again(tmp_path: Path) -> None:
    path = written(tmp_path)
    read(path)
    times = path.stat()
    changed = [*RECORDS[:4], {**RECORDS[4], "ground_truth": "hear"}]
    written(tmp_path, changed)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert read(path) == changed


def test_a_damaged_index_is_made_again(tmp_path: Path, cache: Path) -> None:
    path = written(tmp_path)
    read(path)
    (kept,) = cache.glob("records/*.npy")
    kept.write_bytes(kept.read_bytes()[:100])
    assert read(path) == RECORDS


@pytest.mark.usefixtures("cache")
def test_without_a_folder_to_write_the_places_are_held_in_memory_and_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ROBOINTER_CACHE", str(tmp_path / "file" / "below"))
    with caplog.at_level(logging.WARNING):
        assert read(written(tmp_path)) == RECORDS
    assert [record.message.count("\n") for record in caplog.records] == [0]
    assert "kept in memory only" in caplog.text


@pytest.mark.parametrize(
    "variables,expected",
    [
        ({"ROBOINTER_CACHE": "/a"}, "/a"),
        ({"XDG_CACHE_HOME": "/b"}, "/b/robointervlm"),
        ({"HOME": "/c"}, "/c/.cache/robointervlm"),
    ],
)
def test_the_cache_lies_where_the_environment_says(
    variables: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ROBOINTER_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert index.cache_folder() == Path(expected)


@pytest.mark.usefixtures("cache")
def test_what_is_sent_to_another_process_is_neither_content_nor_places(tmp_path: Path) -> None:
    file = RecordFile(written(tmp_path, RECORDS * 200))
    assert len(file) == 1000
    sent = pickle.dumps(file)
    assert len(sent) < 1000
    assert pickle.loads(sent)[999] == RECORDS[4]


@pytest.mark.usefixtures("cache")
def test_a_file_that_changes_while_it_is_in_use_is_an_error(tmp_path: Path) -> None:
    path = written(tmp_path)
    file = RecordFile(path)
    assert len(file) == 5
    sent = pickle.dumps(file)
    written(tmp_path, RECORDS[:2])
    with pytest.raises(DataError, match=r"a\.json was changed while it was in use"):
        pickle.loads(sent)[0]


def test_the_records_that_a_dataset_takes_are_found_once(tmp_path: Path, cache: Path) -> None:
    def dataset(*ids: str) -> Annotations:
        return Annotations(
            DatasetSpec(name="d", task="chat", annotations=(str(path),), images=str(tmp_path), where={"id": ids})
        )

    path = written(tmp_path)
    for _ in range(2):
        assert [sample.id for sample in dataset("1", "3")] == ["1", "3"]
        assert [sample.id for sample in dataset("2")] == ["2"]
    assert len(list(cache.glob("where/*.npy"))) == 2


def test_the_array_is_made_again_only_for_another_key(tmp_path: Path, cache: Path) -> None:
    path = written(tmp_path)
    made = []

    def make() -> np.ndarray:
        made.append(1)
        return np.arange(3)

    first = [index.stored("kind", path, key, make).tolist() for key in ("a", "a", "b")]
    assert first == [[0, 1, 2]] * 3
    assert len(made) == 2
    assert cache.is_dir()
