"""Who makes the episodes of a build: processes of this machine or a Ray cluster, all of them or a share.

Every episode is a function of its job, is made by one process and leaves files of its own, so that nothing here changes
a byte of a data set. Jobs are handed out a few at a time, whatever their number.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from robointervlm.core.errors import DataError, ExhaustedError, RecipeError
from robointervlm.episodes.shards import write_file
from robointervlm.jobs.pool import run_in_processes
from robointervlm.jobs.progress import progress_bar
from robointervlm.jobs.ray_cluster import cluster, run_on_ray
from robointervlm.jobs.share import Share

Job = tuple[str, int]
"""The split and the number of an episode."""
Make = Callable[[str, int], object]
"""Makes the episode of a job; pickled, if there is more than one process."""
Lost = Callable[[Job], None]
Told = Callable[[Sequence[Job]], None]

# Jobs that one process of a cluster does in a row. A lost one costs them all, and that costs little: what is complete
# is made again to the same bytes.
_BLOCK = 16
# The arrays of an episode are too small for more.
_SINGLE_THREADED = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


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
        processes, work = self.processes or os.cpu_count() or 1, partial(_made, make)

        def lost_on_ray(_: Job, said: str) -> ExhaustedError:
            again = "Run the same command again, it goes on where it stopped."
            return ExhaustedError(f"Ray lost the work: {said}. {again}")

        with _progress(console, total) as told:
            if self.ray is not None and total:
                with cluster(self.ray, processes) as ray:
                    run_on_ray(ray, work, jobs, told=told, lost=lost_on_ray, block=_BLOCK)
            elif min(processes, total) <= 1:
                for job in jobs:
                    work(job)
                    told([job])
            else:
                _run_in_processes(work, jobs, min(processes, total), told=told, lost=lost or partial(_exhausted, root))


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


def _made(make: Make, job: Job) -> None:
    make(*job)


def _run_in_processes(
    work: Callable[[Job], None], jobs: Iterable[Job], processes: int, *, told: Told, lost: Lost
) -> None:
    """Jobs whose process died are done once more after all others, one by one, each with the machine for itself."""
    again: list[Job] = []

    def give_up(job: Job, _: int) -> None:
        lost(job)
        told([job])

    run = partial(run_in_processes, work, told=told, variables=lambda _: _SINGLE_THREADED)
    run(jobs, processes, died=lambda job, _: again.append(job))
    run(again, 1, died=give_up)


@contextmanager
def _progress(console: Console, total: int) -> Iterator[Told]:
    """Gives a function to call with episodes made: a live bar on a terminal, else a line every tenth of the work."""
    if console.is_terminal:
        with progress_bar(console, transient=True) as bar:
            task = bar.add_task("episodes", total=total)
            yield lambda made: bar.advance(task, len(made))
        return
    done = 0

    def advance(made: Sequence[Job]) -> None:
        nonlocal done
        for _ in made:
            done += 1
            if done == total or done * 10 // total > (done - 1) * 10 // total:
                console.print(f"{done}/{total} episodes", highlight=False)

    yield advance
