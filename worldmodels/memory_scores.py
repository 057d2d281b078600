"""What M is worth on held-out episodes: nats a decision, rewards and ends."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from worldmodels.data.batches import SequenceBatch
from worldmodels.device import device_of
from worldmodels.memory import Memory
from worldmodels.memory.baselines import StayCategorical, StayGaussian
from worldmodels.training import Metrics, mean_metrics, step_generator
from worldmodels.vision import VQVAE, Vision

SCORE_DECISIONS = 4_000


@torch.no_grad()
def held_out_metrics(memory: Memory, episodes: SequenceBatch) -> Metrics:
    """M's loss over whole held-out episodes, each decision counting alike."""
    memory.eval()
    device = device_of(memory)
    generator = step_generator(0, 0, device)
    parts, weights = [], []
    for part in _parts(episodes):
        loss, metrics = memory.loss(part.to(device), generator)
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
    vision: Vision, memory: Memory, train: SequenceBatch, held_out: SequenceBatch
) -> dict[str, Any]:
    """Held-out nats a decision beside "the next latent is this one", reward R2 and end AUC.

    The baseline's spread is fitted on the training episodes. `end_auc` is the chance that M gives
    a decision that ended an episode a higher probability of it than one that did not; None where
    no held-out episode ended.
    """
    metrics = held_out_metrics(memory, held_out)
    nll = mean_nll(vision, memory, held_out)
    now, then = _pairs(vision, train)
    held_now, held_then = _pairs(vision, held_out)
    baseline: StayGaussian | StayCategorical
    if isinstance(vision, VQVAE):
        baseline = StayCategorical.fit(now, then, vision.config.num_values)
    else:
        baseline = StayGaussian.fit(now, then)
    rewards, expected, end_chances = _outcomes(vision, memory, held_out)
    variance = float(rewards.var(correction=0))
    return {
        "nll": nll,
        "bits_per_frame": nll / math.log(2.0),
        "stay_nll": baseline.nll(held_now, held_then),
        "reward_nll": metrics["reward_nll"],
        "reward_r2": 1.0 - float((expected - rewards).square().mean()) / max(variance, 1e-9),
        "end_auc": area_under_roc(end_chances, held_out.ended[held_out.mask]),
        "held_out_decisions": int(held_out.mask.sum()),
    }


@torch.no_grad()
def mean_nll(vision: Vision, memory: Memory, episodes: SequenceBatch) -> float:
    """Nats a decision of M's whole prediction; of members that vote that is their mixture's."""
    memory.eval()
    device = device_of(memory)
    generator = step_generator(0, 0)
    total = 0.0
    for drawn_from in _parts(episodes):
        latents = vision.sample(drawn_from.posteriors, generator).to(device)
        part = drawn_from.to(device)
        hidden, _ = memory.sequence(memory.initial(len(part)), latents[:, :-1], part.actions)
        prediction = memory.predict(hidden[part.mask], latents[:, :-1][part.mask])
        total -= float(prediction.log_prob(latents[:, 1:][part.mask]).sum())
    return total / float(episodes.mask.sum())


def _parts(episodes: SequenceBatch) -> Iterator[SequenceBatch]:
    """The episodes in batches of about so many decisions."""
    size = max(1, SCORE_DECISIONS // episodes.mask.shape[1])
    for start in range(0, len(episodes), size):
        yield episodes[slice(start, start + size)]


def area_under_roc(scores: Float[Tensor, "decision"], happened: Tensor) -> float | None:
    """Chance that a decision where it happened scores above one where it did not."""
    yes, no = scores[happened].double().numpy(), scores[~happened].double().numpy()
    if len(yes) == 0 or len(no) == 0:
        return None
    no.sort()
    below, upto = np.searchsorted(no, yes, "left"), np.searchsorted(no, yes, "right")
    return float(((below + upto) / 2 / len(no)).mean())


def _outcomes(
    vision: Vision, memory: Memory, episodes: SequenceBatch
) -> tuple[Tensor, Tensor, Tensor]:
    """Rewards, those M expects, and its probability of an end, of each real decision."""
    memory.eval()
    rewards, expected, ends = [], [], []
    for part in (each.to(device_of(memory)) for each in _parts(episodes)):
        latents = vision.mode(part.posteriors)[:, :-1]
        hidden, _ = memory.sequence(memory.initial(len(part)), latents, part.actions)
        outcome = memory.predict(hidden[part.mask], latents[part.mask]).outcome
        rewards.append(part.rewards[part.mask].cpu())
        expected.append(outcome.reward.cpu())
        ends.append(outcome.end_probability.cpu())
    return torch.cat(rewards), torch.cat(expected), torch.cat(ends)


def _pairs(vision: Vision, episodes: SequenceBatch) -> tuple[Tensor, Tensor]:
    """Latents before and after each real decision, drawn from V's posterior, on the CPU."""
    generator = step_generator(0, 0)
    latents = vision.sample(episodes.posteriors, generator)
    return latents[:, :-1][episodes.mask], latents[:, 1:][episodes.mask]
