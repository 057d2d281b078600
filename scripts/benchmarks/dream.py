"""Speed of the dream for each kind of M, compared with a plain PyTorch model.

The contenders take turns, and each steps a batch of dreams. Each number is the median over the
turns.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Categorical, MixtureSameFamily, Normal

from benchmarks.turns import print_table, steps_per_second, take_turns
from worldmodels.dream.model import DreamModel, DreamState
from worldmodels.memory.training import MemoryModelConfig, new_memory
from worldmodels.presets import DEMO
from worldmodels.vision import VAEConfig, VisionConfig, VQVAEConfig, make_vision

NUM_LATENTS, NUM_ACTIONS, NUM_HIDDEN, NUM_MIXTURES = 32, 3, 256, 5
PAPER = "MDN-RNN, paper's"

# Makes one agent step in every dream, from the state after the last step.
Step = Callable[[], Any]


class PlainDream(nn.Module):
    """The paper's M, written with torch's own modules, for comparison with our M.

    Without `at_once`, this model draws a component, and then draws the latent from the Normal of
    this component. With `at_once`, the model draws from a `MixtureSameFamily`, which draws a latent
    from every component and then selects one of these latents.
    """

    def __init__(self, at_once: bool) -> None:
        super().__init__()
        self.at_once = at_once
        self.cell = nn.LSTMCell(NUM_LATENTS + NUM_ACTIONS, NUM_HIDDEN)
        self.mixture = nn.Linear(NUM_HIDDEN, 3 * NUM_LATENTS * NUM_MIXTURES)
        self.outcome = nn.Linear(NUM_HIDDEN, 2)

    def forward(
        self, z: Tensor, action: Tensor, state: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, tuple[Tensor, Tensor], Tensor, Tensor]:
        """Return the next latent, the next state, the reward, and the probability of an end."""
        h, c = self.cell(torch.cat([z, action], -1), state)
        output = self.mixture(h).view(-1, 3, NUM_LATENTS, NUM_MIXTURES)
        logits, mu, log_sigma = output.unbind(1)
        if self.at_once:
            z = MixtureSameFamily(Categorical(logits=logits), Normal(mu, log_sigma.exp())).sample()
        else:
            k = Categorical(logits=logits).sample()[..., None]
            mu, log_sigma = mu.gather(-1, k)[..., 0], log_sigma.gather(-1, k)[..., 0]
            z = Normal(mu, log_sigma.exp()).sample()
        reward, end_logit = self.outcome(h).unbind(-1)
        return z, (h, c), reward, end_logit.sigmoid()


def plain_step(batch: int, device: str, *, at_once: bool) -> Step:
    model = PlainDream(at_once).to(device)
    z = torch.randn(batch, NUM_LATENTS, device=device)
    action = torch.rand(batch, NUM_ACTIONS, device=device)
    state = (torch.zeros(batch, NUM_HIDDEN, device=device),) * 2

    def step() -> None:
        nonlocal z, state
        z, state, _, _ = model(z, action, state)

    return step


def dream_step(
    vision_config: VisionConfig, model: MemoryModelConfig, batch: int, device: str
) -> Step:
    vision = make_vision(vision_config)
    memory = new_memory(replace(DEMO.memory, model=model), vision, NUM_ACTIONS)
    dream = DreamModel(vision.to(device), memory.to(device))
    state = some_states(dream, batch)
    action = torch.rand(batch, NUM_ACTIONS, device=device)
    generator = torch.Generator(device).manual_seed(0)

    def step() -> None:
        nonlocal state
        state, _ = dream.step(state, action, generator)

    return step


def some_states(dream: DreamModel, batch: int) -> DreamState:
    """Return start states from random frames, which suffice for measuring speed."""
    frames = torch.randint(256, (batch, 64, 64, 3), dtype=torch.uint8, device=dream.device)
    latent = dream.vision.mode(dream.vision.encode(frames))
    return DreamState(latent, dream.memory.initial(batch), torch.ones(batch, device=dream.device))


def products_step(batch: int, device: str) -> Step:
    """Return a step that computes only the matrix products of the paper's M."""
    inputs = torch.randn(batch, NUM_LATENTS + NUM_ACTIONS + NUM_HIDDEN, device=device)
    hidden = torch.randn(batch, NUM_HIDDEN, device=device)
    to_gates = torch.randn(inputs.shape[1], 4 * NUM_HIDDEN, device=device)
    to_mixture = torch.randn(NUM_HIDDEN, 3 * NUM_LATENTS * NUM_MIXTURES, device=device)
    return lambda: (inputs @ to_gates, hidden @ to_mixture)


