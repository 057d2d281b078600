"""The frequencies and the persistence of codes, which initialize an M over codes."""

from collections.abc import Iterable

import torch
from jaxtyping import Float, Int
from torch import Tensor

# Parts differ in their number of agent steps.
Digits = Int[Tensor, "_ code digit"]


def digit_frequencies(
    transitions: Iterable[tuple[Digits, Digits]], sizes: tuple[int, ...]
) -> list[Float[Tensor, "code _"]]:
    """Compute how often each digit takes each of its values after an agent step.

    Each count starts at 0.5, so no frequency is 0.

    Args:
        transitions: for each part of the data, the digits before agent steps and the digits after
            these agent steps.
    """
    counts: list[Tensor] = []
    num_steps = 0
    for _, then in transitions:
        num_codes = then.shape[1]
        counts = counts or [torch.zeros(num_codes, size, dtype=torch.int64) for size in sizes]
        # The values are counted without one-hot rows, because the rows of 100,000 agent steps would
        # take gigabytes.
        for digit, count in enumerate(counts):
            place = then[..., digit].T
            count.scatter_add_(1, place, torch.ones_like(place))
        num_steps += len(then)
    return [
        (count.float() + 0.5) / (num_steps + 0.5 * size)
        for count, size in zip(counts, sizes, strict=True)
    ]


def persistence_log_odds(
    transitions: Iterable[tuple[Digits, Digits]], frequencies: list[Float[Tensor, "code _"]]
) -> Float[Tensor, "code digit flag"]:
    """Compute the log-odds that each digit persists, minus the log-odds of persisting by chance.

    The probability of persisting by chance is computed from `frequencies`. The last axis of the
    result has two entries. Entry 1 is computed from the agent steps in which all earlier digits of
    the same code persisted. Entry 0 is computed from all other agent steps. Negative differences
    are set to 0.
    """
    shape = 2, len(frequencies), len(frequencies[0])
    persisted, by_chance, weight = (torch.zeros(shape, dtype=torch.float64) for _ in range(3))
    for now, then in transitions:
        kept = torch.ones_like(now[..., 0], dtype=torch.bool)
        for digit, frequency in enumerate(frequencies):
            persists = then[..., digit] == now[..., digit]
            chance = frequency.gather(1, then[..., digit].T).T
            for flag in (0, 1):
                rows = (kept == bool(flag)).float()
                persisted[flag, digit] += (persists * rows).sum(0)
                by_chance[flag, digit] += (chance * rows).sum(0)
                weight[flag, digit] += rows.sum(0)
            kept = kept & persists
    total = weight.float() + 1.0
    rate, chance_rate = ((count.float() + 0.5) / total for count in (persisted, by_chance))
    return (_logit(rate) - _logit(chance_rate)).clamp(min=0.0).permute(2, 1, 0)


def _logit(probability: Tensor) -> Tensor:
    return probability.log() - (1.0 - probability).clamp(min=1e-6).log()
