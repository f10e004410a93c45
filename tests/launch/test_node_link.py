"""What launchers tell each other, over the loopback."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

import pytest

from robointervlm.launch.cluster import Node
from robointervlm.launch.node_link import NodeLink
from robointervlm.launch.processes import worst


def port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def until(true: Callable[[], bool], *links: NodeLink) -> None:
    end = time.monotonic() + 30
    while not true():
        assert time.monotonic() < end
        for link in links:
            link.poll()


def hung_up(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False


def test_a_failure_on_one_node_is_known_on_all():
    where = port()
    first, second, third = (NodeLink(Node(rank, 3, "127.0.0.1", where)) for rank in range(3))
    with second, first, third:
        second.poll()  # nobody listens yet
        second.tell(3)
        until(lambda: first.codes == third.codes == {1: 3}, first, second, third)


def test_a_node_that_goes_without_a_word_may_be_run_again():
    where = port()
    with NodeLink(Node(0, 2, "127.0.0.1", where)) as first:
        with NodeLink(Node(1, 2, "127.0.0.1", where)) as second:
            until(lambda: any(peer.node == 1 for peer in first._peers), first, second)
        until(lambda: first.codes == {1: 75}, first)


@pytest.mark.parametrize("noise", [b"GET / HTTP/1.1\r\n", b"9 3\n", b"x" * 100, b"\xff\n"])
def test_a_stranger_on_the_port_changes_nothing(noise):
    where = port()
    with NodeLink(Node(0, 2, "127.0.0.1", where)) as first:
        first.poll()
        with socket.create_connection(("127.0.0.1", where + 1)) as stranger:
            stranger.sendall(noise)
            stranger.settimeout(0.05)
            until(lambda: hung_up(stranger), first)
        assert first.codes == {}


@pytest.mark.parametrize("codes, told", [([0, 75, 3], 3), ([75, 1], 1), ([1, 137], 137), ([75, 0], 75), ([0, 0], 0)])
def test_a_failure_of_its_own_tells_more_than_a_lost_process(codes, told):
    assert worst(codes) == told
