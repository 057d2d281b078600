"""The dream's speed, each M's beside a plain PyTorch one's.

Contenders take turns at steps of so many dreams; a figure is the median over the turns.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.distributions import Categorical, MixtureSameFamily, Normal

from worldmodels.dream.model import DreamModel, DreamState
from worldmodels.memory import CodeRNNConfig, MDNRNNConfig, make_memory
from worldmodels.vision import VAEConfig, VQVAEConfig, make_vision

NUM_LATENTS, NUM_ACTIONS, NUM_HIDDEN, NUM_MIXTURES = 32, 3, 256, 5
PEER, PAPER = "plain PyTorch, LSTMCell and torch.distributions", "MDN-RNN, paper's"

# One agent step in every dream, from wherever the last one led.
Step = Callable[[], Any]


class PlainDream(nn.Module):
    """The paper's M as one would write it with what torch has: the named peer.

    It draws the component and then from its Normal; `at_once` from a `MixtureSameFamily`, which
    draws from all of them and then chooses.
    """

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(NUM_LATENTS + NUM_ACTIONS, NUM_HIDDEN)
        self.mixture = nn.Linear(NUM_HIDDEN, 3 * NUM_LATENTS * NUM_MIXTURES)
        self.outcome = nn.Linear(NUM_HIDDEN, 2)

    def forward(
        self, z: Tensor, action: Tensor, state: tuple[Tensor, Tensor], *, at_once: bool = False
    ) -> tuple[Tensor, tuple[Tensor, Tensor], Tensor, Tensor]:
        """The next latent and state, the reward, and the probability that the episode ends."""
        h, c = self.cell(torch.cat([z, action], -1), state)
        output = self.mixture(h).view(-1, 3, NUM_LATENTS, NUM_MIXTURES)
        logits, mu, log_sigma = output.unbind(1)
        if at_once:
            mixture = MixtureSameFamily(Categorical(logits=logits), Normal(mu, log_sigma.exp()))
            z = mixture.sample()
        else:
            k = Categorical(logits=logits).sample()[..., None]
            mu, log_sigma = mu.gather(-1, k)[..., 0], log_sigma.gather(-1, k)[..., 0]
            z = Normal(mu, log_sigma.exp()).sample()
        reward, end_logit = self.outcome(h).unbind(-1)
        return z, (h, c), reward, end_logit.sigmoid()


def plain_step(batch: int, device: str, *, at_once: bool = False) -> Step:
    model = PlainDream().to(device)
    z = torch.randn(batch, NUM_LATENTS, device=device)
    zeros = torch.zeros(batch, NUM_HIDDEN, device=device)
    action = torch.rand(batch, NUM_ACTIONS, device=device)
    state = (zeros, zeros)

    def step() -> None:
        nonlocal z, state
        z, state, _, _ = model(z, action, state, at_once=at_once)

    return step


def dream_step(config: MDNRNNConfig | CodeRNNConfig, batch: int, device: str) -> Step:
    generator = torch.Generator(device).manual_seed(0)
    if isinstance(config, MDNRNNConfig):
        memory = make_memory(config)
        latent = torch.randn(batch, config.num_latents)
    else:
        values = math.prod(config.digit_sizes)
        memory = make_memory(config, code_vectors=torch.randn(values, config.vector_size))
        latent = torch.randint(values, (batch, config.num_codes))
    # V is not part of a step: any will do.
    vision = make_vision(VAEConfig(network="lean"))
    dream = DreamModel(vision.to(device), memory.to(device))
    weight = torch.ones(batch, device=device)
    state = DreamState(latent.to(device), memory.initial(batch), weight)
    action = torch.rand(batch, NUM_ACTIONS, device=device)

    def step() -> None:
        nonlocal state
        state, _ = dream.step(state, action, generator)

    return step


def products_step(batch: int, device: str) -> Step:
    """The matrix products that the paper's M cannot do without."""
    inputs = torch.randn(batch, NUM_LATENTS + NUM_ACTIONS + NUM_HIDDEN, device=device)
    hidden = torch.randn(batch, NUM_HIDDEN, device=device)
    to_gates = torch.randn(inputs.shape[1], 4 * NUM_HIDDEN, device=device)
    to_mixture = torch.randn(NUM_HIDDEN, 3 * NUM_LATENTS * NUM_MIXTURES, device=device)
    return lambda: (inputs @ to_gates, hidden @ to_mixture)


