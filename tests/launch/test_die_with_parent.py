"""A dying_with_parent child is the command itself, and is gone when its parent is."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from robointervlm.launch import die_with_parent as leash
from robointervlm.launch.die_with_parent import dying_with_parent

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process of its parent's end")

PARENT = """
import subprocess, sys, time
from robointervlm.launch.die_with_parent import dying_with_parent
command = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)"]
child = subprocess.Popen(dying_with_parent(command), process_group=0)
print(child.pid, flush=True)
time.sleep(60)
"""


def is_running(pid: int) -> bool:
    """Whether it computes or waits; a zombie that nobody has collected does neither."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@linux
def test_a_child_ends_when_its_parent_is_killed():
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        said = sorted(parent.stdout.readline().strip() for _ in range(2))
        assert said[1] == "up"
        pid = int(said[0])
        assert is_running(pid)
        parent.kill()
    end = time.monotonic() + 20
    while is_running(pid) and time.monotonic() < end:
        time.sleep(0.02)
    assert not is_running(pid)


def test_the_command_has_its_arguments_its_environment_and_its_exit_code():
    code = "import os, sys; print(*sys.argv[1:], os.environ['HERE'], os.getppid()); sys.exit(7)"
    done = subprocess.run(
        dying_with_parent([sys.executable, "-c", code, "-I", "a b"]),
        env={**os.environ, "HERE": "there"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout.split()) == (7, ["-I", "a", "b", "there", str(os.getpid())])


def test_a_command_that_is_not_there_ends_as_in_a_shell():
    done = subprocess.run(dying_with_parent(["no-such-program"]), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (127, "no-such-program: No such file or directory\n")


@linux
def test_a_child_whose_parent_is_gone_at_once_does_not_begin(tmp_path):
    # As if another process had started it and was gone: this one's number is not that of the parent.
    command = [
        sys.executable,
        "-I",
        "-S",
        leash.__file__,
        "1",
        sys.executable,
        "-c",
        f"open({str(tmp_path / 'x')!r}, 'w')",
    ]
    assert subprocess.run(command, check=False).returncode == 143
    assert not (tmp_path / "x").exists()
