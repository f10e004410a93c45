"""Puts `tests/` on the path, for `tiny_models`; keeps torch to one thread."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory):
    """A folder with the shared tiny model."""
    from tiny_models import saved_model  # noqa: PLC0415 - the path is set above

    return saved_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def catalog(tmp_path):
    """A catalog with one dataset, `boxes`, of twelve samples."""
    from tiny_models import box_dataset  # noqa: PLC0415 - the path is set above

    return box_dataset(tmp_path / "data")
