"""Compare codecs for the frames of episodes: bytes, time of writing and time of reading."""

from __future__ import annotations

import functools
import lzma
import time
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
from zstandard import ZstdCompressor, ZstdDecompressor

from benchmarks.turns import print_table, take_turns
from worldmodels.data.frame_codec import LEVEL, compress_frames, decompress_frames

CHOSEN = f"zstd {LEVEL}, columns"

Frames = np.ndarray
Write = Callable[[Frames], list[bytes]]
Read = Callable[[list[bytes], tuple[int, ...]], Frames]  # takes the bytes and the frames' shape


def compare_codecs(episodes: Sequence[Frames], turns: int) -> list[dict[str, Any]]:
    """Print and return one row per codec, with the codec's shortest times over all turns.

    The shortest time is the best estimate, because other programs on the machine can only add time.
    """
    contenders = [functools.partial(_turn, episodes, *codec) for codec in CODECS.values()]
    count = sum(map(len, episodes))
    rows = [
        {
            "name": name,
            "bytes_per_frame": num_bytes / count,
            "ratio": sum(frames.nbytes for frames in episodes) / num_bytes,
            "write_microseconds": 1e6 * writing / count,
            "read_microseconds": 1e6 * reading / count,
        }
        for name, (writing, reading, num_bytes) in zip(
            CODECS, take_turns(contenders, turns).min(axis=1).tolist(), strict=True
        )
    ]
    print_table(
        "driven CarRacing, 64 x 64 x 3, 12,288 bytes per frame",
        {
            "name": ("", ""),
            "bytes_per_frame": ("bytes per frame", ",.0f"),
            "ratio": ("times smaller", ".1f"),
            "write_microseconds": ("write, us", ".1f"),
            "read_microseconds": ("read, us", ".1f"),
        },
        rows,
        bold=CHOSEN,
    )
    return rows


def _turn(episodes: Sequence[Frames], write: Write, read: Read) -> tuple[float, float, int]:
    """Return the seconds of writing, the seconds of reading, and the number of written bytes."""
    start = time.perf_counter()
    written = [write(frames) for frames in episodes]
    middle = time.perf_counter()
    found = [read(each, frames.shape) for each, frames in zip(written, episodes, strict=True)]
    end = time.perf_counter()
    assert all(map(np.array_equal, episodes, found)), "a codec does not keep frames"
    return middle - start, end - middle, sum(len(part) for each in written for part in each)


def _codec(
    compress: Callable[[bytes], bytes], decompress: Callable[[bytes], bytes]
) -> tuple[Write, Read]:
    """Return a codec that compresses the bytes of frames with a general compressor."""

    def write(frames: Frames) -> list[bytes]:
        return [compress(frames.tobytes())]

    def read(content: list[bytes], shape: tuple[int, ...]) -> Frames:
        return np.frombuffer(decompress(*content), np.uint8).reshape(shape)

    return write, read


def _write_ours(frames: Frames) -> list[bytes]:
    return [compress_frames(frames)]


def _read_ours(content: list[bytes], shape: tuple[int, ...]) -> Frames:
    frames = np.empty(shape, np.uint8)
    decompress_frames(content[0], frames, len(frames))
    return frames


def _write_png(frames: Frames) -> list[bytes]:
    return [cv2.imencode(".png", frame)[1].tobytes() for frame in frames]


def _read_png(content: list[bytes], shape: tuple[int, ...]) -> Frames:
    pictures = (cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR) for png in content)
    return np.array(list(pictures))


CODECS: dict[str, tuple[Write, Read]] = {
    "PNG per frame": (_write_png, _read_png),
    "lzma 0": _codec(functools.partial(lzma.compress, preset=0), lzma.decompress),
    "zlib 6": _codec(functools.partial(zlib.compress, level=6), zlib.decompress),
    "zstd 3": _codec(ZstdCompressor(level=3).compress, ZstdDecompressor().decompress),
    CHOSEN: (_write_ours, _read_ours),
}
