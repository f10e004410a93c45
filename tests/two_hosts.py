"""Two hosts on this machine, joined by a cable: network namespaces, for tests of what runs on several machines."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

# Not of the network that this machine is in: nothing outside the two namespaces can be reached from them.
ADDRESSES = "10.203.77.1", "10.203.77.2"


@dataclass(frozen=True)
class Host:
    """A network namespace with an interface `eth0`, a cable's end, at this address."""

    name: str
    address: str

    def command(self, arguments: Sequence[str]) -> list[str]:
        """A command that runs this one on the host."""
        # The name of this machine may be that of the loopback, and gloo would take its address by that name.
        return ["ip", "netns", "exec", self.name, "env", "GLOO_SOCKET_IFNAME=eth0", *arguments]

    def kill(self) -> None:
        """End all that runs there, as a loss of power would: nothing can do or say anything more."""
        end = time.monotonic() + 30
        while (pids := _ip("netns", "pids", self.name).stdout.split()) and time.monotonic() < end:
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            time.sleep(0.05)


def _ip(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)


@contextmanager
def two_hosts() -> Iterator[tuple[Host, Host]]:
    """Two hosts that see each other and nothing else; they are gone afterwards, with all that runs there.

    Skips the test where they cannot be made.
    """
    if shutil.which("ip") is None or os.geteuid() != 0 or not Path("/proc/self/ns/net").exists():
        pytest.skip("network namespaces need Linux, root and the command ip")
    hosts = tuple(Host(f"robointer-{os.getpid()}-{end}", address) for end, address in enumerate(ADDRESSES))
    names = [host.name for host in hosts]
    steps = [["netns", "add", name] for name in names]
    steps += ["link add eth0 netns {} type veth peer name eth0 netns {}".format(*names).split()]
    for host in hosts:
        steps += [["-n", host.name, "addr", "add", f"{host.address}/24", "dev", "eth0"]]
        steps += [["-n", host.name, "link", "set", device, "up"] for device in ("lo", "eth0")]
    try:
        for step in steps:
            if (done := _ip(*step)).returncode:
                pytest.skip(f"no network namespaces here: ip {' '.join(step)}: {done.stderr.strip()}")
        yield hosts[0], hosts[1]
    finally:
        for host in hosts:
            host.kill()
            _ip("netns", "delete", host.name)
