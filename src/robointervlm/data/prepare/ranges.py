"""One function over all the records of a dataset, a range at a time and on several cores; memory stays constant."""

from __future__ import annotations

import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from pathlib import Path
from typing import TypeVar

from robointervlm.core.errors import ExhaustedError
from robointervlm.data.records import Annotations
from robointervlm.data.spec import DatasetSpec

# Records of one call: enough that opening the file for it does not count, few enough that its result is small.
CHUNK = 4096
_AHEAD = 4

Result = TypeVar("Result")


def over_ranges(
    work: Callable[[Annotations, range], Result],
    annotations: Annotations,
    root: Path | None,
    workers: int | None,
    *,
    first: int = 0,
) -> Iterator[tuple[range, Result]]:
    """What `work` returns for each range of positions from `first` on, in order; the same for any number of processes.

    `work` is a function of a module (or a `functools.partial` of one). Without `workers` there is one per core; a
    dataset of one range is done in this process.
    """
    count = len(annotations)
    ranges = [range(start, min(start + CHUNK, count)) for start in range(first, count, CHUNK)]
    processes = min(workers or len(os.sched_getaffinity(0)), len(ranges))
    if processes <= 1:
        for part in ranges:
            yield part, work(annotations, part)
        return
    left = iter(ranges)
    jobs: deque[tuple[range, Future[Result]]] = deque()
    # Spawned, not forked: the progress bar runs in a thread.
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        try:
            while True:
                # No more than this is ahead of whoever takes the results, so that they do not pile up.
                for part in islice(left, _AHEAD * processes - len(jobs)):
                    jobs.append((part, pool.submit(_opened, work, annotations.spec, root, part)))
                if not jobs:
                    return
                part, job = jobs.popleft()
                yield part, job.result()
        except BrokenProcessPool as error:
            raise ExhaustedError(
                f"a process that read {annotations.file.path} was ended from outside, as happens when memory is short; "
                "run the same command again, with fewer --workers."
            ) from error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _opened(work: Callable[[Annotations, range], Result], spec: DatasetSpec, root: Path | None, part: range) -> Result:
    return work(Annotations(spec, root), part)
