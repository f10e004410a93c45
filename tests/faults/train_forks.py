"""Training processes that can be killed by the dozen: forked from one that has done the imports already.

`Nursery` starts this file as a process of its own, which has no threads when it forks. What a child does wrong on
purpose is the name of one of the functions in `train_faults`.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


@dataclass
class Child:
    """A `robointer train` under way; `output` is what it has said."""

    nursery: Nursery
    pid: int
    file: Path
    code: int | None = None

    def poll(self) -> int | None:
        """The exit code, -9 after SIGKILL; None while it runs."""
        if self.code is None:
            self.code = self.nursery.ask("poll", pid=self.pid)
        return self.code

    def wait(self, seconds: float = 120) -> int:
        end = time.monotonic() + seconds
        while self.poll() is None:
            if time.monotonic() > end:
                self.kill()
                raise AssertionError(f"not ended after {seconds} seconds: {self.output}")
            time.sleep(0.01)
        assert self.code is not None
        return self.code

    def signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        self.wait()

    @property
    def output(self) -> str:
        return " ".join(self.file.read_text(errors="replace").split())


@dataclass
class Nursery:
    """The process that forks the others."""

    folder: Path
    process: subprocess.Popen[str] = field(init=False)
    started: int = 0

    def __post_init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "train_forks.py")],
            env={**os.environ, **ENVIRONMENT},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, what: str, **about: Any) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"what": what, **about}) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def start(self, arguments: list[str], fault: str = "", **variables: str) -> Child:
        """Fork one; `fault` is `name:argument` of a function in `train_faults`."""
        self.started += 1
        file = self.folder / f"{self.started}.out"
        pid = self.ask("start", arguments=arguments, fault=fault, variables=variables, file=str(file))
        return Child(self, pid, file)

    def start_ranks(self, arguments: list[str], faults: tuple[str, ...] = ("", "")) -> list[Child]:
        """One process per fault, joined over gloo."""
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            port = str(listener.getsockname()[1])
        world = str(len(faults))
        common = {"WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        return [
            self.start(arguments, fault, RANK=str(rank), LOCAL_RANK=str(rank), ACCELERATE_USE_CPU="true", **common)
            for rank, fault in enumerate(faults)
        ]

    def close(self) -> None:
        self.process.communicate(timeout=30)


def _child(asked: dict[str, Any]) -> None:
    """Never returns."""
    code = 1
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.environ.update(asked["variables"])
        output = os.open(asked["file"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        for descriptor in (1, 2):
            os.dup2(output, descriptor)
        os.close(0)
        import train_faults  # noqa: PLC0415

        from robointervlm.cli.main import run  # noqa: PLC0415

        name, _, argument = asked["fault"].partition(":")
        if name:
            getattr(train_faults, name)(argument)
        code = run(["train", *asked["arguments"]])
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _serve() -> None:
    sys.path.insert(0, str(HERE))
    import torch  # noqa: PLC0415
    import train_faults  # noqa: F401, PLC0415

    import robointervlm.cli.main  # noqa: PLC0415
    import robointervlm.cli.train  # noqa: PLC0415
    import robointervlm.train.run  # noqa: F401, PLC0415

    torch.set_num_threads(1)
    for line in sys.stdin:
        asked = json.loads(line)
        if asked["what"] == "start":
            if not (pid := os.fork()):
                _child(asked)
            answer: object = pid
        else:
            ended, status = os.waitpid(asked["pid"], os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if ended else None
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _serve()
