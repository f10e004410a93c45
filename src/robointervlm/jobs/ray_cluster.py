"""Jobs done by the machines of a Ray cluster. They see the files that jobs read and write under the same paths."""

from __future__ import annotations

import importlib
import logging
import os
import pickle
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice
from typing import Any, TypeVar

from robointervlm.core import plugins
from robointervlm.core.errors import RecipeError, RoboInterError

Job = TypeVar("Job")

# How often a task whose process or machine is lost is begun again.
RETRIES = 3
# Bytes; the smallest store that Ray starts with is a little less. Only numbers and words go through it.
_STORE = 100_000_000
# The seconds between two calls of `told`.
_TICK = 0.2


def run_on_ray(  # noqa: PLR0913 - one each
    ray: Any,
    work: Callable[[Job], object],
    jobs: Iterable[Job],
    *,
    told: Callable[[Sequence[Job]], None],
    lost: Callable[[Job, str], RoboInterError],
    block: int = 1,
    **options: Any,
) -> None:
    """Does all jobs as tasks of a cluster, a `block` of them in a row in each; jobs are taken a few at a time.

    `told` is called several times a second with the jobs that are done since. A task whose process is lost is begun
    again, its whole block; where it is lost again and again, what `lost` makes of its first job and of Ray's words is
    raised. So is what a job raises: errors of ours as they are, a bug with Ray's traceback. `options` are the task's.
    """
    # As bytes, which are unpacked where the plugins are loaded: what does the jobs may be of one. Ray's own pickler
    # also takes functions of a script or of another function.
    packed = ray.cloudpickle.dumps(work)
    task, left = ray.remote(max_retries=RETRIES, **options)(_each), iter(jobs)
    waiting: dict[Any, list[Job]] = {}
    try:
        while True:
            there = ray.cluster_resources()
            # As many again as the cluster can do, so that one that grows by itself sees that it should.
            room = 2 * int(max(1, there.get("CPU", 0), there.get("GPU", 0))) - len(waiting)
            for some in islice(iter(lambda: list(islice(left, block)), []), max(0, room)):
                waiting[task.remote(plugins.given(), packed, some)] = some
            if not waiting:
                return
            done, _ = ray.wait(list(waiting), num_returns=len(waiting), timeout=0)
            for each in done:
                _refuse_failure(ray, each, partial(lost, waiting[each][0]))
            told([job for each in done for job in waiting.pop(each)])
            time.sleep(_TICK)
    finally:
        for each in waiting:
            ray.cancel(each, force=True)


def _each(named: tuple[str, ...], work: bytes, jobs: Sequence[Job]) -> None:
    plugins.use(named)
    unpacked: Callable[[Job], object] = pickle.loads(work)  # noqa: S301 - our own, from the process that asked Ray
    for job in jobs:
        unpacked(job)


def _refuse_failure(ray: Any, task: Any, lost: Callable[[str], RoboInterError]) -> None:
    try:
        ray.get(task)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, RoboInterError):
            raise error.cause from None
        raise  # a bug of ours, and to be seen as one
    except ray.exceptions.RayError as error:
        raise lost(" ".join(str(error).split())[:300]) from error


@contextmanager
def cluster(address: str, processes: int) -> Iterator[Any]:
    """Ray, connected to a cluster; `local` starts one of so many processes. One that is connected already is used.

    Raises `RecipeError` if there is no Ray or no cluster.
    """
    # Ray tells its makers about its use unless told not to, and that before it is imported.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        ray: Any = importlib.import_module("ray")
    except ImportError:
        raise RecipeError("--ray needs Ray; install it with: pip install 'robointervlm[ray]'.") from None
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


def _knock(address: str) -> None:
    """Sees whether somebody listens at host:port; Ray itself would try for minutes."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if port.isdecimal():
        socket.create_connection((host, int(port)), timeout=10).close()
