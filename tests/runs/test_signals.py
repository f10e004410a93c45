"""A process ends with its code, after its threads and exit functions, and not by taking torch apart."""

from __future__ import annotations

import subprocess
import sys

import pytest

# The object in `sys` is alive until the interpreter is taken apart.
PROGRAM = """
import atexit, sys, threading, time
from robointervlm.runs.signals import ending

class Kept:
    def __del__(self, write=sys.stderr.write):
        write("taken apart ")

def late():
    time.sleep(0.2)
    sys.stderr.write("thread ")

def run():
    {imported}
    sys.kept = Kept()
    threading.Thread(target=late).start()
    atexit.register(sys.stderr.write, "exit function ")
    sys.stdout.write("not flushed")
    return {code}

ending(run)
"""


@pytest.mark.parametrize("code", [0, 75])
@pytest.mark.parametrize(
    "imported, said", [("import torch", "thread exit function "), ("pass", "thread exit function taken apart ")]
)
def test_threads_and_exit_functions_are_waited_for_and_torch_is_not_taken_apart(imported, said, code):
    program = PROGRAM.format(imported=imported, code=code)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (code, "not flushed", said)


def test_an_exception_ends_it_as_always():
    program = PROGRAM.format(imported="import torch", code="1 / 0")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr
    assert "taken apart" in done.stderr
