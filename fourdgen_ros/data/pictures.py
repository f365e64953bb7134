# SPDX-License-Identifier: Apache-2.0
"""Pictures as files: lossless depth and masks, and colour as video."""

from __future__ import annotations

import io
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fourdgen_ros.core.errors import InputError, MissingDependencyError, how_to_install

# Every second frame is whole, for random access; ultrafast keeps up with several cameras.
_X264 = {'preset': 'ultrafast', 'crf': '18', 'g': '2'}


def depth_bytes(depth: NDArray[np.uint16] | NDArray[np.float32]) -> bytes:
    """TIFF of (H, W) uint16 or float32, as upstream writes it: plain, parquet compresses it."""
    data = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(depth)).save(data, 'TIFF')
    return data.getvalue()


def mask_bytes(mask: NDArray[np.bool_]) -> bytes:
    """PNG of (H, W) bool, 255 where true."""
    data = io.BytesIO()
    Image.fromarray(mask.astype(np.uint8) * 255).save(data, 'PNG', compress_level=1)
    return data.getvalue()


def image_from_bytes(data: bytes, what: str) -> NDArray:
    """(H, W) of a depth image or mask as stored; raises InputError when the file is damaged."""
    try:
        image = Image.open(io.BytesIO(data), formats=('TIFF', 'PNG'))
        values = np.asarray(image)
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(what, expected='a TIFF or PNG image', got=str(error)) from error
    return values.astype(np.uint16) if image.mode.startswith('I') else values


def _av():
    try:
        import av
    except ImportError as error:
        raise MissingDependencyError(
            'videos', expected='the package av', got=str(error),
            hint=how_to_install('data')) from error
    return av


class VideoWriter:
    """H.264 in MP4, frame k at k / fps exactly."""

    def __init__(self, path: Path, fps: int, height: int, width: int) -> None:
        if height % 2 or width % 2:
            raise InputError(f'colour images for {path.name}', expected='an even height and width',
                             got=f'{width}x{height}', hint='H.264 asks for it.')
        self._file = _av().open(str(path), 'w')
        self._stream = self._file.add_stream('libx264', rate=fps, options=_X264)
        self._stream.width, self._stream.height = width, height
        self._stream.pix_fmt = 'yuv420p'
        self._stream.time_base = Fraction(1, fps)
        self._stream.codec_context.thread_count = 1
        self._count = 0

    def add(self, rgb: NDArray[np.uint8]) -> None:
        """Append one (H, W, 3) frame."""
        frame = _av().VideoFrame.from_numpy_buffer(np.ascontiguousarray(rgb), format='rgb24')
        frame.pts, self._count = self._count, self._count + 1
        self._file.mux(self._stream.encode(frame))

    def close(self) -> None:
        """Write what the encoder still holds, and the end of the file."""
        try:
            self._file.mux(self._stream.encode())
        finally:
            self._file.close()


def read_video(path: Path, first: int, count: int) -> Iterator[NDArray[np.uint8]]:
    """`count` frames (H, W, 3) uint8 RGB from frame `first` on.

    Raises InputError when the file is damaged or has fewer.
    """
    av, seen = _av(), 0
    try:
        with av.open(str(path)) as file:
            file.streams.video[0].thread_type = 'NONE'
            for k, frame in enumerate(file.decode(video=0)):
                if k >= first + count:
                    return
                if k >= first:
                    yield frame.to_ndarray(format='rgb24')
                    seen += 1
    except (OSError, ValueError, IndexError) as error:  # FFmpeg's errors are some of these
        raise InputError(f'video {path}', expected='an MP4 file', got=str(error)) from error
    if seen < count:
        raise InputError(f'video {path}', expected=f'{first + count} frames', got=f'{first + seen}')
