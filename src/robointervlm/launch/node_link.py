"""What the launchers of several machines tell each other: with which exit code the processes of each ended.

Without it the machines whose processes are well wait for those of another until the collective times out, and know no
reason. Node 0 listens on the port after the run's own; what it hears it passes on. A message is a line, "node code".
"""

from __future__ import annotations

import contextlib
import re
import socket
import time
from types import TracebackType
from typing import Self

from robointervlm.core.errors import ExitCode, RecipeError
from robointervlm.launch.cluster import Node

# A machine that lost its power says nothing; it counts as gone after about a minute without an answer.
_KEEPALIVE = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}
_HELLO = -1
_LONGEST_LINE = 32


class _Peer:
    """A connection to another launcher. `node` is None until it has said which it is."""

    def __init__(self, connection: socket.socket, node: int | None = None) -> None:
        connection.settimeout(0)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEPALIVE.items():
            if (option := getattr(socket, name, None)) is not None:
                connection.setsockopt(socket.IPPROTO_TCP, option, value)
        self.connection, self.node, self._pending = connection, node, b""

    def lines(self) -> list[str] | None:
        """The lines that have come since; None if the connection has ended."""
        try:
            received = self.connection.recv(4096)
        except BlockingIOError:
            return []
        except OSError:
            return None
        *lines, self._pending = (self._pending + received).split(b"\n")
        return None if not received or len(self._pending) > _LONGEST_LINE else [line.decode("latin1") for line in lines]

    def send(self, node: int, code: int) -> None:
        with contextlib.suppress(OSError):  # that it is gone is noticed when it is read
            self.connection.send(f"{node} {code}\n".encode("ascii"))


class NodeLink:
    """The launchers of a run's machines, connected for as long as the block lasts. `codes` is what is known so far."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._peers: list[_Peer] = []
        self._listener: socket.socket | None = None
        self.codes: dict[int, int] = {}

    def __enter__(self) -> Self:
        if self._node.rank == 0:
            # The others may know this machine by any of its names; only a run within one machine stays inside it.
            local = self._node.host in ("localhost", "127.0.0.1")
            try:
                self._listener = socket.create_server(("127.0.0.1" if local else "", self._node.port + 1))
            except OSError as error:
                raise RecipeError(
                    f"port {self._node.port + 1} cannot be listened on: {error}. Choose another port; "
                    "the one given and the next are used."
                ) from None
            self._listener.settimeout(0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for peer in self._peers:
            peer.connection.close()
        if self._listener is not None:
            self._listener.close()

    def tell(self, code: int) -> None:
        """The processes here have ended with this exit code."""
        self._learn(self._node.rank, code)

    def poll(self) -> None:
        """Take in what has come, without waiting."""
        self._connect()
        for peer in list(self._peers):
            if (lines := peer.lines()) is None:
                self._drop(peer)
                continue
            for line in lines:
                self._heard(peer, line)

    def wait(self) -> None:
        """Wait until every machine has told its code; once one has failed, at most half a minute."""
        end = float("inf")
        while len(self.codes) < self._node.machines and time.monotonic() < end:
            self.poll()
            if any(self.codes.values()):
                end = min(end, time.monotonic() + 30)
            time.sleep(0.05)

    def _connect(self) -> None:
        if self._listener is not None:
            with contextlib.suppress(BlockingIOError):
                while True:
                    self._peers.append(_Peer(self._listener.accept()[0]))
        elif not self._peers and 0 not in self.codes:
            with contextlib.suppress(OSError):  # it may not listen yet
                peer = _Peer(socket.create_connection((self._node.host, self._node.port + 1), timeout=1), node=0)
                peer.send(self._node.rank, self.codes.get(self._node.rank, _HELLO))
                self._peers.append(peer)

    def _heard(self, peer: _Peer, line: str) -> None:
        found = re.fullmatch(r"(\d{1,6}) (-1|\d{1,3})", line)
        node, code = (int(found[1]), int(found[2])) if found else (self._node.machines, _HELLO)
        if node >= self._node.machines or (self._listener is not None and peer.node not in (None, node)):
            peer.node = None
            self._drop(peer)
            return
        if peer.node is None:
            peer.node = node
            for known, told in self.codes.items():
                peer.send(known, told)
        if code != _HELLO:
            self._learn(node, code)

    def _learn(self, node: int, code: int) -> None:
        if node in self.codes:
            return
        self.codes[node] = code
        for peer in self._peers:
            if peer.node is not None and peer.node != node and (self._listener or node == self._node.rank):
                peer.send(node, code)

    def _drop(self, peer: _Peer) -> None:
        peer.connection.close()
        if peer in self._peers:
            self._peers.remove(peer)
        if peer.node is not None:
            self._learn(peer.node, ExitCode.STOPPED)  # gone without a word
