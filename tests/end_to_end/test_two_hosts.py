"""Two hosts, each in a network namespace of its own, train together and serve as one Ray cluster."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from scripted_benchmark import COMMAND, make_benchmark
from tiny_models import box_dataset, losses, train_arguments
from two_hosts import Host, two_hosts

pytestmark = pytest.mark.slow

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "RAY_USAGE_STATS_ENABLED": "0"}
# Ray's users share a token where it finds one; ours have their own, whatever is in the home folder.
ENVIRONMENT |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(16)}
STEPS = ["run.save_every=2", "batch.accumulate=1"]


@pytest.fixture(scope="module")
def hosts():
    with two_hosts() as both:
        yield both


def started(host: Host | None, *arguments: str) -> subprocess.Popen[str]:
    command = [*COMMAND, *arguments]
    return subprocess.Popen(
        command if host is None else host.command(command),
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(*processes: subprocess.Popen[str], seconds: float = 300) -> list[tuple[int, str]]:
    try:
        errors = [process.communicate(timeout=seconds)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [(process.returncode, error) for process, error in zip(processes, errors, strict=True)]


def on_both(hosts: Sequence[Host], *arguments: str) -> list[subprocess.Popen[str]]:
    flags = ["--gpus", "0", "--processes", "1", "--nodes", "2", "--master", f"{hosts[0].address}:29500"]
    return [started(host, *arguments, *flags, "--node-rank", str(rank)) for rank, host in enumerate(hosts)]


def wait_for_step(run: Path, step: int) -> None:
    end = time.monotonic() + 200
    while not (run / "metrics.jsonl").is_file() or max(losses(run), default=0) < step:
        assert time.monotonic() < end, f"step {step} was not reached"
        time.sleep(0.05)


def test_a_lost_host_ends_the_other_and_the_same_command_gives_the_run_of_one_host(hosts, tiny_folder, tmp_path):
    catalog = box_dataset(tmp_path / "data")

    def command(name: str) -> list[str]:
        return ["train", *train_arguments(tiny_folder, catalog, tmp_path / name, "run.max_steps=40", *STEPS)]

    [(code, error)] = ended(started(None, *command("one"), "--gpus", "0", "--processes", "2"))
    assert code == 0, error
    running = on_both(hosts, *command("two"))
    wait_for_step(tmp_path / "two", 4)
    hosts[1].kill()
    (code, error), (lost, _) = ended(*running)
    assert (code, lost) == (75, -signal.SIGKILL), error
    assert "rank 0/2: lost connection to another rank" in error
    assert "Traceback" not in error
    assert max(losses(tmp_path / "two")) < 40
    for code, error in ended(*on_both(hosts, *command("two"))):
        assert code == 0, error
    assert losses(tmp_path / "two") == losses(tmp_path / "one")


@pytest.fixture
def cluster(hosts, tmp_path):
    """The address of a Ray cluster: a head that does no tasks, and the second host with two processors."""
    pytest.importorskip("ray")
    # Ray's sockets are files there, whose names may have 107 letters.
    sessions = tempfile.mkdtemp(prefix="ray")
    address = f"{hosts[0].address}:26379"
    head = ["--head", "--port=26379", "--num-cpus=0", "--include-dashboard=false", f"--temp-dir={sessions}"]
    ray = [str(Path(sys.executable).parent / "ray"), "start", "--block", "--disable-usage-stats"]
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, sessions, ignore_errors=True)
        for host, flags in zip(hosts, (head, [f"--address={address}", "--num-cpus=2"]), strict=True):
            more = [f"--node-ip-address={host.address}", "--object-store-memory=100000000", "--num-gpus=0"]
            said = tmp_path / f"{host.name}.txt"
            with said.open("w") as output:
                running = subprocess.Popen(
                    host.command([*ray, *more, *flags]), env=ENVIRONMENT, stdout=output, stderr=subprocess.STDOUT
                )
            stack.callback(running.wait)
            stack.callback(host.kill)
            end = time.monotonic() + 90
            while "Ray runtime started" not in said.read_text():
                assert time.monotonic() < end, said.read_text()
                time.sleep(0.1)
        yield address


def test_what_the_second_host_builds_and_answers_is_what_one_process_does(hosts, cluster, tmp_path):
    pytest.importorskip("mujoco")
    benchmark = make_benchmark(tmp_path, count=20)
    build = ["data", "build", "--source", "sim", "--episodes", "3", "--val-episodes", "1", "--seed", "5", "--out"]
    commands = {
        "built": (*build, str(tmp_path / "built")),
        "built-there": (*build, str(tmp_path / "built-there"), "--ray", cluster),
        "asked": ("predict", *benchmark.options(tmp_path / "asked")),
        "asked-there": (
            *("predict", *benchmark.options(tmp_path / "asked-there")),
            *("--ray", cluster, "--processes", "2"),
        ),
    }
    for name, command in commands.items():
        [(code, error)] = ended(started(hosts[0] if name.endswith("there") else None, *command))
        assert code == 0, (name, error)
    ours, theirs = (
        {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}
        for root in (tmp_path / "built", tmp_path / "built-there")
    )
    assert ours == theirs
    for name in ("report.json", "samples.jsonl"):
        assert (tmp_path / "asked-there" / name).read_bytes() == (tmp_path / "asked" / name).read_bytes()
