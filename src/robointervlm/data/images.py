"""Pictures from files nobody has to trust: JPEG, PNG and WebP inside a root folder, limited before they are decoded.

A picture is a file, a member of a zip archive that a path goes through as through a folder, or a frame of an episode.

A picture comes as it is stored: an EXIF rotation is NOT applied, because boxes, points and the `h`/`w` of annotations
refer to the stored pixels, and turning the picture would move it away from under them.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageFile, JpegImagePlugin, PngImagePlugin, WebPImagePlugin

from robointervlm.core.coordinates import ImageSize
from robointervlm.core.errors import DataError, RefusedError
from robointervlm.core.prompt import Picture
from robointervlm.core.sample import ImageRef
from robointervlm.data.archives import opened_archive, parts_of, split_at_archive
from robointervlm.data.episode_frames import EpisodeFrame

MAX_BYTES = 50_000_000
MAX_PIXELS = 50_000_000

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|(?:data|file|javascript):", re.IGNORECASE)
# NUL, and halves of surrogate pairs but those that Python stands for single bytes with.
_NO_PATH = re.compile("[\0\ud800-\udc7f\udd00-\udfff]")
# What a damaged or hostile file makes Pillow raise; everything else is a bug of ours and shows as one.
_DAMAGE = (OSError, SyntaxError, ValueError, TypeError, IndexError, EOFError, struct.error, OverflowError)


def locate(ref: ImageRef) -> Path:
    """The picture's file, certainly inside its root, symbolic links followed; it may be missing.

    With `follow_links` a link may lead out of the root, but the path as it is written may not. Raises `RefusedError`
    for an address, a path that leads out of the root, or one that is no path at all.
    """
    path = ref.path
    if not path or _NO_PATH.search(path) or len(path) > 4096:
        raise RefusedError(f"picture path {path[:80]!r} is empty, too long, or holds a NUL or half of a character.")
    if _ADDRESS.match(path):
        raise RefusedError(f"picture '{path[:200]}' is an address; only files under {ref.root} are read.")
    root = os.path.realpath(ref.root)
    # Path would not resolve `..` here, nor normalise what is to be checked.
    written = os.path.normpath(os.path.join(root, path))  # noqa: PTH118
    inside = os.path.commonpath((root, written)) == root
    if ref.follow_links and inside:
        # Of the path without its `..`: behind a link, that would be another folder.
        return Path(os.path.realpath(written))
    real = os.path.realpath(os.path.join(root, path))  # noqa: PTH118
    if os.path.commonpath((root, real)) == root:
        return Path(real)
    if inside:
        raise RefusedError(
            f"picture '{path}' leads outside its folder {ref.root}, through a symbolic link; to allow that, declare "
            "follow_links: --follow-links, `follow_links: true` in the catalog entry, or data.follow_links=true."
        )
    raise RefusedError(f"picture '{path}' leads outside its folder {ref.root}; only files under it are read.")


def size(ref: ImageRef) -> ImageSize:
    """The picture's stored size, from its header."""
    file, place = _stored(ref)
    with file, _checked(file, place) as image:
        return ImageSize(*image.size)


def load(ref: ImageRef) -> Picture:
    """The picture as RGB, shape (height, width, 3); transparency on white, 16 bits scaled to 8, the first frame.

    Raises `DataError` if it is missing or damaged, `RefusedError` if it is too large or not a picture of the root.
    """
    return StoredPicture.read(ref).decoded()


def files(ref: ImageRef) -> tuple[Path, ...]:
    """The files the picture is read from: its own, those of the archive it lies in, or those of its episode.

    They may be missing. Raises `RefusedError` as `locate` does, `DataError` where a part of an archive is missing.
    """
    frame = EpisodeFrame.read(ref.path)
    if frame is not None:
        return _episode_files(ref, frame)
    entered = split_at_archive(ref.root, ref.path)
    if entered is None:
        return (locate(ref),)
    outer, _ = entered
    return tuple(parts_of(locate(replace(ref, path=outer)) if outer else ref.root))


def content_and_size(ref: ImageRef) -> tuple[str, ImageSize]:
    """A hash of the picture's file, equal for the same file in different places, and its stored size.

    The file is opened once and not decoded. Raises as `load` does.
    """
    stored = StoredPicture.read(ref)
    return stored.digest(), stored.size()