PAPERS = MemoryModelConfig(num_hidden=NUM_HIDDEN, num_mixtures=NUM_MIXTURES)
LEAN = MemoryModelConfig(num_hidden=128, num_mixtures=1, predict_change=True)
FSQ, VQ = VQVAEConfig(quantizer="fsq"), VQVAEConfig(quantizer="vq")
# V and the model of M over its latents; V itself is not part of a step.
KINDS: dict[str, tuple[VisionConfig, MemoryModelConfig]] = {
    PAPER: (VAEConfig(), PAPERS),
    "MDN-RNN, lean": (VAEConfig(), LEAN),
    "16 FSQ codes, K = 240, paper's LSTM": (FSQ, PAPERS),
    "16 VQ codes, K = 256, paper's LSTM": (VQ, PAPERS),
    "16 FSQ codes, K = 240, lean": (FSQ, LEAN),
    "16 VQ codes, K = 256, lean": (VQ, LEAN),
}

OPTIONS = {
    "--turns": (15, "turns per contender"),
    "--seconds": (0.5, "seconds per turn"),
    "--batch": (1024, "dreams per step"),
    "--threads": (2, "torch's threads on a CPU"),
    "--device": ("cpu", "cpu or cuda"),
}
PACKAGES = ("torch",)


@torch.no_grad()
def run(arguments: argparse.Namespace) -> dict[str, Any]:
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    batch, device = arguments.batch, arguments.device
    steps = {
        "plain PyTorch, LSTMCell and torch.distributions": plain_step(batch, device, at_once=False),
        "the same, MixtureSameFamily": plain_step(batch, device, at_once=True),
        **{name: dream_step(*kind, batch, device) for name, kind in KINDS.items()},
        "two matrix products alone, paper's": products_step(batch, device),
    }
    clock = partial(now, device)
    turns = [partial(steps_per_second, step, arguments.seconds, clock) for step in steps.values()]
    rates = take_turns(turns, arguments.turns)
    peer, paper = rates[0], rates[list(steps).index(PAPER)]
    rows = [
        {
            "name": name,
            "steps_per_second": float(np.median(each)),
            "dreams_per_second": batch * float(np.median(each)),
            "milliseconds": 1000 / float(np.median(each)),
            "peer_ratio": float(np.median(each / peer)),
            "paper_ratio": float(np.median(each / paper)),
        }
        for name, each in zip(steps, rates, strict=True)
    ]
    where = f"{arguments.threads} thread(s)" if device == "cpu" else device
    print_table(
        f"{batch:,} dreams at a time, {where}; x plain PyTorch, x the paper's M",
        {
            "name": ("M", ""),
            "dreams_per_second": ("dream steps per second", ",.0f"),
            "milliseconds": ("ms for all", ",.2f"),
            "peer_ratio": ("x plain", ".2f"),
            "paper_ratio": ("x paper's", ".2f"),
        },
        rows,
    )
    device = device if device == "cpu" else torch.cuda.get_device_name(device)
    return {"device": device, "rows": rows}


def now(device: str) -> float:
    if device != "cpu":
        torch.cuda.synchronize(device)
    return time.perf_counter()
