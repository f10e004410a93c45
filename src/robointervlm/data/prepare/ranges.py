"""One function over all the records of a dataset, a range at a time and on several cores; memory stays constant."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TypeVar

from robointervlm.data.records import Annotations
from robointervlm.data.spec import DatasetSpec

# Records of one call: enough that opening the file for it does not count, few enough that its result is small.
CHUNK = 4096

Result = TypeVar("Result")


def over_ranges(
    work: Callable[[Annotations, range], Result], annotations: Annotations, root: Path | None, workers: int | None
) -> Iterator[tuple[range, Result]]:
    """What `work` returns for each range of positions, in order; the same whatever the number of processes.

    `work` is a function of a module (or a `functools.partial` of one). Without `workers` there is one per core; a
    dataset of one range is done in this process.
    """
    count = len(annotations)
    ranges = [range(start, min(start + CHUNK, count)) for start in range(0, count, CHUNK)]
    processes = min(workers or len(os.sched_getaffinity(0)), len(ranges))
    if processes <= 1:
        for part in ranges:
            yield part, work(annotations, part)
        return
    # Spawned, not forked: the progress bar runs in a thread.
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        jobs = [pool.submit(_opened, work, annotations.spec, root, part) for part in ranges]
        try:
            while jobs:
                job = jobs.pop(0)  # and with it, once yielded, its result
                yield ranges[-len(jobs) - 1], job.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _opened(work: Callable[[Annotations, range], Result], spec: DatasetSpec, root: Path | None, part: range) -> Result:
    return work(Annotations(spec, root), part)
