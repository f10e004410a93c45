"""The training benchmark's own two sides run, do the same work, and its counts are right."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def flops(monkeypatch):
    # The benchmarks are scripts in a folder, not a package.
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("training_flops")


@pytest.fixture
def released(flops):
    return importlib.import_module("models_for_speed").SHAPES["3B"]


def test_a_layer_of_the_3b_model_is_counted_as_published(flops, released):
    # A layer has 77,070,336 weights in its matrices (2,048 wide, 11,008 inside, keys and values 256 wide): two
    # operations each for a token. Two tokens see 3 keys, 4 operations for each of the 2,048 features.
    assert flops.layers(released, flops.Work([(2, 0)], [], 0)) == 36 * (2 * 2 * 77_070_336 + 4 * 2048 * 3)


def test_a_branch_sees_its_prefix(flops, released):
    alone, behind = (flops.layers(released, flops.Work([part], [], 0)) for part in ((10, 0), (10, 100)))
    assert behind - alone == 36 * 4 * 2048 * 10 * 100


@pytest.mark.slow
def test_a_quick_run_compares_our_own_two_sides(tmp_path):
    command = [sys.executable, BENCHMARKS / "training.py", "--quick", "--threads", "1", "--folder", tmp_path]
    environment = os.environ | {"PYTHONPATH": str(BENCHMARKS.parent / "src")}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert "1M, quick: 4 samples a step" in done.stdout
    # The table has a line for each of the sides; it is written only if their losses agree.
    assert [line.split()[1] for line in done.stdout.splitlines() if line.startswith(("| shared", "| none"))] == [
        "shared",
        "none",
    ]
