"""What M is worth on held-out episodes: nats per agent step, rewards and ends.

Passes through M move one part at a time to its device; a few numbers per agent step are kept, on
the CPU.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from worldmodels.data.sequences import PART_STEPS, SequenceBatch, Sequences
from worldmodels.memory import Memory
from worldmodels.memory.baselines import PersistenceCategorical, PersistenceGaussian
from worldmodels.memory.part_size import part_steps
from worldmodels.training.device import device_of
from worldmodels.training.fit import Metrics, mean_metrics, step_generator
from worldmodels.vision import VQVAE, Vision

SCORE_STEPS = 4_000


@torch.no_grad()
def held_out_metrics(memory: Memory, episodes: Sequences) -> Metrics:
    """M's loss over whole held-out episodes, each agent step counting alike."""
    memory.eval()
    generator = step_generator(0, 0, device_of(memory))
    parts, weights = [], []
    for on_cpu in _parts(memory, episodes):
        part = on_cpu.to(device_of(memory))
        loss, metrics = memory.loss(part, generator)
        parts.append({"loss": float(loss), **{k: float(v) for k, v in metrics.items()}})
        weights.append(float(part.mask.sum()))
    total = sum(weights)
    return mean_metrics(
        [
            {name: value * weight * len(parts) / total for name, value in part.items()}
            for part, weight in zip(parts, weights, strict=True)
        ]
    )


@torch.no_grad()
def score_memory(
    vision: Vision, memory: Memory, train: Sequences, held_out: Sequences
) -> dict[str, Any]:
    """Held-out nats per agent step beside "the next latent is this one", reward R2 and end AUC.

    The baseline's spread is fitted on the training episodes. `end_auc` is the chance that M gives
    an agent step that ended an episode a higher probability of it than one that did not; None where
    no held-out episode ended.
    """
    metrics = held_out_metrics(memory, held_out)
    nll = mean_nll(vision, memory, held_out)
    baseline: PersistenceGaussian | PersistenceCategorical
    if isinstance(vision, VQVAE):
        pairs = _pairs(vision, train)
        baseline = PersistenceCategorical.fit_parts(pairs, vision.config.num_values)
    else:
        baseline = PersistenceGaussian.fit_parts(_pairs(vision, train))
    rewards, expected, end_chances, terminated = _outcomes(vision, memory, held_out)
    variance = float(rewards.var(correction=0))
    return {
        "nll": nll,
        "bits_per_frame": nll / math.log(2.0),
        "persistence_nll": baseline.nll_parts(_pairs(vision, held_out)),
        "reward_nll": metrics["reward_nll"],
        "reward_r2": 1.0 - float((expected - rewards).square().mean()) / max(variance, 1e-9),
        "end_auc": area_under_roc(end_chances, terminated),
        "held_out_agent_steps": len(terminated),
    }


@torch.no_grad()
def mean_nll(vision: Vision, memory: Memory, episodes: Sequences) -> float:
    """Nats per agent step of M's whole prediction; of an ensemble, of its mixture."""
    memory.eval()
    generator = step_generator(0, 0)
    total, count = 0.0, 0.0
    for on_cpu in _parts(memory, episodes):
        latents = vision.sample(on_cpu.posteriors, generator).to(device_of(memory))
        part = on_cpu.to(device_of(memory))
        hidden, _ = memory.sequence(memory.initial(len(part)), latents[:, :-1], part.actions)
        prediction = memory.predict(hidden[part.mask], latents[:, :-1][part.mask])
        total -= float(prediction.log_prob(latents[:, 1:][part.mask]).sum())
        count += float(part.mask.sum())
    return total / count


def _parts(memory: Memory, episodes: Sequences) -> Iterator[SequenceBatch]:
    """The episodes in batches of about so many agent steps, on the CPU."""
    return episodes.parts(min(SCORE_STEPS, part_steps(memory, device_of(memory))))


def area_under_roc(scores: Float[Tensor, "agent_step"], happened: Tensor) -> float | None:
    """Chance that an agent step where it happened scores above one where it did not."""
    yes, no = scores[happened].double().numpy(), scores[~happened].double().numpy()
    if len(yes) == 0 or len(no) == 0:
        return None
    no.sort()
    below, upto = np.searchsorted(no, yes, "left"), np.searchsorted(no, yes, "right")
    return float(((below + upto) / 2 / len(no)).mean())


def _outcomes(
    vision: Vision, memory: Memory, episodes: Sequences
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of each agent step: its reward, the one M expects, M's probability of an end, the end."""
    memory.eval()
    device = device_of(memory)
    rewards, expected, end_chances, terminated = [], [], [], []
    for on_cpu in _parts(memory, episodes):
        part = on_cpu.to(device)
        latents = vision.mode(part.posteriors)[:, :-1]
        hidden, _ = memory.sequence(memory.initial(len(part)), latents, part.actions)
        outcome = memory.predict(hidden[part.mask], latents[part.mask]).outcome
        rewards.append(on_cpu.rewards[on_cpu.mask])
        expected.append(outcome.reward.cpu())
        end_chances.append(outcome.end_probability.cpu())
        terminated.append(on_cpu.terminated[on_cpu.mask])
    return torch.cat(rewards), torch.cat(expected), torch.cat(end_chances), torch.cat(terminated)


def _pairs(vision: Vision, episodes: Sequences) -> Iterator[tuple[Tensor, Tensor]]:
    """Latents before and after each real agent step, drawn from V's posterior, part by part."""
    generator = step_generator(0, 0)
    for part in episodes.parts(PART_STEPS):
        latents = vision.sample(part.posteriors, generator)
        yield latents[:, :-1][part.mask], latents[:, 1:][part.mask]
