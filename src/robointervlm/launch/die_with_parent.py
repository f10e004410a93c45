"""Children that end with us, also where we are killed and can end nothing: run as a program, it becomes the child.

A process that outlived its parent would go on holding GPUs, a port and the lock of its run. The system sends the child
SIGTERM when its parent is gone, so that training saves and a server shuts down. Linux only; elsewhere the child is
started as it is.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Sequence

# prctl(2); inherited by the program that takes over the process.
_PR_SET_PDEATHSIG = 1


def dying_with_parent(command: Sequence[str]) -> list[str]:
    """A command that runs this one and ends with the process, and the thread, that starts it."""
    # Without site and environment: nothing is imported but what stands above, and the command gets all of it.
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), *command]


def end_with(parent: int) -> None:
    """Has this process be sent SIGTERM when its parent, of this number, is gone; ends it if that is so already."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM))
        if os.getppid() != parent:
            sys.exit(128 + signal.SIGTERM)  # it was gone before it could be heard


def main() -> None:
    """Tie this process to its parent, then become the command."""
    parent, *command = sys.argv[1:]
    end_with(int(parent))
    try:
        os.execvp(command[0], command)  # noqa: S606 - what the parent would have run itself
    except OSError as error:
        sys.stderr.write(f"{command[0]}: {error.strerror}\n")
        sys.exit(127)  # as a shell says it


if __name__ == "__main__":
    main()
