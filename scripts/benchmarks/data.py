"""Stored episodes: codecs side by side, and V trained from a store far larger than memory.

Codecs take turns over frames of driven episodes. The store is a few of those, hard-linked as
often as asked; a child process opens it and trains the `cpu` preset's V on it, by the stage that
`wm train-vision` calls.
"""

from __future__ import annotations

import argparse
import dataclasses
import lzma
import multiprocessing
import os
import resource
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import gymnasium as gym
import numpy as np
import zstandard
from rich.console import Console
from rich.table import Table

import envs  # noqa: F401 (registers the id)
from agents.rollout import Rollout
from envs.scripted_driver import ScriptedDriver
from envs.tasks import DEFAULT_ENV_ID, task_for
from worldmodels.data.codec import LEVEL, compress_frames, decompress_frames
from worldmodels.data.store import EpisodeStore

STEPS = 1000
EPISODES = 4  # really driven
CHOSEN = f"zstd {LEVEL}, columns"
MEMORY_LIMIT = 2 * 2**30  # of a process that trains V, in bytes

Frames = np.ndarray


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--episodes", type=int, default=10_000, help="in the store (10,000)")
    parser.add_argument("--steps", type=int, default=1_200, help="of V's training (1,200)")
    parser.add_argument("--turns", type=int, default=3, help="of every codec (3)")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure, print the tables, return their numbers."""
    cv2.setNumThreads(1)
    driven = [drive(seed) for seed in range(EPISODES)]
    codecs = compare_codecs([rollout.frames for rollout in driven[:2]], arguments.turns)
    print_codecs(codecs)
    with tempfile.TemporaryDirectory() as folder:
        link_store(Path(folder) / "episodes", driven, arguments.episodes)
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, mp_context=spawn) as executor:
            training = executor.submit(train_from, Path(folder), arguments.steps).result()
    print_training(training)
    packages = ("numpy", "opencv-python-headless", "torch", "zstandard")
    return {
        "versions": {name: version(name) for name in packages},
        "codecs": codecs,
        "training": training,
    }


def drive(seed: int) -> Rollout:
    """An episode of the scripted driver, its frames repeated where the lap ends early."""
    env = gym.make(DEFAULT_ENV_ID)
    frame, _ = env.reset(seed=seed)
    driver = ScriptedDriver(env, top_speed=62.0, cornering=95.0)
    frames, actions, rewards, over = [np.array(frame)], [], [], False
    while len(rewards) < STEPS and not over:
        action = driver.act()
        frame, reward, terminated, truncated, _ = env.step(action)
        over = terminated or truncated
        frames.append(np.array(frame))
        actions.append(action)
        rewards.append(reward)
    env.close()
    return Rollout(
        frames=np.resize(np.stack(frames), (STEPS + 1, *frames[0].shape)),
        actions=np.resize(np.stack(actions), (STEPS, 3)),
        rewards=np.resize(np.array(rewards, np.float32), STEPS),
        terminated=False,
        truncated=True,
        env_id=DEFAULT_ENV_ID,
        seed=seed,
        policy="scripted driver",
        action_repeat=task_for(DEFAULT_ENV_ID).action_repeat,
    )


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
            "bytes_a_frame": codec.num_bytes / count,
            "ratio": raw / codec.num_bytes,
            "write_microseconds": 1e6 * min(codec.writing) / count,
            "read_microseconds": 1e6 * min(codec.reading) / count,
        }
        for codec in codecs
    ]


def link_store(folder: Path, driven: list[Rollout], episodes: int) -> None:
    """A store of so many episodes, in fact the same few again and again."""
    store = EpisodeStore(folder)
    for index, rollout in enumerate(driven):
        store.add(index, rollout, round=1)
    real = [episode.path for episode in store]
    for index in range(len(real), episodes):
        os.link(real[index % len(real)], folder / f"episode-{index:06d}.npz")


def train_from(folder: Path, steps: int) -> dict[str, Any]:
    """In a process of its own: open the store, train V from it, and weigh the process."""
    import worldmodels.stages.vision as stage
    from worldmodels.data.batches import FrameBatches
    from worldmodels.presets import preset_named
    from worldmodels.report import Report
    from worldmodels.run import Run, RunSettings

    batches: list[FrameBatches] = []

    class Watched(FrameBatches):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            batches.append(self)

    vars(stage)["FrameBatches"] = Watched
    run = Run(folder, new=RunSettings(DEFAULT_ENV_ID, "cpu", 0))
    run.create()
    start = time.perf_counter()
    episodes = len(run.store)
    opening = time.perf_counter() - start
    config = preset_named("cpu").vision(False).with_steps(steps)
    config = dataclasses.replace(
        config, fit=dataclasses.replace(config.fit, validate_every=10 * steps)
    )
    result = stage.train_vision(run, config, report=Report(quiet=True))
    train = max(batches, key=lambda each: each.num_frames)
    learned = steps * config.fit.batch_size / result["training_seconds"]
    reader = train.frames_read / train.seconds_read
    return {
        "episodes": episodes,
        "frames": (STEPS + 1) * episodes,
        "gigabytes_on_disk": sum(episode.num_bytes for episode in run.store) / 1e9,
        "open_seconds": opening,
        "steps": steps,
        "images_learned_a_second": learned,
        "images_read_a_second": reader,
        "times_v": reader / learned,
        "frames_decompressed_a_second": reader * train.stride,
        "waiting_share": train.seconds_waited / result["training_seconds"],
        "peak_megabytes": _peak_bytes() / 1e6,
    }


def print_codecs(rows: list[dict[str, Any]]) -> None:
    table = Table(title="driven CarRacing, 64 x 64 x 3, 12,288 bytes a frame")
    for heading in ("", "bytes a frame", "times smaller", "write, us", "read, us"):
        table.add_column(heading, justify="right" if heading else "left")
    for row in rows:
        numbers = (row["ratio"], row["write_microseconds"], row["read_microseconds"])
        style = "bold" if row["name"] == CHOSEN else None
        cells = (f"{number:.1f}" for number in numbers)
        table.add_row(row["name"], f"{row['bytes_a_frame']:,.0f}", *cells, style=style)
    Console(width=max(100, Console().width)).print(table)


def print_training(facts: dict[str, Any]) -> None:
    share, peak = facts["waiting_share"], facts["peak_megabytes"]
    for line in (
        f"{facts['episodes']:,} episodes, {facts['frames']:,} frames: opened in "
        f"{facts['open_seconds']:.1f} s, {facts['gigabytes_on_disk']:.1f} GB were they not links",
        f"V learned {facts['images_learned_a_second']:,.0f} images/s, every fourth frame; beside "
        f"it the reader gave {facts['images_read_a_second']:,.0f}: {facts['times_v']:.1f} times "
        "as many",
        f"waiting for frames, the first ones included: {share:.1%} of the training",
        f"peak memory of the process {peak:,.0f} MB, limit {MEMORY_LIMIT / 1e6:,.0f}",
    ):
        Console(highlight=False, soft_wrap=True).print(line)


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


def _peak_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
