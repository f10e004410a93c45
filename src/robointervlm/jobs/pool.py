"""Jobs done by processes of this machine, one at a time in each, so that it is known what one that dies was doing."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from multiprocessing import connection
from typing import Generic, TypeVar

from robointervlm.launch.die_with_parent import end_with
from robointervlm.runs.signals import StopRequested

Job = TypeVar("Job")

# The seconds between two calls of `told` at most, and those that a process may take to end by itself.
_TICK, _GRACE = 0.2, 20.0
_SPAWN = multiprocessing.get_context("spawn")


def run_in_processes(  # noqa: PLR0913 - one each
    work: Callable[[Job], object],
    jobs: Iterable[Job],
    processes: int,
    *,
    told: Callable[[Sequence[Job]], None],
    died: Callable[[Job, int], object],
    variables: Callable[[Job], Mapping[str, str]],
) -> None:
    """Does all jobs in so many processes; a job is taken from the iterable when it is begun.

    `work` and jobs are pickled. `told` is called several times a second with the jobs that are done since. `died` is
    told of a job whose process died, with its exit code, negative for a signal, and says whether to do it again.
    `variables` are those of the environment of a process that begins with this job. What a job raises, or one of these
    functions, is raised. The processes end with this one: in order where it is stopped, and also where it is killed.
    """
    left = iter(jobs)
    workers: list[_Worker[Job]] = []
    try:
        workers += (_Worker(work, job, variables(job)) for job in islice(left, processes))
        while busy := [worker for worker in workers if worker.jobs]:
            done = []
            ready = connection.wait([worker.pipe for worker in busy], _TICK)
            for worker in (worker for worker in busy if worker.pipe in ready):
                job = worker.jobs[0]
                if worker.answered():
                    done.append(job)
                    worker.give(islice(left, 1))
                    continue
                workers.remove(worker)
                again = [job] if died(job, worker.process.exitcode or 0) else islice(left, 1)
                workers += (_Worker(work, each, variables(each)) for each in again)
            told(done)
    finally:
        _end(workers)


class _Worker(Generic[Job]):
    """A process; `jobs` is the one that it does, or none once there is nothing left for it."""

    def __init__(self, work: Callable[[Job], object], job: Job, variables: Mapping[str, str]) -> None:
        self.jobs: list[Job] = []
        self.pipe, theirs = _SPAWN.Pipe()
        self.process = _SPAWN.Process(target=_serve, args=(theirs, work, os.getpid()))
        ours = {name: os.environ.get(name) for name in variables}
        try:
            os.environ.update(variables)  # libraries read them when they are loaded, which is before any job
            self.process.start()
        finally:
            for name, value in ours.items():
                del os.environ[name]
                if value is not None:
                    os.environ[name] = value
        theirs.close()
        self.give([job])

    def give(self, jobs: Iterable[Job]) -> None:
        """Has it do this one; without one it ends."""
        self.jobs = [*jobs]
        with contextlib.suppress(BrokenPipeError):  # it is dead, which is noticed when its answer is read
            for job in self.jobs:
                self.pipe.send(job)
        if not self.jobs:
            self.pipe.close()

    def answered(self) -> bool:
        """Whether its job is done, and not the process dead; raises what the job raised."""
        try:
            error = self.pipe.recv()
        except (EOFError, ConnectionResetError):
            self.process.join()
            return False
        if error is not None:
            raise error
        return True


def _serve(pipe: connection.Connection, work: Callable[[Job], object], parent: int) -> None:
    """Does jobs until none comes any more."""
    os.setpgid(0, 0)  # a Ctrl-C at the terminal reaches us through our parent, once
    end_with(parent)
    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            job = pipe.recv()
            try:
                work(job)
            except StopRequested as stop:
                sys.stderr.write(f"stopped: {stop}\n")
                sys.exit(stop.exit_code)
            except Exception as error:  # noqa: BLE001 - goes to the one who asked
                error.add_note("".join(traceback.format_exception(error)))
                pipe.send(error)
            else:
                pipe.send(None)


def _end(workers: Sequence[_Worker[Job]]) -> None:
    """Stops what still works: in order, and by force what does not end."""
    for worker in workers:
        if worker.jobs:
            worker.process.terminate()
    end = time.monotonic() + _GRACE
    for worker in workers:
        worker.process.join(max(0.0, end - time.monotonic()))
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()
