"""What launchers tell each other, over the loopback."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from robointervlm.core.errors import RecipeError
from robointervlm.launch import node_store
from robointervlm.launch.cluster import Node
from robointervlm.launch.node_store import NodeStore
from robointervlm.launch.processes import worst


def port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_failure_on_one_node_is_known_on_all():
    where = port()
    first, second, third = (NodeStore(Node(rank, 3, "127.0.0.1", where)) for rank in range(3))
    with second:
        second.tell(3)  # nobody listens yet
        with first, third:
            until(lambda: first.codes() == third.codes() == {1: 3})


def test_node_0_ends_once_the_others_have_read_how_it_ended():
    where = port()
    with NodeStore(Node(1, 2, "127.0.0.1", where)) as second:
        with NodeStore(Node(0, 2, "127.0.0.1", where)) as first:
            second.tell(0)
            first.tell(3)
            first.wait()
            assert first.codes() == {0: 3, 1: 0}
        second.wait()
        assert second.codes() == {0: 3, 1: 0}


# Runs until it is killed, and so ends without a word.
LAUNCHER = """
import sys, time
from robointervlm.launch.cluster import Node
from robointervlm.launch.node_store import NodeStore
with NodeStore(Node(int(sys.argv[1]), 2, "127.0.0.1", int(sys.argv[2]))):
    time.sleep(600)
"""


# A machine that is stopped answers no call to its store, as one without power.
@pytest.mark.parametrize("gone, how", [(0, signal.SIGKILL), (0, signal.SIGSTOP), (1, signal.SIGSTOP)])
def test_a_node_that_goes_without_a_word_may_be_run_again(monkeypatch, gone, how):
    monkeypatch.setattr(node_store, "_SILENT", 3.0)
    where = port()
    other = subprocess.Popen([sys.executable, "-c", LAUNCHER, str(gone), str(where)])
    try:
        with NodeStore(Node(1 - gone, 2, "127.0.0.1", where)) as store:
            until(lambda: gone in store._beats)
            assert store.codes() == {}
            other.send_signal(how)
            until(lambda: store.codes() == {gone: 75})
    finally:
        other.kill()
        other.wait()


def test_a_stranger_on_the_port_changes_nothing():
    where = port()
    first, second = (NodeStore(Node(rank, 2, "127.0.0.1", where)) for rank in range(2))
    with first:
        for noise in (b"GET / HTTP/1.1\r\n\r\n", b"9 3\n", b"\xff" * 100):
            with socket.create_connection(("127.0.0.1", where + 1)) as stranger:
                stranger.sendall(noise)
        with second:
            second.tell(0)
            until(lambda: first.codes() == {1: 0})


def test_a_port_that_is_taken_is_one_line():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        where = int(taken.getsockname()[1]) - 1
        with pytest.raises(RecipeError, match=rf"^port {where + 1} cannot be listened on: "):
            NodeStore(Node(0, 2, "127.0.0.1", where)).__enter__()


@pytest.mark.parametrize("codes, told", [([0, 75, 3], 3), ([75, 1], 1), ([1, 137], 137), ([75, 0], 75), ([0, 0], 0)])
def test_a_failure_of_its_own_tells_more_than_a_lost_process(codes, told):
    assert worst(codes) == told
