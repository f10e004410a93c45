"""Episodes made on a Ray cluster, by Ray Data. All machines see the output folder under the same path."""

from __future__ import annotations

import importlib
import logging
import os
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import islice
from typing import Any

from robointervlm.core import errors
from robointervlm.core.errors import ExhaustedError, RecipeError, RoboInterError
from robointervlm.episodes.work import Job, Make

# Jobs of a block, which one process does in a row. A lost process costs its block, and that costs little: what is
# complete is made again to the same bytes.
_BLOCK = 16
# How often a block whose process or machine is lost is begun again; without a number Ray Data never stops.
_RETRIES = 3
# Bytes; the smallest store that Ray starts with is a little less. Only numbers and words go through it.
_STORE = 100_000_000


def run_on_ray(make: Make, jobs: Iterable[Job], *, address: str, processes: int, advance: Callable[[], None]) -> None:
    """Makes the episodes of these jobs on the cluster at an address, or on one started for it if that is `local`."""
    with cluster(address, processes) as ray:
        try:
            for row in ray.data.from_arrow(_blocks(jobs)).map(partial(_made, make), max_retries=_RETRIES).iter_rows():
                if row["failure"]:
                    raise getattr(errors, row["kind"])(row["failure"])
                advance()
        except ray.exceptions.RayError as error:
            if isinstance(error, ray.exceptions.UserCodeException):
                raise  # a bug of ours, and to be seen as one
            raise ExhaustedError(
                f"Ray lost the work: {' '.join(str(error).split())[:300]}. Run the same command again, it goes on "
                "where it stopped."
            ) from error


@contextmanager
def cluster(address: str, processes: int) -> Iterator[Any]:
    """Ray, connected to a cluster; `local` starts one of so many processes. One that is connected already is used.

    Raises `RecipeError` if there is no Ray or no cluster.
    """
    ray = _ray()
    if ray.is_initialized():
        yield ray
        return
    where: dict[str, Any] = {"address": address}
    if address == "local":
        where |= {"num_cpus": processes, "object_store_memory": _STORE, "include_dashboard": False}
    try:
        _knock(address)
        ray.init(**where, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, ValueError, RuntimeError) as error:
        raise RecipeError(
            f"--ray {address}: no cluster answers: {' '.join(str(error).split())[:200]}; "
            "`local` starts one, `auto` finds one on this machine."
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _ray() -> Any:
    # Ray tells its makers about its use unless told not to, and that before it is imported.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        ray = importlib.import_module("ray")
        importlib.import_module("ray.data")
    except ImportError:
        raise RecipeError("--ray needs Ray Data; install it with: pip install 'robointervlm[ray]'.") from None
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    return ray


def _knock(address: str) -> None:
    """Sees whether somebody listens at host:port; Ray itself would try for minutes."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if port.isdecimal():
        socket.create_connection((host, int(port)), timeout=10).close()


def _blocks(jobs: Iterable[Job]) -> list[Any]:
    pa = importlib.import_module("pyarrow")
    rows = ({"split": split, "number": number} for split, number in jobs)
    return [pa.Table.from_pylist(block) for block in iter(lambda: list(islice(rows, _BLOCK)), [])]


def _made(make: Make, row: dict[str, Any]) -> dict[str, str]:
    """Makes one episode where it is called; what went wrong comes back as words."""
    try:
        make(row["split"], int(row["number"]))
    except RoboInterError as error:
        return {"kind": type(error).__name__, "failure": str(error)}
    return {"kind": "", "failure": ""}
