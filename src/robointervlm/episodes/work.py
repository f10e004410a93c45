"""Who makes the episodes of a build: processes of this machine or a Ray cluster, all of them or a share.

Every episode is a function of its job, is made by one process and leaves files of its own, so that nothing here changes
a byte of a data set. Jobs are handed out a few at a time, whatever their number.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from robointervlm.core.errors import DataError, ExhaustedError, RecipeError
from robointervlm.episodes.shards import write_file

Job = tuple[str, int]
"""The split and the number of an episode."""
Make = Callable[[str, int], object]
"""Makes the episode of a job; pickled, if there is more than one process."""
Lost = Callable[[Job], None]

# Jobs of each process that are handed out at a time.
_AHEAD = 4


class Share(NamedTuple):
    """The part ``number`` of ``of`` equal parts of all episodes, counted from 1."""

    number: int
    of: int

    @classmethod
    def read(cls, text: str) -> Self:
        """The share that is written as 3/8."""
        number, _, of = text.partition("/")
        if not (number.isdecimal() and of.isdecimal() and 1 <= int(number) <= int(of)):
            raise RecipeError(f"share '{text}' is none; write the third of eight as 3/8.")
        return cls(int(number), int(of))

    def takes(self, place: int) -> bool:
        """Whether the episode at this place of the whole list is of this part."""
        return place % self.of == self.number - 1


@dataclass(frozen=True)
class Crew:
    """Who makes which episodes.

    ``processes`` of this machine, by default one per processor; or the Ray cluster at the address ``ray``, `local` for
    one that is started on this machine with so many processes. With a ``share`` only its episodes are made, and the
    published files are not put together; ``merge`` only puts them together.
    """

    processes: int | None = None
    ray: str | None = None
    share: Share | None = None
    merge: bool = False

    def __post_init__(self) -> None:
        if self.merge and (self.share is not None or self.ray is not None):
            raise RecipeError("a merge makes no episodes; leave out --ray and --shard.")

    def jobs(self, jobs: Iterable[Job]) -> Iterator[Job]:
        """Those of all jobs that this crew does."""
        return (job for place, job in enumerate(jobs) if self.share is None or self.share.takes(place))

    def run(  # noqa: PLR0913 - one each
        self, make: Make, jobs: Iterable[Job], total: int, *, root: Path, console: Console, lost: Lost | None = None
    ) -> None:
        """Makes the episodes of these jobs, of which there are ``total``; a merge makes none.

        ``lost`` is told of a job whose process died though it had the machine for itself; without it, that is an
        `ExhaustedError`.
        """
        if self.merge:
            return
        processes = self.processes or os.cpu_count() or 1
        with _progress(console, total) as advance:
            if self.ray is not None and total:
                from robointervlm.episodes.ray_cluster import run_on_ray  # noqa: PLC0415 - needs the extra `ray`

                run_on_ray(make, jobs, address=self.ray, processes=processes, advance=advance)
            elif min(processes, total) <= 1:
                for job in jobs:
                    make(*job)
                    advance()
            else:
                _run_in_processes(
                    make, iter(jobs), min(processes, total), advance=advance, lost=lost or partial(_exhausted, root)
                )


def claim(root: Path, wanted: dict[str, Any], share: Share | None = None, *, added: tuple[str, ...] = ()) -> None:
    """Writes the manifest, or checks that the one there asks for the same; a `DataError` says what differs.

    Manifests may be without the names in ``added``, which older releases did not write. Several shares may do so at the
    same moment.
    """
    manifest = root / "manifest.json"
    others = root.exists() and any(".manifest" not in path.name for path in root.iterdir() if path != manifest)
    if manifest.is_file():
        try:
            found = json.loads(manifest.read_text(encoding="utf-8"))
        except ValueError:
            raise DataError(f"{manifest} is not JSON; remove {root} or build into another folder.") from None
        compared = {name: value for name, value in wanted.items() if name in found or name not in added}
        if found != compared:
            names = [name for name, value in compared.items() if found.get(name) != value]
            changes = ", ".join(f"{name} is {found.get(name)} there and {wanted[name]} now" for name in names)
            raise DataError(f"{root} holds another data set: {changes}. Build into another folder or remove this one.")
        return
    if others:
        raise DataError(f"{root} is not empty and holds no manifest.json; build into a new folder.")
    written = root / f".manifest{f'-{share.number}' if share else ''}"
    write_file(written, (json.dumps(wanted, indent=2) + "\n").encode())
    written.replace(manifest)


def _exhausted(root: Path, job: Job) -> None:
    raise ExhaustedError(
        f"a process died while it made episode {job[1]} of {job[0]} for {root}, most likely for lack of memory; "
        "run the same command again, it goes on where it stopped."
    )


def _run_in_processes(
    make: Make, jobs: Iterator[Job], processes: int, *, advance: Callable[[], None], lost: Lost
) -> None:
    """A process that dies takes all of its pool's work with it; those jobs are then done one by one, each alone."""
    with _single_threaded_children():
        while begun := _until_a_process_dies(make, jobs, processes, advance):
            for job in begun:
                if _until_a_process_dies(make, iter([job]), 1, advance):
                    lost(job)
                    advance()


def _until_a_process_dies(make: Make, jobs: Iterator[Job], processes: int, advance: Callable[[], None]) -> list[Job]:
    """Works through the jobs; returns those that were begun when a process died, none if all are done."""
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(processes, mp_context=context, initializer=_end_with_parent)
    begun: dict[Future[object], Job] = {}
    taken: list[Job] = []
    try:
        for _ in range(_AHEAD * processes):
            begun |= _handed_out(pool, make, jobs, taken)
        while begun:
            for future in wait(begun, return_when=FIRST_COMPLETED).done:
                future.result()
                del begun[future]
                advance()
                begun |= _handed_out(pool, make, jobs, taken)
    except BrokenProcessPool:
        return [*begun.values(), *taken]
    finally:
        pool.shutdown(cancel_futures=True)
    return []


def _handed_out(
    pool: ProcessPoolExecutor, make: Make, jobs: Iterator[Job], taken: list[Job]
) -> dict[Future[object], Job]:
    """Hands out the next job, if there is one; it is in ``taken`` if the pool cannot take it."""
    taken[:] = islice(jobs, 1)
    handed = {pool.submit(make, *job): job for job in taken}
    taken.clear()
    return handed


def _end_with_parent() -> None:
    """Ends this worker when its parent is killed; it would wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def ending() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=ending, daemon=True).start()


@contextmanager
def _single_threaded_children() -> Iterator[None]:
    """Processes started inside use one thread each; the arrays here are too small for more."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def _progress(console: Console, total: int) -> Iterator[Callable[[], None]]:
    """Gives a function to call after each episode: a live bar on a terminal, else a line every tenth of the work."""
    if console.is_terminal:
        columns = (TextColumn("episodes"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console, transient=True) as bar:
            task = bar.add_task("episodes", total=total)
            yield lambda: bar.advance(task)
        return
    done = 0

    def advance() -> None:
        nonlocal done
        done += 1
        if done == total or done * 10 // total > (done - 1) * 10 // total:
            console.print(f"{done}/{total} episodes", highlight=False)

    yield advance
