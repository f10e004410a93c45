"""Pictures cut into patches, kept in a folder: decoded and resized once instead of in every epoch.

One file for each content of a picture, whatever its path or whichever archive it lies in; a picture that changes has
another content, and with it another file. A file is a header with a checksum and the bytes of the patches. It is
written beside its place and renamed, so that processes and machines can share the folder and a kill leaves nothing half
done; one that is damaged all the same is made again. Once the folder holds as much as it may, nothing more is kept:
an epoch meets every picture once, so that whatever made room would be needed again before what took it.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import logging
import os
import shutil
import struct
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import PIL
import torch
from numpy.typing import NDArray
from PIL import features

from robointervlm.core import coordinates
from robointervlm.core.coordinates import ImageSize
from robointervlm.core.errors import RecipeError, RoboInterError
from robointervlm.core.prompt import Picture
from robointervlm.core.sample import ImageRef
from robointervlm.data import images
from robointervlm.models.qwen2_5_vl import images as pictures
from robointervlm.models.qwen2_5_vl.images import PATCH, Grid, PixelLimits, patches

logger = logging.getLogger(__name__)

# Left free on the disk, whatever the limit: other things are written to it, checkpoints among them.
RESERVE_BYTES = 2_000_000_000
# Magic, then width and height of the stored picture, rows and columns of patches, checksum of all but itself.
_HEADER = struct.Struct("<8s5I")
_MAGIC = b"RIVLPIX1"
_PATCH_BYTES = 3 * PATCH * PATCH
# How old a temporary file, and a count of the folder that found it full, has to be before nobody is waited for.
_STALE_SECONDS = 3600


class Cut(NamedTuple):
    """A picture as the network takes it, still bytes: its stored size, its patches of shape (P, 588), their grid."""

    size: ImageSize
    patches: NDArray[np.uint8]
    grid: Grid


class PixelCounts(NamedTuple):
    """What became of pictures: found, made and kept, found damaged (and made again), made and not kept."""

    found: int = 0
    kept: int = 0
    damaged: int = 0
    left_out: int = 0

    def plus(self, other: PixelCounts) -> PixelCounts:
        return PixelCounts(*(mine + theirs for mine, theirs in zip(self, other, strict=True)))


Loaded = Picture | Cut


def cut(picture: Loaded, limits: PixelLimits) -> Cut:
    """The picture cut into patches, if it is not yet."""
    if isinstance(picture, Cut):
        return picture
    return Cut(ImageSize(picture.shape[1], picture.shape[0]), *patches(picture, limits))


def kept_bytes(grid: Grid) -> int:
    """How large the file of a picture with this grid is."""
    return _HEADER.size + grid.rows * grid.columns * _PATCH_BYTES


@dataclass
class PixelCache:
    """The patches of pictures in `folder`, which holds at most `limit_bytes`. Each process counts for itself."""

    folder: Path
    limit_bytes: int
    _counts: Counter[str] = field(default_factory=Counter)
    _closed: bool = False

    @classmethod
    def opened(cls, folder: Path, limit_gb: float) -> PixelCache:
        """The cache in this folder, made if it is not there. Raises `RecipeError` if it cannot be written to."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=folder, suffix=".tmp"):
                pass
        except OSError as error:
            raise RecipeError(
                f"data.pixel_cache={folder} cannot be written to: {error.strerror or error}. Choose another folder."
            ) from error
        return cls(folder, int(limit_gb * 1e9))

    def cut(self, ref: ImageRef, limits: PixelLimits) -> Cut:
        """The picture's patches, from the cache if they are there. Raises as `images.load` does."""
        stored = images.StoredPicture.read(ref)
        digest = stored.digest()
        path = self._place(digest, limits)
        found = self._found(path, digest)
        if found is not None:
            self._counts["found"] += 1
            return found
        made = cut(stored.decoded(), limits)
        self._counts["kept" if self._keep(path, digest, made) else "left_out"] += 1
        return made

    def counts(self) -> PixelCounts:
        """What this process did since it was asked last."""
        counted, self._counts = PixelCounts(**self._counts), Counter()
        return counted

    def _place(self, digest: str, limits: PixelLimits) -> Path:
        kind = f"{version()}-{limits.min_pixels}-{limits.max_pixels}"
        return self.folder / kind / digest[:2] / f"{digest[2:]}.pixels"

    def _found(self, path: Path, digest: str) -> Cut | None:
        """What the file holds; None if it is not there, or damaged, which is counted."""
        try:
            content = np.fromfile(path, dtype=np.uint8)
        except FileNotFoundError:
            return None
        except OSError as error:
            reason = error.strerror or str(error)
        else:
            if (held := _parsed(content, digest)) is not None:
                return held
            reason = "its checksum is another one"
        self._counts["damaged"] += 1
        logger.warning("kept pixels %s are damaged (%s); they are made again", path, reason)
        return None

    def _keep(self, path: Path, digest: str, made: Cut) -> bool:
        """Whether the patches are in the cache now."""
        if self._closed:
            return False
        size = kept_bytes(made.grid)
        try:
            if shutil.disk_usage(self.folder).free < RESERVE_BYTES + size:
                return self._close(f"its disk has less than {RESERVE_BYTES / 1e9:g} GB left")
            if not self._reserve(size):
                return self._close(f"it holds data.pixel_cache_gb={self.limit_bytes / 1e9:g}")
            path.parent.mkdir(parents=True, exist_ok=True)
            _write(path, _headed(digest, made))
        except OSError as error:
            return self._close(error.strerror or str(error))
        return True

    def _close(self, reason: str) -> bool:
        self._closed = True
        logger.warning(
            "no more pixels are kept in %s: %s; this process makes the others each time it needs them",
            *(self.folder, reason),
        )
        return False

    def _reserve(self, size: int) -> bool:
        """Whether there is room for so many bytes more, which are the caller's then.

        The sum in the file `size` may be too high, by what a killed process had reserved or somebody deleted: before
        it counts as full all files are looked at, at most once an hour.
        """
        with _locked(self.folder / "size") as descriptor:
            used, counted = _numbers(os.pread(descriptor, 64, 0))
            if used + size > self.limit_bytes and time.time() - counted > _STALE_SECONDS:
                used, counted = self._counted(), int(time.time())
            fits = used + size <= self.limit_bytes
            os.pwrite(descriptor, f"{used + size * fits:24d} {counted:24d}\n".encode(), 0)
        return fits

    def _counted(self) -> int:
        """The bytes of all files; what killed processes left is removed."""
        total = 0
        for path in self.folder.rglob("*"):
            with contextlib.suppress(FileNotFoundError):
                status = path.stat()
                if path.suffix == ".tmp" and time.time() - status.st_mtime > _STALE_SECONDS:
                    path.unlink()
                elif path.suffix in {".tmp", ".pixels"}:
                    total += status.st_size
        return total


