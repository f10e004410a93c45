"""Puts `tests/` and this folder on the path; the process that training processes are forked from; the ledger."""

import json
import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory):
    """A folder with the shared tiny model."""
    from tiny_models import saved_model  # noqa: PLC0415 - the path is set above

    return saved_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="session")
def nursery(tmp_path_factory):
    from train_forks import Nursery  # noqa: PLC0415 - the path is set above

    nursery = Nursery(tmp_path_factory.mktemp("nursery"))
    yield nursery
    nursery.close()


@pytest.fixture
def ledger():
    """Adds a line to the file FAULT_LEDGER names, if it names one."""

    def add(scenario: str, **figures: object) -> None:
        if path := os.environ.get("FAULT_LEDGER"):
            with Path(path).open("a") as file:
                file.write(json.dumps({"scenario": scenario, **figures}) + "\n")

    return add
