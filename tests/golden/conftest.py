"""The golden vectors lie beside the project, not in it."""

import json
from pathlib import Path

import pytest

GOLDEN = Path(__file__).parents[2].parent / "shared" / "golden"


@pytest.fixture(scope="session")
def golden_rows():
    def rows(name):
        file = GOLDEN / name
        if not file.exists():
            pytest.skip(f"{file} is not there: the golden vectors come with the shared folder of the project")
        return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]

    return rows
