"""Ways to store an episode's frames: bytes, writing and reading time, side by side."""

from __future__ import annotations

import lzma
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import zstandard
from rich.console import Console
from rich.table import Table

from worldmodels.data.codec import LEVEL, compress_frames, decompress_frames

CHOSEN = f"zstd {LEVEL}, columns"

Frames = np.ndarray


@dataclass
class Codec:
    """One way to store an episode's frames, and what was measured of it."""

    name: str
    write: Callable[[Frames], Any]
    read: Callable[[Any, Frames], Frames]  # what was written, and frames of the shape to give
    writing: list[float] = field(default_factory=list)  # seconds, a turn each
    reading: list[float] = field(default_factory=list)
    num_bytes: int = 0

    def take_turn(self, episodes: list[Frames]) -> None:
        start = time.perf_counter()
        written = [self.write(frames) for frames in episodes]
        middle = time.perf_counter()
        read = [self.read(w, frames) for w, frames in zip(written, episodes, strict=True)]
        self.reading.append(time.perf_counter() - middle)
        self.writing.append(middle - start)
        for frames, back in zip(episodes, read, strict=True):
            assert np.array_equal(frames, back), f"{self.name} does not keep frames"
        self.num_bytes = sum(len(w) if isinstance(w, bytes) else sum(map(len, w)) for w in written)


def list_codecs() -> list[Codec]:
    """Frames as they are, as differences from the frame before, and column by column."""
    as_they_are, columns = (_same, _same), (_columns, _undo_columns)
    differences = (_differences, _undo_differences)
    return [
        Codec("PNG a frame", _write_png, _read_png),
        *(_codec(method, "", *as_they_are) for method in (*map(_zlib, (1, 6)), _lzma, _zstd(3))),
        *(_codec(method, ", differences", *differences) for method in (_zlib(1), _zstd(3))),
        *(
            _codec(method, ", columns", *columns)
            for method in (*map(_zlib, (1, 3, 6)), *map(_zstd, (1, 5)))
        ),
        Codec(CHOSEN, compress_frames, _read_ours),
    ]


def compare_codecs(episodes: list[Frames], turns: int) -> list[dict[str, Any]]:
    """A row a codec: its best turn, since what else the machine does only adds to it."""
    codecs = list_codecs()
    for _ in range(turns):
        for codec in codecs:
            codec.take_turn(episodes)
    count = sum(len(frames) for frames in episodes)
    raw = sum(frames.nbytes for frames in episodes)
    return [
        {
            "name": codec.name,
            "bytes_per_frame": codec.num_bytes / count,
            "ratio": raw / codec.num_bytes,
            "write_microseconds": 1e6 * min(codec.writing) / count,
            "read_microseconds": 1e6 * min(codec.reading) / count,
        }
        for codec in codecs
    ]


def print_codecs(rows: list[dict[str, Any]]) -> None:
    table = Table(title="driven CarRacing, 64 x 64 x 3, 12,288 bytes per frame")
    for heading in ("", "bytes a frame", "times smaller", "write, us", "read, us"):
        table.add_column(heading, justify="right" if heading else "left")
    for row in rows:
        numbers = (row["ratio"], row["write_microseconds"], row["read_microseconds"])
        style = "bold" if row["name"] == CHOSEN else None
        cells = (f"{number:.1f}" for number in numbers)
        table.add_row(row["name"], f"{row['bytes_per_frame']:,.0f}", *cells, style=style)
    Console(width=max(100, Console().width)).print(table)


@dataclass(frozen=True)
class Method:
    """A general compressor."""

    name: str
    compress: Callable[[bytes], bytes]
    decompress: Callable[[bytes], bytes]


def _zlib(level: int) -> Method:
    return Method(f"zlib {level}", lambda b: zlib.compress(b, level), zlib.decompress)


def _zstd(level: int) -> Method:
    compressor, decompressor = zstandard.ZstdCompressor(level=level), zstandard.ZstdDecompressor()
    return Method(f"zstd {level}", compressor.compress, decompressor.decompress)


_lzma = Method("lzma 0", lambda b: lzma.compress(b, preset=0), lzma.decompress)


def _codec(
    method: Method,
    suffix: str,
    arrange: Callable[[Frames], Frames],
    restore: Callable[[Frames, Frames], Frames],
) -> Codec:
    def read(content: bytes, like: Frames) -> Frames:
        return restore(np.frombuffer(method.decompress(content), np.uint8), like)

    return Codec(
        method.name + suffix, lambda frames: method.compress(arrange(frames).tobytes()), read
    )


def _same(content: Frames, like: Frames | None = None) -> Frames:
    return content if like is None else content.reshape(like.shape)


def _differences(frames: Frames) -> Frames:
    changed = frames.copy()
    changed[1:] ^= frames[:-1]
    return changed


def _undo_differences(content: Frames, like: Frames) -> Frames:
    frames = content.reshape(like.shape).copy()
    for now, before in zip(frames[1:], frames, strict=False):  # half the time of accumulate
        now ^= before
    return frames


def _columns(frames: Frames) -> Frames:
    return frames.transpose(0, 3, 2, 1)


def _undo_columns(content: Frames, like: Frames) -> Frames:
    count, height, width, channels = like.shape
    columns = content.reshape(count, channels, width, height)
    frames = np.empty_like(like)
    for channel in range(channels):
        frames[..., channel] = columns[:, channel].transpose(0, 2, 1)
    return frames


def _read_ours(content: bytes, like: Frames) -> Frames:
    frames = np.empty_like(like)
    decompress_frames(content, frames, len(frames))
    return frames


def _write_png(frames: Frames) -> list[bytes]:
    return [cv2.imencode(".png", frame)[1].tobytes() for frame in frames]


def _read_png(content: list[bytes], like: Frames) -> Frames:
    pictures = [cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR) for png in content]
    return np.stack([picture for picture in pictures if picture is not None])
