"""What is installed is what `pyproject.toml` says."""

import re
import tomllib
from importlib import resources
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


def test_type_checkers_are_told_that_the_package_is_annotated():
    assert resources.files("robointervlm").joinpath("py.typed").is_file()


@pytest.mark.parametrize("file, apart", [("all.txt", set()), ("cpu.txt", {"torch"})])
def test_the_pinned_requirements_hold_every_extra(file, apart):
    pinned = set(re.findall(r"^([a-z0-9-]+)(?:\[[a-z,]+\])?==", (ROOT / "requirements" / file).read_text(), re.M))
    wanted = {re.match(r"[a-z0-9-]+", line).group() for lines in EXTRAS.values() for line in lines}
    assert wanted - pinned == apart


def test_the_simulator_leaves_an_installed_mujoco_3_alone():
    # mujoco-core overwrites the files of a mujoco before 4.
    assert EXTRAS["sim"] == ["mujoco>=3.10"]
