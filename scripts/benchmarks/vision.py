"""V's speeds, training and encoding, each kind's beside the paper's network.

Contenders take turns on the same frames, one thread each; a figure is the median over the turns.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from envs.make import make_env
from envs.tasks import DEFAULT_ENV_ID
from worldmodels.vision import (
    CategoricalVAEConfig,
    VAEConfig,
    VisionConfig,
    VQVAEConfig,
    make_vision,
)

FSQ = VQVAEConfig(quantizer="fsq")
KINDS: dict[str, VisionConfig] = {
    "VAE, paper's network": VAEConfig(),
    "VAE, lean": VAEConfig(network="lean"),
    "VQ 4x4, K = 256": VQVAEConfig(),
    "FSQ 4x4, K = 240": FSQ,
    "VQ 8x8, K = 256": VQVAEConfig(grid=8),
    "FSQ 8x8, K = 240": replace(FSQ, grid=8),
    "categorical 4x4, score, 4 draws": CategoricalVAEConfig(),
}


class Contender:
    """One V: its optimizer step and its encoder, timed in turns."""

    def __init__(self, config: VisionConfig, frames: Tensor, batch_size: int) -> None:
        torch.manual_seed(0)
        self.vision = make_vision(config)
        self.vision.init_from_data(frames)
        self.parameters = sum(p.numel() for p in self.vision.parameters())
        self.rates: dict[str, list[float]] = {"train": [], "encode": [], "decode": []}
        self._optimizer = torch.optim.Adam(self.vision.parameters(), lr=1e-3)
        self._batches = torch.split(frames, batch_size)
        self._generator = torch.Generator().manual_seed(0)

    def take_turn(self, seconds: float) -> None:
        self.vision.train()
        self._time("train", self._train, seconds)
        self.vision.eval()
        with torch.no_grad():
            self._time("encode", self.vision.encode, seconds)
            latents = [self.vision.mode(self.vision.encode(b)) for b in self._batches]
            self._time("decode", self.vision.decode, seconds, latents)

    def rate(self, what: str) -> float:
        return statistics.median(self.rates[what])

    def _train(self, batch: Tensor) -> None:
        loss, _ = self.vision.loss(batch, self._generator)
        self._optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        self._optimizer.step()

    def _time(
        self,
        what: str,
        call: Callable[[Tensor], Any],
        seconds: float,
        batches: list[Tensor] | None = None,
    ) -> None:
        batches = batches or list(self._batches)
        call(batches[0])  # not timed: buffers are made anew after another contender's turn
        images, start = 0, time.perf_counter()
        while time.perf_counter() - start < seconds:
            batch = batches[images // len(batches[0]) % len(batches)]
            call(batch)
            images += len(batch)
        self.rates[what].append(images / (time.perf_counter() - start))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--turns", type=int, default=7, help="of every contender (7)")
    parser.add_argument("--seconds", type=float, default=1.0, help="a turn and figure (1)")
    parser.add_argument("--batch-size", type=int, default=64, help="images per step (64)")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure, print the table, return its numbers."""
    torch.set_num_threads(1)
    frames = some_frames(8 * arguments.batch_size)
    contenders = {
        name: Contender(config, frames, arguments.batch_size) for name, config in KINDS.items()
    }
    for _ in range(arguments.turns):
        for contender in contenders.values():
            contender.take_turn(arguments.seconds)
    paper = next(iter(contenders.values()))
    rows = [
        {
            "name": name,
            "parameters": contender.parameters,
            **{f"{what}_images_a_second": contender.rate(what) for what in contender.rates},
            **{f"{what}_ratio": contender.rate(what) / paper.rate(what) for what in paper.rates},
        }
        for name, contender in contenders.items()
    ]
    show(rows)
    return {
        "versions": {name: version(name) for name in ("torch", "vector-quantize-pytorch")},
        "turns": arguments.turns,
        "seconds_a_turn": arguments.seconds,
        "batch_size": arguments.batch_size,
        "rows": rows,
    }


def some_frames(count: int) -> Tensor:
    """Frames of a random drive, every fourth one."""
    env = make_env(DEFAULT_ENV_ID)
    random = np.random.default_rng(0)
    frames: list[np.ndarray] = []
    while len(frames) < count:
        frame, _ = env.reset(seed=len(frames))
        for step in range(400):
            if step % 4 == 0:
                frames.append(frame.copy())
            action = random.uniform((-1, 0, 0), (1, 1, 0.1)).astype(np.float32)
            frame, *_ = env.step(action)
    env.close()
    return torch.from_numpy(np.stack(frames[:count]))


def show(rows: list[dict[str, Any]]) -> None:
    table = Table(title="images per second on one core, and x the paper's network")
    for column in ("V", "parameters", "training", "x", "encoding", "x", "decoding", "x"):
        table.add_column(column, justify="left" if column == "V" else "right")
    for row in rows:
        cells = []
        for what in ("train", "encode", "decode"):
            cells += [f"{row[f'{what}_images_a_second']:,.0f}", f"{row[f'{what}_ratio']:.1f}"]
        table.add_row(row["name"], f"{row['parameters']:,}", *cells)
    Console(width=120).print(table)
