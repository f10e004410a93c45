"""Frames of a video by their number: exactly those, in RGB."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from robointervlm.core.coordinates import ImageSize
from robointervlm.core.errors import DataError, RecipeError, RefusedError

if TYPE_CHECKING:
    from av.container import InputContainer

Picture = NDArray[np.uint8]
# A camera frame of 8192x8192; what is larger is no recording.
MAX_PIXELS = 8192 * 8192


class Video:
    """An open video file; a context manager. Raises `DataError` for a file that has no readable video.

    ``codec`` is the name of the format the stream says it has, ``frames`` their number as the file states it, or None.
    """

    def __init__(self, file: Path) -> None:
        try:
            import av  # noqa: PLC0415 - needs the extra `lerobot`
        except ModuleNotFoundError:
            raise RecipeError("videos need PyAV; install it with: pip install 'robointervlm[lerobot]'.") from None

        self.file = file
        self._errors: tuple[type[Exception], ...] = (av.FFmpegError, ValueError, EOFError)
        try:
            # Only a file: a crafted playlist could make the library open other files or addresses.
            self._container: InputContainer = av.open(str(file.absolute()), options={"protocol_whitelist": "file"})
        except (*self._errors, OSError) as error:
            raise DataError(f"{file} is no readable video: {_said(error)}.") from error
        streams = self._container.streams.video
        if not streams:
            self._container.close()
            raise DataError(f"{file} has no video in it.")
        self._stream = streams[0]
        context = self._stream.codec_context
        self.codec = str(context.codec.canonical_name)
        self.size = ImageSize(context.width, context.height)
        self.frames = self._stream.frames or None
        if self.size.width * self.size.height > MAX_PIXELS:
            self._container.close()
            raise RefusedError(f"{file} has frames of {self.size.width}x{self.size.height}; the limit is 8192x8192.")

    def __enter__(self) -> Video:
        return self

    def __exit__(self, *_: object) -> None:
        self._container.close()

    def pictures(self, numbers: Sequence[int], *, fps: float, begin_seconds: float = 0.0) -> list[Picture]:
        """The frames of these numbers, counted at ``fps`` from ``begin_seconds``; uint8 (height, width, 3), RGB each.

        Goes to the last key frame before each and decodes from there. Raises `DataError` if the file ends earlier, is
        damaged, or has no frame at the moment of one.
        """
        return [self._at(begin_seconds + number / fps, number, fps) for number in numbers]

    def _at(self, seconds: float, number: int, fps: float) -> Picture:
        base = float(self._stream.time_base or 0)
        if base <= 0:
            raise DataError(f"{self.file} has no time base, so its frames cannot be found.")
        begin = self._stream.start_time or 0
        half = 0.5 / fps
        try:
            self._container.seek(begin + int(seconds / base), stream=self._stream, backward=True)
            for frame in self._container.decode(self._stream):
                late = (frame.pts - begin) * base - seconds if frame.pts is not None else None
                if late is None or late < -half:
                    continue
                if late > half:
                    raise DataError(f"{self.file} has no frame {number}, at {seconds:.3f} s.")
                return self._rgb(frame)
        except self._errors as error:
            raise DataError(f"{self.file} is damaged at frame {number}: {_said(error)}.") from error
        raise DataError(f"{self.file} ends before frame {number}, at {seconds:.3f} s.")

    def _rgb(self, frame: Any) -> Picture:
        if (frame.width, frame.height) != self.size:
            raise DataError(f"{self.file} changes its size to {frame.width}x{frame.height} on the way.")
        picture: Picture = frame.to_ndarray(format="rgb24")
        return picture


def _said(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
