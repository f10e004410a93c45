"""Starts the processes of a run on this machine, and ends them together.

Not through torchrun, which says of every failure a page and the code 1. What torchrun or Slurm has started runs as it
is.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable

from robointervlm.core.errors import ExitCode, RecipeError
from robointervlm.launch.cluster import Node
from robointervlm.launch.die_with_parent import dying_with_parent
from robointervlm.launch.node_store import NodeStore
from robointervlm.runs.signals import StopFlag, noting_signals

# How long processes may take to end by themselves once another has failed, or has stopped and saved, in seconds.
_AFTER_FAILURE, _AFTER_STOP = 10.0, 60.0


def launch(processes: int, arguments: list[str], *, on_cpu: bool, node: Node | None = None) -> int:
    """Run a `robointer` command line in several processes on this machine, one of `node.machines`; its exit code.

    That is the code of the process that failed by itself, on whichever machine: those that only lost it count less.
    """
    several = node is not None and node.machines > 1
    node = node or Node(0, 1, "127.0.0.1", _port())
    environment = {**os.environ, "WORLD_SIZE": str(node.machines * processes), "LOCAL_WORLD_SIZE": str(processes)}
    environment |= {"MASTER_ADDR": node.host, "MASTER_PORT": str(node.port)}
    if on_cpu:
        # The processes share the cores, and waiting threads must not burn them.
        environment |= {"OMP_WAIT_POLICY": "PASSIVE", "ACCELERATE_USE_CPU": "true"}
        environment["OMP_NUM_THREADS"] = os.environ.get("OMP_NUM_THREADS") or str(_threads(processes))
    command = dying_with_parent([sys.executable, "-m", "robointervlm.cli", *arguments])
    children: list[subprocess.Popen[bytes]] = []
    with contextlib.ExitStack() as stack:
        store = stack.enter_context(NodeStore(node)) if several else None
        stop = stack.enter_context(noting_signals())
        stack.callback(_signal, children, signal.SIGKILL)
        for local in range(processes):
            numbered = environment | {"RANK": str(node.rank * processes + local), "LOCAL_RANK": str(local)}
            # In a group of their own: a Ctrl-C at the terminal reaches them through us, once.
            children.append(subprocess.Popen(command, env=numbered, process_group=0))  # noqa: S603 - our own
        return _outcome(children, stop, store)


def _outcome(children: list[subprocess.Popen[bytes]], stop: StopFlag, store: NodeStore | None) -> int:
    """Wait for the processes; once one fails the others are ended, as they would wait for it forever."""
    told, end = False, float("inf")
    while any(child.poll() is None for child in children) and time.monotonic() < end:
        if stop.requested and not told:
            told = True
            _signal(children, signal.SIGTERM)
        if failed := worst([*_codes(children), *(store.codes().values() if store is not None else ())]):
            end = min(end, time.monotonic() + (_AFTER_STOP if failed == ExitCode.STOPPED else _AFTER_FAILURE))
        time.sleep(0.05)
    # What has to be killed did not fail, but waited for what did.
    waiting = [ExitCode.STOPPED for child in children if child.poll() is None]
    ours = worst([*_codes(children), *waiting])
    _signal(children, signal.SIGKILL)
    return ours if store is None else _with_others(ours, store)


def _with_others(ours: int, store: NodeStore) -> int:
    """The exit code of the run, once the other machines have told theirs."""
    store.tell(ours)
    store.wait()
    codes = store.codes()
    code = worst(codes.values())
    if code != ours:
        node = next(node for node, theirs in codes.items() if theirs == code)
        sys.stderr.write(
            f"error: the processes on node {node} ended with exit code {code}, so these were ended, too.\n"
        )
    return code


def worst(codes: Iterable[int]) -> int:
    """The code that tells most: of a failure, then of a bug, then of having stopped or lost another process, then 0."""
    given = list(codes)
    own = [code for code in given if _own_failure(code) and code != 1]
    return next(iter(own), 1 if 1 in given else ExitCode.STOPPED if ExitCode.STOPPED in given else 0)


def _own_failure(code: int) -> bool:
    return code not in (0, ExitCode.STOPPED)


def _codes(children: list[subprocess.Popen[bytes]]) -> list[int]:
    """Of those that have ended; killed by signal 9 is 137, as a shell says."""
    ended = [code for child in children if (code := child.poll()) is not None]
    return [code if code >= 0 else 128 - code for code in ended]


def _signal(children: list[subprocess.Popen[bytes]], number: int) -> None:
    for child in children:
        if child.poll() is None:
            child.send_signal(number)


def _threads(processes: int) -> int:
    """Threads for each of so many processes on the cores that we may use."""
    return max(1, len(os.sched_getaffinity(0)) // processes)


def _port() -> int:
    """MASTER_PORT if it is set, else one that is free."""
    wanted = os.environ.get("MASTER_PORT") or "0"
    if not wanted.isdigit() or int(wanted) > 65535:
        raise RecipeError(f"MASTER_PORT is '{wanted}'; a port was expected, such as 29500.")
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", int(wanted)))
        except OSError as error:
            raise RecipeError(f"MASTER_PORT={wanted} cannot be used: {error}. Unset it to have one chosen.") from None
        return int(listener.getsockname()[1])
