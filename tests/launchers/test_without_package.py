"""The documented scripts under a Python without `robointervlm`: one line that says what to install, exit code 2."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from scripted_benchmark import ROOT

FOLDERS = ("data_process", "eval", "qwen-vl-finetune")
SCRIPTS = sorted(str(path.relative_to(ROOT)) for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
# Isolated from the environment's packages and from PYTHONPATH: only the standard library is there.
BARE = (sys.executable, "-I", "-S")
REMEDY = f"run `make setup` in {ROOT} and use its .venv/bin/python, or run `pip install -e '.[train]'` there"


def bare(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*BARE, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_says_in_one_line_what_to_install(script):
    done = bare(script, "--help")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith(f"error: robointervlm is not installed in {sys.executable}: ")
    assert REMEDY in done.stderr


def test_there_are_scripts_to_try():
    assert len(SCRIPTS) >= 16


def test_what_imports_a_module_of_the_scripts_gets_the_same_words_as_an_error():
    code = "import sys; sys.path.insert(0, 'eval/utils'); import metrics"
    done = bare("-c", code)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("ModuleNotFoundError: robointervlm is not installed in ")


def test_a_package_of_which_a_part_is_missing_names_the_part():
    script = "eval/benchmark/eval_manip/evaluation_intermediate.py"
    done = bare("-c", f"import runpy, sys; sys.path.insert(0, 'src'); runpy.run_path({script!r}, run_name='__main__')")
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: numpy is not installed in {sys.executable}: ")


@pytest.mark.parametrize(
    "script, environment",
    [
        ("eval/benchmark/eval_manip/scripts/eval.sh", {"MODEL_PATHS": "m", "JSON_PATHS": "q.json", "IMAGE_DIRS": "i"}),
        ("eval/benchmark/eval_llava_format/run_eval.sh", {"ROOT": "predictions", "MODEL": "m"}),
        ("eval/benchmark/eval_vlmevalkit/eval_all.sh", {"MODEL_PATHS": "m", "VLMEVALKIT_PYTHON": sys.executable}),
        ("qwen-vl-finetune/scripts/sft.sh", {"PRETRAIN_MODEL": "m", "GPUS": "0"}),
    ],
)
def test_a_shell_script_says_so_too(tmp_path: Path, script, environment):
    python = tmp_path / "python3"
    python.write_text(f'#!/bin/sh\nexec {" ".join(BARE)} "$@"\n')
    python.chmod(0o755)
    values = {"ROBOINTER_PYTHON": str(python), "OUTPUT_DIR": str(tmp_path / "out"), "LOG_DIR": str(tmp_path / "logs")}
    done = subprocess.run(
        ["bash", str(ROOT / script)],
        cwd=tmp_path,
        env={**os.environ, **values, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert REMEDY in done.stderr
    assert "Traceback" not in done.stderr
