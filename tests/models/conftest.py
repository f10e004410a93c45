"""Puts `tests/` on the path, for `scripted_benchmark` and `tiny_models`; keeps torch to one thread."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    import torch  # noqa: PLC0415 - the scripted models do not need it

    torch.set_num_threads(1)
