"""Speeds of training, encoding and decoding for each kind of V, relative to the paper's network.

The contenders take turns on the same frames. Each contender runs in one thread. Each number is the
median over the turns.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agents.scripted_episodes import drive
from benchmarks.turns import print_table, steps_per_second, take_turns
from worldmodels.vision import (
    AnyVision,
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
# What is timed, and the heading of its column.
MEASURED = {"train": "training", "encode": "encoding", "decode": "decoding"}

OPTIONS = {
    "--turns": (7, "turns per contender"),
    "--seconds": (1.0, "seconds per turn and measurement"),
    "--batch-size": (64, "images per step"),
}
PACKAGES = ("torch", "vector-quantize-pytorch")


def contender(
    vision: AnyVision, batches: Sequence[Tensor], seconds: float
) -> Callable[[], list[float]]:
    """Return a function that measures V's images per second in training, encoding and decoding."""
    optimizer = torch.optim.Adam(vision.parameters(), lr=1e-3)
    generator = torch.Generator().manual_seed(0)

    def train(batch: Tensor) -> None:
        loss, _ = vision.loss(batch, generator)
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        optimizer.step()

    def rate(call: Callable[[Tensor], Any], inputs: Sequence[Tensor]) -> float:
        endless = itertools.cycle(inputs)
        return float(len(inputs[0]) * steps_per_second(lambda: call(next(endless)), seconds))

    def turn() -> list[float]:
        vision.train()
        training = rate(train, batches)
        vision.eval()
        with torch.no_grad():
            latents = [vision.mode(vision.encode(batch)) for batch in batches]
            return [training, rate(vision.encode, batches), rate(vision.decode, latents)]

    return turn


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    torch.set_num_threads(1)
    driven = drive(0).frames[::4]
    frames = torch.from_numpy(np.resize(driven, (8 * arguments.batch_size, *driven.shape[1:])))
    models = []
    for config in KINDS.values():
        torch.manual_seed(0)
        models.append(make_vision(config))
        models[-1].init_from_data(frames)
    batches = frames.split(arguments.batch_size)
    turns = [contender(vision, batches, arguments.seconds) for vision in models]
    rates = np.median(take_turns(turns, arguments.turns), axis=1)
    rows = []
    for name, vision, measured in zip(KINDS, models, rates, strict=True):
        row = {"name": name, "parameters": sum(p.numel() for p in vision.parameters())}
        for what, rate, papers in zip(MEASURED, measured.tolist(), rates[0].tolist(), strict=True):
            row |= {f"{what}_images_per_second": rate, f"{what}_ratio": rate / papers}
        rows.append(row)
    columns = {"name": ("V", ""), "parameters": ("parameters", ",")}
    for what, heading in MEASURED.items():
        columns[f"{what}_images_per_second"] = heading, ",.0f"
        columns[f"{what}_ratio"] = "x", ".1f"
    print_table("images per second on one core, and x the paper's network", columns, rows)
    return {"rows": rows}
