"""Small data roots made on the spot: pictures of one colour and the annotation files that name them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from robointervlm.data.records import Annotations
from robointervlm.data.spec import DatasetSpec


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data root with one picture of 320x180, `pictures/a.png`."""
    (tmp_path / "pictures").mkdir()
    Image.new("RGB", (320, 180), (200, 30, 30)).save(tmp_path / "pictures" / "a.png")
    return tmp_path


@pytest.fixture
def read(root: Path) -> Callable[..., Annotations]:
    """Writes records to a file of the root and opens it as a dataset."""

    def opened(*records: Any, task: str = "current_box", text: str | bytes | None = None, **fields: Any) -> Annotations:
        file = root / "records.json"
        if text is None:
            text = json.dumps(list(records))
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        spec = DatasetSpec(name="ours", task=task, annotations=("records.json",), **fields)
        return Annotations(spec, root)

    return opened


@pytest.fixture
def shared() -> Path:
    """The real inputs that stand beside the project; the test is skipped where they do not."""
    folder = Path(__file__).parents[2].parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there; it holds public data that is no part of the project")
    return folder
