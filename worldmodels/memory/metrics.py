"""Metrics of M's predictions of latents, rewards and episode ends, on held-out episodes.

The episodes move to M's device one part at a time. Only a few numbers per agent step are kept, and
these numbers are on the CPU.
"""

import functools
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from worldmodels.data.sequences import PART_STEPS, SequenceBatch, Sequences
from worldmodels.memory import Memory, Prediction
from worldmodels.memory.baselines import PersistenceCategorical, PersistenceGaussian
from worldmodels.memory.part_size import part_steps
from worldmodels.training.device import device_of
from worldmodels.training.fit import Metrics, mean_metrics, step_generator
from worldmodels.vision import VQVAE, Vision

SCORE_STEPS = 4_000


@torch.no_grad()
def held_out_metrics(memory: Memory, episodes: Sequences) -> Metrics:
    """Compute M's loss and its parts on held-out episodes, as means over all agent steps."""
    memory.eval()
    generator = step_generator(0, 0, device_of(memory))
    parts = []
    for part in _parts(memory, episodes):
        loss, metrics = memory.loss(part.to(device_of(memory)), generator)
        parts.append(({"loss": loss, **metrics}, float(part.mask.sum())))
    total = sum(weight for _, weight in parts)
    return mean_metrics(
        [
            {name: float(value) * weight * len(parts) / total for name, value in each.items()}
            for each, weight in parts
        ]
    )


@torch.no_grad()
def score_memory(
    vision: Vision, memory: Memory, train: Sequences, held_out: Sequences
) -> dict[str, Any]:
    """Compute metrics of M on held-out episodes, and the likelihood of the persistence baseline.

    The baseline is fitted to the training episodes. `reward_r2` is the R2 of the expected reward,
    or None if all held-out rewards are equal. `end_auc` is the area under the ROC curve of the end
    probability as a predictor of the agent steps that end an episode. `end_auc` is None if no
    held-out episode was terminated.
    """
    metrics = held_out_metrics(memory, held_out)
    nll = _mean_nll(vision, memory, held_out)
    pairs = _pairs(vision, train)
    baseline: PersistenceGaussian | PersistenceCategorical
    if isinstance(vision, VQVAE):
        baseline = PersistenceCategorical.fit(pairs, vision.config.num_values)
    else:
        baseline = PersistenceGaussian.fit(pairs)
    rewards, expected, end_chances, terminated = _outcomes(vision, memory, held_out)
    return {
        "nll": nll,
        "bits_per_frame": nll / math.log(2.0),
        "persistence_nll": baseline.nll(_pairs(vision, held_out)),
        "reward_nll": metrics["reward_nll"],
        "reward_r2": r_squared(expected, rewards),
        "end_auc": area_under_roc(end_chances, terminated),
        "held_out_agent_steps": len(terminated),
    }


@torch.no_grad()
def _mean_nll(vision: Vision, memory: Memory, episodes: Sequences) -> float:
    """Compute the negative log-likelihood of the next latents, in nats per agent step.

    For an ensemble, the prediction is the mixture of the predictions of all members.
    """
    total, count = 0.0, 0
    samples = functools.partial(vision.sample, generator=step_generator(0, 0))
    for _, latents, prediction in _predictions(memory, episodes, samples):
        total -= float(prediction.log_prob(latents).sum())
        count += len(latents)
    return total / count


def _predictions(
    memory: Memory, episodes: Sequences, latents_of: Callable[[Tensor], Tensor]
) -> Iterator[tuple[SequenceBatch, Tensor, Prediction]]:
    """Yield parts of the episodes on the CPU, with the next latents and M's predictions."""
    memory.eval()
    device = device_of(memory)
    for on_cpu in _parts(memory, episodes):
        part, latents = on_cpu.to(device), latents_of(on_cpu.posteriors).to(device)
        before, after = latents[:, :-1], latents[:, 1:]
        hidden, _ = memory.sequence(memory.initial(len(part)), before, part.actions)
        yield on_cpu, after[part.mask], memory.predict(hidden[part.mask], before[part.mask])


def _parts(memory: Memory, episodes: Sequences) -> Iterator[SequenceBatch]:
    """Yield the episodes on the CPU, in batches of about `SCORE_STEPS` agent steps or fewer."""
    return episodes.parts(min(SCORE_STEPS, part_steps(memory, device_of(memory))))


def r_squared(
    expected: Float[Tensor, "agent_step"], rewards: Float[Tensor, "agent_step"]
) -> float | None:
    """Return the fraction of the variance of rewards that the expected rewards explain.

    The result is None if all rewards are equal.
    """
    spread = rewards.double().std(correction=0)
    if spread <= 1e-6 * rewards.abs().max():
        return None
    return 1.0 - float((expected - rewards).double().square().mean() / spread.square())


def area_under_roc(scores: Float[Tensor, "agent_step"], happened: Tensor) -> float | None:
    """Return the area under the ROC curve of `scores` as predictions of `happened`.

    The result is None if `happened` is true for all agent steps or for no agent step.
    """
    from scipy.stats import rankdata  # importing it takes a second

    ranks = rankdata(scores.double().numpy())[happened.numpy()]
    yes, no = len(ranks), len(scores) - len(ranks)
    return None if yes == 0 or no == 0 else float((ranks.mean() - (yes + 1) / 2) / no)


def _outcomes(
    vision: Vision, memory: Memory, episodes: Sequences
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return each agent step's reward, expected reward, end probability and end flag."""
    rows = []
    for part, _, prediction in _predictions(memory, episodes, vision.mode):
        outcome = prediction.outcome
        expected = outcome.reward.cpu(), outcome.end_probability.cpu()
        rows.append((part.rewards[part.mask], *expected, part.terminated[part.mask]))
    rewards, expected_rewards, end_chances, terminated = map(torch.cat, zip(*rows, strict=True))
    return rewards, expected_rewards, end_chances, terminated


def _pairs(vision: Vision, episodes: Sequences) -> Iterator[tuple[Tensor, Tensor]]:
    """Sample latents from V's posterior; yield the latents before and after each agent step."""
    generator = step_generator(0, 0)
    for part in episodes.parts(PART_STEPS):
        latents = vision.sample(part.posteriors, generator)
        yield latents[:, :-1][part.mask], latents[:, 1:][part.mask]