@functools.cache
def version() -> str:
    """A short hash of everything that decides which bytes a picture is cut into, beside the limits."""
    # The code is read rather than given a number that somebody has to remember. torch resizes by the processor's own
    # instructions, which may round differently.
    parts = [Path(str(module.__file__)).read_text(encoding="utf-8") for module in (images, pictures, coordinates)]
    parts += [torch.__version__, torch.backends.cpu.get_cpu_capability(), PIL.__version__]
    parts += [str(features.version(name)) for name in ("libjpeg_turbo", "jpg", "zlib", "webp")]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]


def room_for(references: Iterable[ImageRef], limits: PixelLimits) -> int:
    """How many bytes the files of these pictures take, by their headers; what is missing or damaged takes none."""
    total = 0
    for reference in references:
        with contextlib.suppress(RoboInterError):
            total += kept_bytes(limits.grid(images.size(reference)))
    return total


def _headed(digest: str, made: Cut) -> bytes:
    """The content of the file."""
    body = made.patches.tobytes()
    numbers = (*made.size, made.grid.rows, made.grid.columns)
    return _HEADER.pack(_MAGIC, *numbers, _checksum(digest, numbers, body)) + body


def _parsed(content: NDArray[np.uint8], digest: str) -> Cut | None:
    """What a file holds; None if it is not whole, or that of another picture."""
    if len(content) < _HEADER.size:
        return None
    magic, *numbers, checksum = _HEADER.unpack_from(content.data)
    body = content[_HEADER.size :]
    width, height, rows, columns = numbers
    if (
        magic != _MAGIC
        or len(body) != rows * columns * _PATCH_BYTES
        or checksum != _checksum(digest, numbers, body.data)
    ):
        return None
    return Cut(ImageSize(width, height), body.reshape(rows * columns, _PATCH_BYTES), Grid(1, rows, columns))


def _checksum(digest: str, numbers: Sequence[int], body: bytes | memoryview) -> int:
    return zlib.crc32(body, zlib.crc32(f"{digest} {list(numbers)}".encode()))


def _write(path: Path, content: bytes) -> None:
    """Write beside the place and rename. Not synced: after a cut of the power the checksum tells."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    try:
        with os.fdopen(descriptor, "wb") as opened:
            opened.write(content)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _numbers(line: bytes) -> tuple[int, int]:
    """The sum and the time of the last count in the file `size`; more than any limit, never counted, if it has none."""
    try:
        used, counted = (int(number) for number in line.split())
    except ValueError:
        return 2**62, 0
    return used, counted


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[int]:
    """The file opened, and held by one process at a time."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        # Where a file system has no locks the sum may come out a little low, never what is kept.
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)