@dataclass(frozen=True)
class StoredPicture:
    """A picture's encoded bytes, read once, and what to call their place; `swapped`: red and blue change places."""

    content: bytes
    place: str
    swapped: bool

    @classmethod
    def read(cls, ref: ImageRef) -> StoredPicture:
        """The bytes, not looked into. Raises `DataError` if they are missing, `RefusedError` if they are too many."""
        file, place = _stored(ref)
        frame = EpisodeFrame.read(ref.path)
        try:
            with file:
                return cls(file.read(), place, frame is not None and frame.swapped)
        except OSError as error:
            raise DataError(f"picture {place} cannot be read: {error.strerror or error}.") from error

    def digest(self) -> str:
        """A hash of the picture, equal for the same one in different places."""
        digest = hashlib.sha256(self.content)
        if self.swapped:
            digest.update(b"bgr")  # the same bytes are another picture then
        return digest.hexdigest()

    def size(self) -> ImageSize:
        """The stored size, from the header. Raises as `load` does."""
        with _checked(io.BytesIO(self.content), self.place) as image:
            return ImageSize(*image.size)

    def decoded(self) -> Picture:
        """The picture as `load` describes it."""
        with _checked(io.BytesIO(self.content), self.place) as image:
            picture = _rgb(image)
        return np.ascontiguousarray(picture[..., ::-1]) if self.swapped else picture


@contextmanager
def _checked(file: BinaryIO, place: str) -> Iterator[ImageFile.ImageFile]:
    """The picture with its header read and its limits checked, not decoded."""
    try:
        image = _header(file, place)
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise RefusedError(
                f"picture {place} has {width}x{height} pixels; the limit is {MAX_PIXELS // 10**6} million."
            )
        yield image
    except Image.DecompressionBombError as error:  # a WebP canvas, which Pillow looks at itself
        raise RefusedError(f"picture {place} is too large: {error}") from error
    except _DAMAGE as error:
        raise DataError(f"picture {place} is damaged: {error}.") from error


def _stored(ref: ImageRef) -> tuple[BinaryIO, str]:
    """The picture's encoded bytes, wherever they are kept, and what to call the place."""
    frame = EpisodeFrame.read(ref.path)
    if frame is not None:
        meta, data = _episode_files(ref, frame)
        return io.BytesIO(frame.content(meta, data, MAX_BYTES)), f"{ref.path} in {ref.root}"
    path = locate(ref)
    entered = split_at_archive(ref.root, ref.path)
    if entered is None:
        return _file(path), str(path)
    outer, name = entered
    archive = opened_archive(locate(replace(ref, path=outer)) if outer else ref.root)
    member = archive.find(name)
    if member is None:
        raise DataError(f"picture {name} is not in {archive.path}.")
    return io.BytesIO(archive.read(member, MAX_BYTES)), f"{name} in {archive.path}"


def _episode_files(ref: ImageRef, frame: EpisodeFrame) -> tuple[Path, Path]:
    meta, data = (locate(replace(ref, path=f"{frame.episode}/{file}")) for file in ("meta_info.pkl", "lmdb/data.mdb"))
    return meta, data


def _file(path: Path) -> BinaryIO:
    """The file opened, once it is known to be a file of a sensible size."""
    try:
        # Not blocking, so that a pipe in the place of a picture is refused instead of waited for.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise DataError(f"picture {path} cannot be opened: {error.strerror or error}.") from error
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode) and status.st_size <= MAX_BYTES:
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise RefusedError(f"picture {path} is not a regular file.")
    raise RefusedError(f"picture {path} has {status.st_size / 1e6:.0f} MB; the limit is {MAX_BYTES // 10**6}.")


def _header(file: BinaryIO, path: str) -> ImageFile.ImageFile:
    """The picture opened by what its first bytes are, whatever its name; nothing else of Pillow is tried."""
    start = file.read(12)
    file.seek(0)
    if start.startswith(b"\xff\xd8\xff"):
        return JpegImagePlugin.JpegImageFile(file, path)
    if start.startswith(b"\x89PNG\r\n\x1a\n"):
        return PngImagePlugin.PngImageFile(file, path)
    if start[:4] == b"RIFF" and start[8:] == b"WEBP":
        return WebPImagePlugin.WebPImageFile(file, path)
    found = "empty" if not start else f"not one (it starts with {start!r})"
    raise DataError(f"picture {path} is {found}; JPEG, PNG and WebP are read.")


def _rgb(image: Image.Image) -> Picture:
    image.load()
    if image.mode == "RGB" and "transparency" not in image.info:
        return np.array(image)
    if image.mode.startswith("I"):
        deep = np.asarray(image).astype(np.uint32)
        return np.repeat(np.minimum(deep >> 8, 255).astype(np.uint8)[..., None], 3, axis=2)
    if image.mode in {"RGBA", "LA", "PA", "La", "RGBa"} or "transparency" in image.info:
        # On white, as qwen-vl-utils does.
        layer = image.convert("RGBA")
        page = Image.new("RGB", layer.size, (255, 255, 255))
        page.paste(layer, mask=layer.getchannel("A"))
        return np.array(page)
    return np.array(image.convert("RGB"))
