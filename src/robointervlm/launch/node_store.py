"""Where the launchers of several machines leave exit codes and heart beats: torch's TCPStore, hosted by node 0.

Without it the machines whose processes are well wait for those of another until the collective times out, and know no
reason. It is the store of a c10d rendezvous, on the port after the run's own, without torchrun's elastic agent, which
would put the code 1 and a page of text in the place of our exit codes and messages.
"""

from __future__ import annotations

import socket
import threading
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

from robointervlm.core.errors import ExitCode, RecipeError
from robointervlm.launch.cluster import Node

if TYPE_CHECKING:
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

# Seconds between two heart beats; how long a machine may be silent, and how long once the run has failed anyhow.
_BEAT, _SILENT, _SILENT_AFTER_FAILURE = 0.5, 45.0, 10.0
# How long to wait for the codes of the others once one has failed, and for them to have read all codes, in seconds.
_FOR_CODES, _FOR_READERS = 30.0, 10.0


class NodeStore:
    """The launchers of a run's machines, in touch for as long as the block lasts.

    A thread talks to the store: torch takes seconds to import, and a call to a machine that lost its power never
    returns. A node is gone, too, once its beat has stood still for `_SILENT` seconds of this machine's clock.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._listener: socket.socket | None = None
        self._told: dict[int, int] = {}
        self._beats: dict[int, tuple[int, float]] = {}  # the last count of each node that has been seen, and since when
        self._readers: set[int] = set()  # the nodes that know all codes
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._talk, daemon=True)

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
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        self._thread.join(timeout=5)
        if self._listener is not None:
            self._listener.close()

    def tell(self, code: int) -> None:
        """The processes here have ended with this exit code."""
        self._told.setdefault(self._node.rank, code)

    def codes(self) -> dict[int, int]:
        """The exit codes that are known so far, by node; a node that is gone without a word may be run again."""
        told, now = dict(self._told), time.monotonic()
        patience = _SILENT_AFTER_FAILURE if told.get(self._node.rank) else _SILENT
        gone = [node for node, (_, since) in list(self._beats.items()) if now - since > patience]
        return dict.fromkeys(gone, int(ExitCode.STOPPED)) | told

    def wait(self) -> None:
        """Wait until every machine has told its code; once one has failed, at most half a minute."""
        end = float("inf")
        while len(codes := self.codes()) < self._node.machines and time.monotonic() < end:
            if any(codes.values()):
                end = min(end, time.monotonic() + _FOR_CODES)
            time.sleep(0.05)
        if self._node.rank == 0:  # the store ends with us: the others read first
            end, others = time.monotonic() + _FOR_READERS, set(self._told) - {0}
            while not others <= self._readers and time.monotonic() < end:
                time.sleep(0.05)

    def _talk(self) -> None:
        try:
            store = self._connect()
            while store is not None and not self._exchange(store):
                if self._closing.wait(_BEAT):
                    self._exchange(store)
                    return
        except RuntimeError:  # torch's errors of a store whose other end is gone
            self._told.setdefault(0, ExitCode.STOPPED)

    def _connect(self) -> TCPStore | None:
        """The store, once node 0 listens; None if the run is over before."""
        while self._listener is None:
            try:  # torch would complain of each try in the log
                socket.create_connection((self._node.host, self._node.port + 1), timeout=1).close()
                break
            except OSError:
                if self._closing.wait(_BEAT):
                    return None
        from torch.distributed import TCPStore  # type: ignore[attr-defined]

        host, port = self._node.host, self._node.port + 1
        if self._listener is None:
            return TCPStore(host, port, is_master=False, wait_for_workers=False)
        # The store closes what it is given.
        own = self._listener.detach()
        return TCPStore("127.0.0.1", port, is_master=True, wait_for_workers=False, master_listen_fd=own)

    def _exchange(self, store: TCPStore) -> bool:
        """Leave what is known here, and take in what the others have left; True once all know all codes."""
        own = self._node.rank
        store.add(f"beat/{own}", 1)
        if own in self._told and not store.check([f"code/{own}"]):
            store.set(f"code/{own}", str(self._told[own]))
        for node in set(range(self._node.machines)) - {own}:
            beat = store.add(f"beat/{node}", 0)
            if beat and beat != self._beats.get(node, (0, 0.0))[0]:
                self._beats[node] = beat, time.monotonic()
            if node not in self._told and store.check([f"code/{node}"]):
                self._told[node] = int(store.get(f"code/{node}"))
            if own == 0 and store.check([f"read/{node}"]):
                self._readers.add(node)
        known = len(self._told) == self._node.machines
        if known or self._closing.is_set():
            store.set(f"read/{own}", "")
        return known and (own != 0 or len(self._readers) == self._node.machines - 1)
