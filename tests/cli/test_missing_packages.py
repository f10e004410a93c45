"""A package that is not installed is one line that says what to install, for every extra of pyproject.toml."""

from __future__ import annotations

import ast
import re
import sys
import tomllib

import pytest

from robointervlm.cli.main import _BROUGHT, explained
from scripted_benchmark import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# Modules by their distributions, where the names differ.
MODULES = {"mujoco-core": "mujoco", "pillow": "PIL", "pyyaml": "yaml"}
# What a command looks for itself, and goes on without or says so.
LOOKED_FOR = {"liger_kernel"}


def modules(requirements: list[str]) -> set[str]:
    names = [re.split(r"[\[<>=!~; ]", requirement, maxsplit=1)[0] for requirement in requirements]
    return {MODULES.get(name, name.replace("-", "_")) for name in names}


def test_the_extras_are_those_of_the_project():
    assert set(_BROUGHT) - {""} == set(PROJECT["optional-dependencies"])


@pytest.mark.parametrize("extra", PROJECT["optional-dependencies"])
def test_every_package_of_an_extra_is_known_by_it(extra):
    assert modules(PROJECT["optional-dependencies"][extra]) <= set(_BROUGHT[extra])


def test_every_package_that_is_always_there_is_known():
    assert modules(PROJECT["dependencies"]) <= set(_BROUGHT[""])


def test_every_package_that_the_source_imports_is_known():
    known = {module for brought in _BROUGHT.values() for module in brought}
    found = set()
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                found.add(str(node.module).partition(".")[0])
    assert found - set(sys.stdlib_module_names) - {"robointervlm"} - LOOKED_FOR <= known


@pytest.mark.parametrize(
    "missing, remedy",
    [
        ("torch", "pip install 'robointervlm[train]', or pip install -e '.[train]' in a checkout."),
        ("peft.tuners", "pip install 'robointervlm[train]'"),
        ("deepspeed", "pip install 'robointervlm[scale]'"),
        ("mujoco", "pip install 'robointervlm[sim]'"),
        ("httpx2", "pip install 'robointervlm[api]'"),
        ("fastapi", "pip install 'robointervlm[serve]'"),
        ("av", "pip install 'robointervlm[lerobot]'"),
        ("pyarrow.parquet", "pip install 'robointervlm[tables]'"),
        ("ray", "pip install 'robointervlm[ray]'"),
        ("gradio", "pip install 'robointervlm[ui]'"),
        ("numpy", "pip install 'robointervlm', or pip install -e '.' in a checkout."),
        ("wandb", "usually `pip install wandb`."),
    ],
)
def test_a_missing_package_is_one_line_with_its_remedy(missing, remedy, capsys):
    assert explained(ModuleNotFoundError(f"No module named {missing!r}", name=missing)) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: {missing} is not installed, and this command needs it: ")
    assert remedy in said
    assert said.count("\n") == 1


def test_a_module_of_our_own_that_is_missing_is_a_bug(capsys):
    assert explained(ModuleNotFoundError("No module named 'robointervlm.x'", name="robointervlm.x")) == 1
    assert "This is a bug" in capsys.readouterr().err
