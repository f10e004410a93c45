"""Training on several "machines": launchers on this one, told apart by flags or by Slurm's variables."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tiny_models import box_dataset, losses, train_arguments

pytestmark = pytest.mark.slow

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def free_port() -> int:
    """A port that is free now, as is most likely the one after it, which is used too."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def started(*arguments: str, **variables: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "robointervlm.cli", "train", *arguments],
        env=ENVIRONMENT | variables,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def nodes(*arguments: str, count: int = 2) -> list[subprocess.Popen[str]]:
    master = f"127.0.0.1:{free_port()}"
    flags = ["--nodes", str(count), "--master", master]
    return [started(*arguments, *flags, "--node-rank", str(rank)) for rank in range(count)]


def ended(processes: list[subprocess.Popen[str]], seconds: float = 300) -> list[tuple[int, str]]:
    try:
        errors = [process.communicate(timeout=seconds)[1] for process in processes]
        return [(process.returncode, error) for process, error in zip(processes, errors, strict=True)]
    finally:
        for process in processes:
            process.kill()


@pytest.fixture(scope="module")
def run_of_two(tiny_folder, tmp_path_factory):
    """What a run needs, and the losses of two processes that one launcher started."""
    folder = tmp_path_factory.mktemp("two")
    catalog = box_dataset(folder / "data", wordy=4)
    arguments = (tiny_folder, catalog), ("run.max_steps=3", "batch.per_device=1")
    alone = started(*train_arguments(*arguments[0], folder / "run", *arguments[1]), "--processes", "2")
    [(code, error)] = ended([alone])
    assert code == 0, error
    return *arguments, losses(folder / "run")


def test_two_nodes_train_as_two_processes_on_one(run_of_two, tmp_path):
    needed, more, expected = run_of_two
    for code, error in ended(nodes(*train_arguments(*needed, tmp_path, *more))):
        assert code == 0, error
    assert losses(tmp_path) == expected


def test_tasks_of_slurm_are_the_processes(run_of_two, tmp_path):
    needed, more, expected = run_of_two
    job = {"SLURM_JOB_ID": str(free_port() // 2), "SLURM_STEP_ID": "0", "SLURM_NTASKS": "2"}
    job |= {"SLURM_JOB_NODELIST": "127.0.0.1", "SLURM_NNODES": "1", "SLURM_TASKS_PER_NODE": "2", "SLURM_NODEID": "0"}
    arguments = train_arguments(*needed, tmp_path, *more)
    for code, error in ended(
        [started(*arguments, SLURM_PROCID=str(rank), SLURM_LOCALID=str(rank), **job) for rank in range(2)]
    ):
        assert code == 0, error
    assert losses(tmp_path) == expected


def wait_for_step(run: Path, step: int) -> None:
    end = time.monotonic() + 240
    while time.monotonic() < end:
        if (metrics := run / "metrics.jsonl").is_file() and metrics.read_text().count("\n") >= step:
            return
        time.sleep(0.02)
    pytest.fail(f"step {step} was not reached")


def children_of(process: subprocess.Popen[str]) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


def test_a_killed_process_on_one_node_ends_the_other(tiny_folder, tmp_path):
    catalog = box_dataset(tmp_path / "data")
    running = nodes(*train_arguments(tiny_folder, catalog, tmp_path / "run", "run.max_steps=500"))
    wait_for_step(tmp_path / "run", 2)
    os.kill(children_of(running[1])[0], signal.SIGKILL)
    (code, error), (other_code, _) = ended(running)
    assert (code, other_code) == (137, 137)
    assert "the processes on node 1 ended with exit code 137" in error
    assert "Traceback" not in error


def test_a_node_that_is_gone_ends_the_other_which_may_be_run_again(tiny_folder, tmp_path):
    catalog = box_dataset(tmp_path / "data")
    running = nodes(*train_arguments(tiny_folder, catalog, tmp_path / "run", "run.max_steps=500"))
    wait_for_step(tmp_path / "run", 2)
    orphans = children_of(running[1])
    running[1].kill()
    for pid in orphans:
        os.kill(pid, signal.SIGKILL)
    code, error = ended(running)[0]
    assert code == 75, error
    assert "rank 0/2: lost connection to another rank" in error


def test_sigterm_at_one_node_saves_and_ends_both(tiny_folder, tmp_path):
    catalog = box_dataset(tmp_path / "data")
    arguments = train_arguments(tiny_folder, catalog, tmp_path / "run", "run.max_steps=500")
    running = nodes(*arguments)
    wait_for_step(tmp_path / "run", 2)
    # Slurm may send it to a task directly and through srun.
    running[1].send_signal(signal.SIGTERM)
    running[1].send_signal(signal.SIGTERM)
    done = ended(running)
    assert [code for code, _ in done] == [75, 75], done
    stopped = max(losses(tmp_path / "run"))
    assert (tmp_path / "run" / "checkpoints" / f"step-{stopped:08d}").is_dir()
