"""What it looks like to the training process when one of its loading processes dies, hangs or fails."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TypeVar

from robointervlm.core.errors import LostProcessError, RoboInterError

Item = TypeVar("Item")

_AGAIN = "The same command goes on from the newest checkpoint."


def naming_lost_workers(items: Iterator[Item], timeout: float) -> Iterator[Item]:
    """The items of a DataLoader; that a worker was killed or gave nothing for so long is `LostProcessError`.

    What a worker raises is raised here without the page that the loader makes of it.
    """
    while True:
        try:
            item = next(items)
        except StopIteration:
            return
        except Exception as error:
            raise _named(error, timeout) from error
        yield item


def _named(error: Exception, timeout: float) -> Exception:
    said = str(error)
    if "in DataLoader worker process" in said:
        # What it raised there, with all of its traceback as the message; its last line is the error's own.
        last = said.strip().splitlines()[-1]
        return type(error)(last.partition(": ")[2]) if isinstance(error, RoboInterError) else RuntimeError(last)
    if "timed out" in said:
        return LostProcessError(
            f"no batch from the data workers within {timeout:g} s (data.timeout_seconds): one of them hangs, or "
            f"the disk with the pictures does. {_AGAIN}"
        )
    if "exited unexpectedly" in said or "is killed by signal" in said:
        cause = re.search(r"killed by signal: ([^.]*)\.", f"{said} {error.__cause__ or ''}")
        how = f"was killed ({cause[1]})" if cause else "ended"
        found = re.search(r"pid\(?s?\)?:? ?([\d, ]+)", said)
        pids = f" (pid {found[1].strip()})" if found else ""
        return LostProcessError(f"a loading process {how}; if memory ran out, lower data.workers. {_AGAIN}{pids}")
    return error
