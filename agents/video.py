"""Write episodes as mp4 or gif videos; add captions to frames and place frames side by side."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import imageio.v2
import imageio.v3
import numpy as np
from jaxtyping import UInt8

Frame = UInt8[np.ndarray, "_ _ 3"]

_LINE_HEIGHT = 18  # pixels, at _FONT_SCALE
_FONT_SCALE = 0.45
_TEXT_COLOR = (235, 235, 235)


def write_video(path: str | Path, frames: Iterable[Frame], fps: float) -> None:
    """Write RGB frames of equal shape as a ``.gif`` or as an ``.mp4`` (H.264, for browsers).

    The video is first written to a temporary file in the folder of `path`. The complete file is
    then renamed to `path`, so that `path` never holds an incomplete video. Frames of an mp4 are
    written one at a time, but all frames of a gif are held in memory first.

    Raises ValueError if `path` ends neither in .mp4 nor in .gif, or if there are no frames.
    """
    path = Path(path)
    if path.suffix not in (".mp4", ".gif"):
        raise ValueError(f"expected a video name ending in .mp4 or .gif, got {path.name!r}")
    iterator = iter(frames)
    first = next(iterator, None)
    if first is None:
        raise ValueError(f"expected at least 1 frame to write to {path}, got none")
    unfinished = path.with_name(f".{path.stem}.part{path.suffix}")
    try:
        if path.suffix == ".mp4":
            _write_mp4(unfinished, itertools.chain([first], iterator), fps)
        else:
            imageio.v3.imwrite(
                unfinished,
                np.stack([first, *iterator]),
                plugin="pillow",
                duration=1000 / fps,
                loop=0,
            )
        with unfinished.open("rb+") as file:
            os.fsync(file.fileno())  # otherwise a power cut may leave the name without the video
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def caption(frame: Frame, lines: Sequence[str]) -> Frame:
    """Add a black strip with the lines of text above the frame.

    Text that is wider than the frame is cut.
    """
    strip = np.zeros((_LINE_HEIGHT * len(lines) + 4, frame.shape[1], 3), dtype=np.uint8)
    for row, line in enumerate(lines):
        origin = (4, _LINE_HEIGHT * (row + 1) - 4)
        cv2.putText(
            strip, line, origin, cv2.FONT_HERSHEY_SIMPLEX, _FONT_SCALE, _TEXT_COLOR, 1, cv2.LINE_AA
        )
    return np.concatenate([strip, frame])


def side_by_side(frames: Sequence[Frame], labels: Sequence[str], height: int = 256) -> Frame:
    """Scale the frames to `height` pixels, and place them from left to right below their labels.

    Frames are enlarged without interpolation, so that each pixel of the agent's 64 x 64 frames
    stays visible.

    Raises ValueError if there are no frames, or if the numbers of labels and frames differ.
    """
    if len(frames) != len(labels) or not frames:
        raise ValueError(
            f"expected one label per frame, got {len(frames)} frames and {len(labels)} labels"
        )
    panels = []
    for frame, label in zip(frames, labels, strict=True):
        width = max(1, round(frame.shape[1] * height / frame.shape[0]))
        interpolation = cv2.INTER_NEAREST if height >= frame.shape[0] else cv2.INTER_AREA
        scaled = cv2.resize(frame, (width, height), interpolation=interpolation)
        panels.append(caption(scaled.astype(np.uint8), [label]))
    return np.concatenate(panels, axis=1)


def _write_mp4(path: Path, frames: Iterable[Frame], fps: float) -> None:
    writer = imageio.v2.get_writer(
        path,
        format="FFMPEG",
        fps=fps,
        codec="libx264",
        pixelformat="yuv420p",
        macro_block_size=1,  # 16 would resize every frame; sizes are made even below
        ffmpeg_log_level="error",
    )
    with contextlib.closing(writer):  # the writer's own `with` leaves ffmpeg running on an error
        for frame in frames:
            # yuv420p stores one color for 2 x 2 pixels: an odd size gets a repeated edge.
            odd = [(0, size % 2) for size in frame.shape[:2]]
            writer.append_data(np.pad(frame, [*odd, (0, 0)], mode="edge"))
