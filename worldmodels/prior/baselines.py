"""Baselines of a prior over codes: codes that do not depend on each other. In nats per code."""

import torch
from jaxtyping import Int, Integer
from torch import Tensor

from worldmodels.prior.pixelcnn import position_frequencies


def unigram_cross_entropy(
    train: Integer[Tensor, "frame code"], held_out: Int[Tensor, "held_out code"], num_values: int
) -> float:
    """Cross-entropy of held-out codes under the training frequencies of all positions."""
    frequency = position_frequencies(train.reshape(-1, 1), num_values)[0]
    return -float(frequency.log()[held_out].mean())


def position_cross_entropy(
    train: Integer[Tensor, "frame code"], held_out: Int[Tensor, "held_out code"], num_values: int
) -> float:
    """Cross-entropy of held-out codes under each position's own training frequencies."""
    log_frequency = position_frequencies(train, num_values).log()
    return -float(log_frequency.gather(1, held_out.T).mean())


def position_entropy(codes: Int[Tensor, "frame code"], num_values: int) -> float:
    """The codes' own entropy, position by position: the least that such a baseline can reach.

    On held-out codes it uses frequencies that no model has, so it is a harder baseline.
    """
    frequency = position_frequencies(codes, num_values, smoothing=0.0)
    return -float(torch.special.xlogy(frequency, frequency).sum(1).mean())


def shuffled_positions(
    codes: Int[Tensor, "frame code"], count: int, generator: torch.Generator
) -> Int[Tensor, "count code"]:
    """Frames put together from independent draws: each position's code from a frame of its own."""
    shape = (count, codes.shape[1])
    picks = torch.randint(len(codes), shape, generator=generator)
    return codes.gather(0, picks)
