"""Cross-entropies of baselines in which codes are independent of each other, in nats per code."""

import torch
from jaxtyping import Int, Integer
from torch import Tensor

from worldmodels.prior.pixelcnn import position_frequencies


def unigram_cross_entropy(
    train: Integer[Tensor, "frame code"], held_out: Int[Tensor, "held_out code"], num_values: int
) -> float:
    """Compute the cross-entropy of held-out codes under one distribution for all positions.

    The distribution consists of the frequencies of the training codes.
    """
    frequency = position_frequencies(train.reshape(-1, 1), num_values)[0]
    return -float(frequency.log()[held_out].mean())


def position_cross_entropy(
    train: Integer[Tensor, "frame code"], held_out: Int[Tensor, "held_out code"], num_values: int
) -> float:
    """Compute the cross-entropy of held-out codes under one distribution per position.

    The distributions consist of the frequencies of the training codes at each position.
    """
    log_frequency = position_frequencies(train, num_values).log()
    return -float(log_frequency.gather(1, held_out.T).mean())


def position_entropy(codes: Int[Tensor, "frame code"], num_values: int) -> float:
    """Compute the entropy of the codes at each position, averaged over positions.

    No baseline with one distribution per position has a lower cross-entropy on the same codes. The
    entropy of held-out codes is computed from the frequencies of these held-out codes, which are
    not available in training. The entropy is therefore harder to beat than
    `position_cross_entropy`.
    """
    frequency = position_frequencies(codes, num_values, smoothing=0.0)
    return -float(torch.special.xlogy(frequency, frequency).sum(1).mean())


def shuffled_positions(
    codes: Int[Tensor, "frame code"], count: int, generator: torch.Generator
) -> Int[Tensor, "count code"]:
    """Compose new frames: the code at each position comes from an independently drawn frame."""
    picks = torch.randint(len(codes), (count, codes.shape[1]), generator=generator)
    return codes.gather(0, picks)
