"""Unpacks the published picture archives next to where they lie, without trusting what is in them.

An archive is looked through before anything of it is written, and is refused as a whole if a member would leave the
folder, is a link or a device, stands there twice, or is a bomb. Members are written under a temporary name, compared
with their checksum and renamed; one that is there already is left alone, so that the same command goes on after a stop.
"""

from __future__ import annotations

import json
import shutil
import unicodedata
import zlib
from array import array
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from robointervlm.core.errors import DataError, ExhaustedError, ExitCode, RefusedError, RoboInterError
from robointervlm.data.archives import PART, Archive, Member, is_archive, opened_archive

TYPES = ("Generation", "Understanding", "Task_planning")
MAX_UNPACKED = 2 * 10**12
# Pictures hardly shrink; what is smaller than this may, as empty or repetitive files do.
_MAX_RATIO = 100
_RATIO_FLOOR = 10_000_000
_MEMBERS_PER_JOB = 2000
_FINISHED = ".unpacked.json"


@dataclass
class Unpacked:
    """What became of one archive. `problem` is empty if all of it is there, and `exit_code` then 0."""

    archive: Path
    members: int = 0
    size: int = 0
    written: int = 0
    kept: int = 0
    problem: str = ""
    exit_code: ExitCode = ExitCode.COMPLETE


@dataclass(frozen=True)
class _Job:
    archive: Path
    entry: int
    count: int


@dataclass
class _Done:
    written: int = 0
    kept: int = 0
    problems: list[RoboInterError] = field(default_factory=list)


def archives_of(root: Path, types: tuple[str, ...]) -> list[Path]:
    """The archives below the folders of these types, of split ones the first part. A `DataError` if there are none."""
    found = [
        path
        for kind in types
        for path in sorted((root / kind).rglob("*"))
        if ".zip" in path.name.lower() and is_archive(path) and path.is_file() and not _is_later_part(path)
    ]
    if not found:
        folders = ", ".join(str(root / kind) for kind in types)
        raise DataError(f"no archive (*.zip, *.zip.00) below {folders}; --root is the folder that holds Generation.")
    return found


