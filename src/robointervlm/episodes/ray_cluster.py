"""Episodes made on a Ray cluster, by Ray Data. All machines see the output folder under the same path."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from robointervlm.core import errors
from robointervlm.core.errors import ExhaustedError, RecipeError, RoboInterError
from robointervlm.episodes.work import Job, Make

# Jobs of a block, which one process does in a row. A lost process costs its block, and that costs little: what is
# complete is made again to the same bytes.
_BLOCK = 16
# Bytes; the smallest store that Ray starts with is a little less. Only numbers and words go through it.
_STORE = 100_000_000


def run_on_ray(make: Make, jobs: Iterable[Job], *, address: str, processes: int, advance: Callable[[], None]) -> None:
    """Makes the episodes of these jobs on the cluster at an address, or on one started for it if that is `local`."""
    ray = _ray()
    started = not ray.is_initialized()
    if started:
        _start(ray, address, processes)
    try:
        blocks = _blocks(list(jobs))
        for row in ray.data.from_arrow(blocks).map(partial(_made, make)).iter_rows():
            if row["failure"]:
                raise getattr(errors, row["kind"])(row["failure"])
            advance()
    except (ray.exceptions.RayError, ConnectionError) as error:
        raise ExhaustedError(
            f"Ray lost the work: {' '.join(str(error).split())[:300]}. Run the same command again, it goes on where "
            "it stopped."
        ) from error
    finally:
        if started:
            ray.shutdown()


def _ray() -> Any:
    # Ray tells its makers about its use unless told not to, and that before it is imported.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
    try:
        ray = importlib.import_module("ray")
        importlib.import_module("ray.data")
    except ImportError:
        raise RecipeError("--ray needs Ray Data; install it with: pip install 'robointervlm[ray]'.") from None
    return ray


def _start(ray: Any, address: str, processes: int) -> None:
    quiet = {"log_to_driver": False, "logging_level": "ERROR", "include_dashboard": False}
    try:
        if address == "local":
            ray.init(address="local", num_cpus=processes, object_store_memory=_STORE, **quiet)
        else:
            quiet.pop("include_dashboard")
            ray.init(address=address, **quiet)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise RecipeError(
            f"--ray {address}: no cluster answers: {' '.join(str(error).split())[:200]}; "
            "`local` starts one, `auto` finds one on this machine."
        ) from error
    ray.data.DataContext.get_current().enable_progress_bars = False


def _blocks(jobs: list[Job]) -> list[Any]:
    pa = importlib.import_module("pyarrow")
    splits, numbers = zip(*jobs, strict=True)
    table = pa.table({"split": pa.array(splits, pa.string()), "number": pa.array(numbers, pa.int64())})
    return [table.slice(begin, _BLOCK) for begin in range(0, len(jobs), _BLOCK)]


def _made(make: Make, row: dict[str, Any]) -> dict[str, str]:
    """Makes one episode where it is called; what went wrong comes back as words."""
    try:
        make(row["split"], int(row["number"]))
    except RoboInterError as error:
        return {"kind": type(error).__name__, "failure": str(error)}
    return {"kind": "", "failure": ""}