def codes_config(quantizer: str, num_hidden: int = NUM_HIDDEN) -> CodeRNNConfig:
    vision = VQVAEConfig(quantizer=quantizer)
    return CodeRNNConfig(
        vision.num_codes,
        vision.digit_sizes,
        vision.vector_size,
        NUM_ACTIONS,
        num_hidden=num_hidden,
        num_mixtures=NUM_MIXTURES,
    )


KINDS: dict[str, MDNRNNConfig | CodeRNNConfig] = {
    PAPER: MDNRNNConfig(NUM_LATENTS, NUM_ACTIONS, num_hidden=NUM_HIDDEN, num_mixtures=NUM_MIXTURES),
    "MDN-RNN, lean": MDNRNNConfig(
        NUM_LATENTS, NUM_ACTIONS, num_hidden=128, num_mixtures=1, predict_change=True
    ),
    "16 FSQ codes, K = 240, paper's LSTM": codes_config("fsq"),
    "16 VQ codes, K = 256, paper's LSTM": codes_config("vq"),
    "16 FSQ codes, K = 240, lean": codes_config("fsq", 128),
    "16 VQ codes, K = 256, lean": codes_config("vq", 128),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--turns", type=int, default=15, help="of every contender (15)")
    parser.add_argument("--seconds", type=float, default=0.5, help="a turn (0.5)")
    parser.add_argument("--batch", type=int, default=1024, help="dreams per step (1024)")
    parser.add_argument("--threads", type=int, default=2, help="torch's, on a CPU (2)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (cpu)")


@torch.no_grad()
def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure, print the table, return its numbers."""
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    batch, device = arguments.batch, arguments.device
    steps = {
        PEER: plain_step(batch, device),
        "the same, MixtureSameFamily": plain_step(batch, device, at_once=True),
        **{name: dream_step(config, batch, device) for name, config in KINDS.items()},
        "two matrix products alone, paper's": products_step(batch, device),
    }
    rates: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(arguments.turns):
        for name, step in steps.items():
            rates[name].append(steps_a_second(step, arguments.seconds, device))
    # Ratios within a turn: what else the machine does comes and goes between turns.
    rows = [
        {
            "name": name,
            "steps_a_second": statistics.median(rates[name]),
            "dreams_a_second": batch * statistics.median(rates[name]),
            "peer_ratio": ratio(rates[name], rates[PEER]),
            "paper_ratio": ratio(rates[name], rates[PAPER]),
        }
        for name in steps
    ]
    show(rows, batch, f"{arguments.threads} thread(s)" if device == "cpu" else device)
    return {
        "versions": {"torch": version("torch")},
        "turns": arguments.turns,
        "seconds_a_turn": arguments.seconds,
        "batch": batch,
        "threads": arguments.threads,
        "device": device if device == "cpu" else torch.cuda.get_device_name(device),
        "rows": rows,
    }


def steps_a_second(step: Step, seconds: float, device: str) -> float:
    step()  # not timed: buffers are made anew after another contender's turn
    count, start = 0, now(device)
    while now(device) - start < seconds:
        for _ in range(4):
            step()
        count += 4
    return count / (now(device) - start)


def now(device: str) -> float:
    if device != "cpu":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def ratio(rates: list[float], others: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(rates, others, strict=True))


def show(rows: list[dict[str, Any]], batch: int, where: str) -> None:
    table = Table(title=f"{batch:,} dreams at a time, {where}; x plain PyTorch, x the paper's M")
    for column in ("M", "dream steps a second", "ms for all", "x plain", "x paper's"):
        table.add_column(column, justify="left" if column == "M" else "right")
    for row in rows:
        rate = row["steps_a_second"]
        table.add_row(
            row["name"],
            f"{row['dreams_a_second']:,.0f}",
            f"{1000 / rate:,.2f}",
            f"{row['peer_ratio']:.2f}",
            f"{row['paper_ratio']:.2f}",
        )
    Console(width=120).print(table)