def unpack(
    archives: list[Path],
    *,
    workers: int,
    max_unpacked: int = MAX_UNPACKED,
    dry_run: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> list[Unpacked]:
    """Unpacks each archive into the folder it lies in; what is wrong with one does not stop the others.

    `max_unpacked` limits the bytes of all archives together. `progress` is told how many of how many members are done.
    Raises `ExhaustedError` before anything is written if the disk has not the space.
    """
    results = [_looked_through(path, max_unpacked) for path in archives]
    _refuse_clashes(results)
    _refuse_too_much(results, max_unpacked)
    waiting = [result for result in results if not result.problem and not _is_finished(result)]
    for result in results:
        if not result.problem and result not in waiting:
            result.kept = result.members
    if dry_run:
        return results
    _require_space(waiting)
    _unpack(waiting, workers, progress or (lambda _done, _total: None))
    return results


def _is_later_part(path: Path) -> bool:
    split = PART.fullmatch(path.name)
    if split is None or int(split["number"]) != 1:
        return False
    return path.with_suffix("." + "0" * len(split["number"])).exists()


def _looked_through(path: Path, max_unpacked: int) -> Unpacked:
    """The archive with its numbers, or with the reason why it is not touched."""
    result = Unpacked(path)
    try:
        archive = opened_archive(path)
        for member in _checked(archive, max_unpacked):
            result.members += not member.is_folder
            result.size += member.size
    except RoboInterError as error:
        result.problem, result.exit_code = str(error), error.exit_code
    return result


def _checked(archive: Archive, max_unpacked: int) -> Iterator[Member]:
    """Every member; raises `RefusedError` at the first that an archive of pictures has no need of."""
    total, extents = 0, array("q")
    # Hashes, since the names of millions of members would fill the memory.
    folders: set[int] = set()
    files = array("q")
    for member in archive.members():
        said = f"archive {archive.path}: '{member.name[:200]}'"
        if member.is_special:
            raise RefusedError(f"{said} is a link or a device; files and folders are unpacked.")
        if member.is_encrypted:
            raise DataError(f"{said} is encrypted; pictures are read from archives without a password.")
        if member.size > _RATIO_FLOOR and member.size > _MAX_RATIO * member.packed_size:
            raise RefusedError(f"{said} unpacks {member.packed_size} bytes to {member.size}, as bombs do.")
        parts = _folded(_parts(archive, member))
        if member.is_folder:
            folders.add(hash(parts))
        else:
            files.append(hash(parts))
        folders.update(hash(parts[:count]) for count in range(1, len(parts)))
        total += member.size
        if total > max_unpacked:
            raise RefusedError(f"archive {archive.path} unpacks to over {max_unpacked} bytes; see --max-unpacked.")
        extents.extend((member.offset, member.packed_size))
        yield member
    names, counts = np.unique(np.array(files), return_counts=True)
    twice = {*names[counts > 1].tolist()} | (folders & {*names[np.isin(names, [*folders])].tolist()})
    for member in archive.members() if twice else ():
        if hash(_folded(_parts(archive, member))) in twice:
            raise RefusedError(
                f"archive {archive.path}: '{member.name}' stands there twice: in upper and lower case, "
                "or as a file and as a folder, or simply so."
            )
    _check_extents(archive, np.array(extents).reshape(-1, 2))


def _parts(archive: Archive, member: Member) -> tuple[str, ...]:
    """The parts of the member's path, certainly inside the folder."""
    name = member.name
    parts = PurePosixPath(name).parts
    # "replacement character": a name that is no UTF-8
    if not parts or name.startswith("/") or ".." in parts or not name.isprintable() or set("\\:\ufffd") & set(name):
        raise RefusedError(f"archive {archive.path}: {name[:200]!r} is no name of a file inside its folder.")
    if len(name.encode()) > 4000 or any(len(part.encode()) > 255 for part in parts):
        raise RefusedError(f"archive {archive.path}: the name '{name[:80]}…' is too long.")
    return parts


def _folded(parts: tuple[str, ...]) -> tuple[str, ...]:
    """On many disks, names that differ in case or in how an accent is written are one file."""
    return tuple(part.lower() if part.isascii() else unicodedata.normalize("NFC", part).casefold() for part in parts)


def _check_extents(archive: Archive, extents: np.ndarray[Any, Any]) -> None:
    """Refuses members that share their bytes, which make a small archive endless. `extents`: (N, 2) place and size."""
    extents = extents[np.argsort(extents[:, 0], kind="stable")]
    # 30: the header in front of each member's bytes
    overlapping = np.flatnonzero(extents[:-1, 0] + 30 + extents[:-1, 1] > extents[1:, 0])
    if len(overlapping):
        place = extents[overlapping[0] + 1, 0]
        raise RefusedError(f"archive {archive.path}: members overlap at byte {place}, as in bombs.")


def _refuse_clashes(results: list[Unpacked]) -> None:
    """Refuses an archive that holds, for the same folder, a file of an earlier one with another content."""
    seen: dict[Path, list[tuple[Unpacked, set[str]]]] = {}
    for result in results:
        if result.problem:
            continue
        tops = {member.name.partition("/")[0] for member in opened_archive(result.archive).members()}
        earlier = seen.setdefault(result.archive.parent.resolve(), [])
        for other, other_tops in earlier:
            clash = _clash(other.archive, result.archive) if tops & other_tops else None
            if clash is not None:
                result.problem = f"archive {result.archive}: '{clash}' stands in {other.archive}, too, and differs."
                result.exit_code = ExitCode.REFUSED
        earlier.append((result, tops))


def _clash(first: Path, second: Path) -> str | None:
    contents = {member.name: (member.size, member.checksum) for member in opened_archive(first).members()}
    for member in opened_archive(second).members():
        if contents.get(member.name, (member.size, member.checksum)) != (member.size, member.checksum):
            return member.name
    return None


def _refuse_too_much(results: list[Unpacked], max_unpacked: int) -> None:
    total = 0
    for result in results:
        if not result.problem and total + result.size > max_unpacked:
            result.problem = (
                f"archive {result.archive} has {result.size} bytes unpacked, after {total} of the others; "
                f"the limit is {max_unpacked} (--max-unpacked)."
            )
            result.exit_code = ExitCode.REFUSED
        total += 0 if result.problem else result.size


def _require_space(waiting: list[Unpacked]) -> None:
    needed: dict[int, tuple[Path, int]] = {}
    for result in waiting:
        folder = result.archive.parent
        members = (member for member in opened_archive(result.archive).members() if not member.is_folder)
        missing = sum(member.size for member in members if not _has_size(folder / member.name, member.size))
        place, bytes_so_far = needed.get(folder.stat().st_dev, (folder, 0))
        needed[folder.stat().st_dev] = place, bytes_so_far + missing
    for folder, size in needed.values():
        free = shutil.disk_usage(folder).free
        if size > free:
            raise ExhaustedError(f"{folder} has {free / 1e9:.1f} GB free; {size / 1e9:.1f} GB are to be unpacked.")


def _has_size(path: Path, size: int) -> bool:
    try:
        return path.lstat().st_size == size
    except OSError:
        return False


def _unpack(waiting: list[Unpacked], workers: int, progress: Callable[[int, int], None]) -> None:
    total, done = sum(result.members for result in waiting), 0
    jobs: list[tuple[Unpacked, _Job]] = []
    for result in waiting:
        archive = opened_archive(result.archive)
        for number, member in enumerate(archive.members()):
            if number % _MEMBERS_PER_JOB == 0:
                count = min(_MEMBERS_PER_JOB, archive.count - number)
                jobs.append((result, _Job(result.archive, member.entry, count)))
    if not jobs:
        return
    failed = set()
    pool = ProcessPoolExecutor(min(workers, len(jobs)), mp_context=get_context("spawn"))
    try:
        futures: dict[Future[_Done], Unpacked] = {pool.submit(_run, job): result for result, job in jobs}
        for future in as_completed(futures):
            result, outcome = futures[future], future.result()
            result.written += outcome.written
            result.kept += outcome.kept
            for error in outcome.problems:
                failed.add(str(result.archive))
                result.problem = result.problem or str(error)
                result.exit_code = max(result.exit_code, error.exit_code)
            done += outcome.written + outcome.kept
            progress(done, total)
    except BrokenProcessPool as error:
        raise ExhaustedError(
            "a process that unpacked was ended from outside, as happens when memory is short; "
            "run the same command again, with fewer --workers."
        ) from error
    finally:
        # Also when the user stops: what is waiting is not done any more.
        pool.shutdown(cancel_futures=True)
    for result in waiting:
        if str(result.archive) not in failed:
            _write(_marker(result.archive), [json.dumps(_fingerprint(result.archive)).encode()])


def _run(job: _Job) -> _Done:
    """Unpacks a part of an archive; runs in a process of its own."""
    done = _Done()
    archive = opened_archive(job.archive)
    for member in archive.members(job.entry, job.count):
        try:
            if member.is_folder:
                _folder(job.archive.parent, _parts(archive, member))
            elif _place(archive, member):
                done.written += 1
            else:
                done.kept += 1
        except RoboInterError as error:
            done.problems.append(error)
            if error.exit_code is ExitCode.EXHAUSTED:
                break
    return done


def _place(archive: Archive, member: Member) -> bool:
    """Writes the member unless it is there already; whether it was written."""
    *folder, name = _parts(archive, member)
    path = _folder(archive.path.parent, tuple(folder)) / name
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise RefusedError(f"archive {archive.path}: {path} is there already, and is no file; move it away.")
    if _has_size(path, member.size) and _checksum(path) == member.checksum:
        return False
    if path.exists() and not _is_beginning(path, archive.content(member)):
        raise RefusedError(f"archive {archive.path}: {path} is there already and differs; move it away.")
    _write(path, archive.content(member))
    return True


def _checksum(path: Path) -> int:
    checksum = 0
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            checksum = zlib.crc32(piece, checksum)
    return checksum


def _is_beginning(path: Path, content: Iterator[bytes]) -> bool:
    """Whether the file is what a stopped `unzip` left of the content; no other file is replaced."""
    with path.open("rb") as file:
        for piece in content:
            there = file.read(len(piece))
            if there != piece:
                return piece.startswith(there)
        return False


def _write(path: Path, content: Iterator[bytes] | list[bytes]) -> None:
    """Writes a file that is there as a whole or not at all."""
    temporary = path.with_name(f".{path.name[:200]}.tmp")
    try:
        temporary.unlink(missing_ok=True)  # of a run that was killed; or a link, which is not written through
        with temporary.open("xb") as file:
            for piece in content:
                file.write(piece)
        temporary.replace(path)
    except OSError as error:
        raise ExhaustedError(f"{path} cannot be written: {error.strerror}; free some space and go on.") from error
    finally:
        temporary.unlink(missing_ok=True)


@lru_cache(maxsize=4096)
def _folder(base: Path, parts: tuple[str, ...]) -> Path:
    """The folder below `base`, made if it is not there; a link on the way to it is refused."""
    folder = base
    for part in parts:
        folder = folder / part
        if folder.is_symlink():
            raise RefusedError(f"folder {folder} is a link; archives are unpacked into folders only.")
        try:
            folder.mkdir(exist_ok=True)
        except FileExistsError as error:
            raise RefusedError(f"{folder} is there already, and is no folder; move it away.") from error
        except OSError as error:
            raise ExhaustedError(f"folder {folder} cannot be made: {error.strerror}.") from error
    return folder


def _marker(path: Path) -> Path:
    return path.with_name(f".{path.name}{_FINISHED}")


def _fingerprint(path: Path) -> dict[str, int]:
    archive = opened_archive(path)
    return {"members": archive.count, "size": archive.size, "directory_crc32": archive.directory_digest()}


def _is_finished(result: Unpacked) -> bool:
    """Whether an earlier run unpacked and compared all of this archive, and its files are still there."""
    try:
        marked = json.loads(_marker(result.archive).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return bool(marked == _fingerprint(result.archive)) and all(
        member.is_folder or _has_size(result.archive.parent / member.name, member.size)
        for member in opened_archive(result.archive).members()
    )
