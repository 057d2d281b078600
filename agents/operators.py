"""Operators that make children of elites: noise, steps along lines, reconstruction by a model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32
from ribs.emitters.operators import IsoLineOperator

Solutions = Float32[np.ndarray, "solution parameter"]
Reconstruct = Callable[[Solutions], Solutions]


@dataclass(frozen=True)
class Mix:
    """The fraction of a generation's children that each operator makes.

    All remaining children are x + noise, where x is an elite.

    Attributes:
        reconstruction: fraction of children that are (x + decode(encode(x))) / 2, where x is an
            elite.
        line: fraction of children that are x + noise + a step along the line from the elite x to
            another elite.
    """

    reconstruction: float = 0.0
    line: float = 0.0

    def __post_init__(self) -> None:
        if min(self.reconstruction, self.line) < 0 or self.reconstruction + self.line > 1:
            raise ValueError(f"expected fractions >= 0 that add up to at most 1, got {self}")

    def counts(self, batch_size: int) -> tuple[int, int, int]:
        """Return the numbers of children from reconstruction, from lines, and from noise alone."""
        reconstructed = round(self.reconstruction * batch_size)
        along = min(round(self.line * batch_size), batch_size - reconstructed)
        return reconstructed, along, batch_size - reconstructed - along


LINE_MIXES = tuple(Mix(line=quarters / 4) for quarters in range(5))
# Source: arXiv 2003.04389, section 3.3. There are five mixes of lines and noise, and five mixes of
# reconstruction and noise. One mix, noise alone, is in both groups, so there are nine mixes.
ALL_MIXES = (*LINE_MIXES, *(Mix(reconstruction=quarters / 4) for quarters in range(1, 5)))


@dataclass(frozen=True)
class OperatorConfig:
    """Step sizes of the operators, in the units of a solution's numbers.

    Source: arXiv 2003.04389, section 4: `iso_sigma` is 0.003 times the range of a solution's
    numbers, and `line_sigma` is 0.1 times this range. The defaults here are for numbers from -1 to
    1, whose range is 2.
    """

    iso_sigma: float = 0.006
    line_sigma: float = 0.2

    def __post_init__(self) -> None:
        if not self.iso_sigma > 0 or not self.line_sigma > 0:
            raise ValueError(f"expected step sizes above 0, got {self}")


def breed(
    draw: Callable[[int], Solutions],
    mix: Mix,
    batch_size: int,
    generator: np.random.Generator,
    config: OperatorConfig,
    reconstruct: Reconstruct | None = None,
) -> Float32[np.ndarray, "child parameter"]:
    """Return `batch_size` children of elites; the children are not clipped to any bounds.

    Args:
        draw: function that returns the given number of elites. Each of them is drawn at random from
            all elites.

    Raises ValueError if the mix includes reconstruction and `reconstruct` is None.
    """
    reconstructed, along, by_noise = mix.counts(batch_size)
    children = []
    if reconstructed:
        if reconstruct is None:
            raise ValueError(f"{mix} needs a model to reconstruct with, got none")
        parents = draw(reconstructed)
        children.append((parents + reconstruct(parents)) / 2)
    for count, sigma in ((along, config.line_sigma), (by_noise, 0.0)):
        if count:
            seed = int(generator.integers(2**63))
            operator = IsoLineOperator(config.iso_sigma, sigma, seed=seed)
            pairs = draw(2 * count).reshape(2, count, -1)
            children.append(operator.ask(pairs))
    return np.concatenate(children)
