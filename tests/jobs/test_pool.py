"""Processes of this machine do every job once, cost no other when they die, and end with the one who asked."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path

import pytest
from pool_jobs import divide_by, end_at_first, exit_at_odd, fail_at_two, say_pid_and_wait, say_variable, touch

from robointervlm.core.errors import DataError
from robointervlm.jobs.pool import run_in_processes
from robointervlm.runs.signals import StopRequested, stopping_on_signals


def run(work, jobs, processes=2, *, told=lambda _: None, died=lambda *_: pytest.fail("died"), variables=lambda _: {}):
    run_in_processes(work, jobs, processes, told=told, died=died, variables=variables)


def until(condition) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def pids(folder: Path) -> list[int]:
    return [int(file.read_text() or 0) for file in folder.glob("[12]")]


def test_every_job_is_done_and_told_of_once(tmp_path):
    jobs, told = [tmp_path / str(number) for number in range(9)], []
    run(touch, jobs, told=told.extend)
    assert sorted(told) == sorted(tmp_path.iterdir()) == jobs


def test_a_job_is_taken_when_it_is_begun(tmp_path):
    taken = []

    def jobs():
        for number in range(50):
            taken.append(number)
            assert number - len(list(tmp_path.iterdir())) <= 2  # those that are done have left a file
            yield tmp_path / str(number)

    run(touch, jobs())
    assert taken == list(range(50))


def test_nothing_to_do_starts_nothing():
    run(touch, [])


def test_an_error_of_a_job_is_raised():
    with pytest.raises(DataError, match="number 2 is odd"):
        run(fail_at_two, range(9))


def test_a_bug_in_a_job_is_raised_with_the_place_where_it_is():
    with pytest.raises(ZeroDivisionError) as raised:
        run(divide_by, [0])
    assert "in divide_by" in "".join(traceback.format_exception(raised.value))


def test_a_process_that_dies_costs_no_other_job():
    died, told = [], []
    run(exit_at_odd, range(6), died=lambda job, code: died.append((job, code)), told=told.extend)
    assert sorted(died) == [(1, 9), (3, 9), (5, 9)]
    assert sorted(told) == [0, 2, 4]


def test_a_job_that_may_be_done_again_is(tmp_path):
    died = []
    run(end_at_first, [tmp_path / "a", tmp_path / "b"], died=lambda _, code: died.append(code) or True)
    assert died == [-signal.SIGKILL] * 2
    assert (tmp_path / "a").exists()
    assert (tmp_path / "b").exists()


def test_a_process_has_the_variables_of_its_job_and_we_keep_ours(tmp_path, monkeypatch):
    monkeypatch.setenv("OF_THIS_PROCESS", "ours")
    files = [tmp_path / "1", tmp_path / "2"]
    run(say_variable, files, variables=lambda file: {"OF_THIS_PROCESS": file.name, "NOT_SET_HERE": "1"})
    assert [file.read_text() for file in files] == ["1", "2"]
    assert os.environ["OF_THIS_PROCESS"] == "ours"
    assert "NOT_SET_HERE" not in os.environ


def test_a_signal_ends_the_processes_before_it_is_raised(tmp_path):
    def stop() -> None:
        until(lambda: len(pids(tmp_path)) == 2 and all(pids(tmp_path)))
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=stop)
    with stopping_on_signals():
        thread.start()
        with pytest.raises(StopRequested):
            run(say_pid_and_wait, [tmp_path / "1", tmp_path / "2"])
    thread.join()
    for pid in pids(tmp_path):
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process of its parent's end")
def test_the_processes_of_one_that_is_killed_end(tmp_path):
    code = """
import sys
from pathlib import Path
from pool_jobs import say_pid_and_wait
from robointervlm.jobs.pool import run_in_processes
if __name__ == "__main__":
    jobs = [Path(sys.argv[1]) / "1", Path(sys.argv[1]) / "2"]
    run_in_processes(say_pid_and_wait, jobs, 2, told=len, died=print, variables=lambda _: {})
"""
    (tmp_path / "script.py").write_text(code)
    paths = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, tmp_path / "script.py", tmp_path]
    with subprocess.Popen(command, env={**os.environ, "PYTHONPATH": paths}) as parent:
        until(lambda: len(pids(tmp_path)) == 2 and all(pids(tmp_path)))
        parent.kill()
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids(tmp_path)))
