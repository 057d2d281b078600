"""Baselines of a prior, in nats per code, under which codes do not depend on each other."""

import torch
from jaxtyping import Int, Integer
from torch import Tensor

from worldmodels.prior.pixelcnn import position_frequencies


def unigram_cross_entropy(
    train: Integer[Tensor, "frame code"], held_out: Int[Tensor, "held_out code"], num_values: int
) -> float:
    """Compute the cross-entropy of held-out codes under training frequencies of all positions."""
    frequency = position_frequencies(train.reshape(-1, 1), num_values)[0]
    return -float(frequency.log()[held_out].mean())


def position_cross_entropy(
    train: Integer[Tensor, "frame code"], held_out: Int[Tensor, "held_out code"], num_values: int
) -> float:
    """Compute the cross-entropy of held-out codes under each position's training frequencies."""
    log_frequency = position_frequencies(train, num_values).log()
    return -float(log_frequency.gather(1, held_out.T).mean())


def position_entropy(codes: Int[Tensor, "frame code"], num_values: int) -> float:
    """Compute the mean entropy of the codes per position, the least a position baseline can reach.

    On held-out codes it uses the held-out frequencies, which no model has, so it is harder to beat.
    """
    frequency = position_frequencies(codes, num_values, smoothing=0.0)
    return -float(torch.special.xlogy(frequency, frequency).sum(1).mean())


def shuffled_positions(
    codes: Int[Tensor, "frame code"], count: int, generator: torch.Generator
) -> Int[Tensor, "count code"]:
    """Compose frames by drawing each position's code independently from a random frame."""
    shape = (count, codes.shape[1])
    picks = torch.randint(len(codes), shape, generator=generator)
    return codes.gather(0, picks)
