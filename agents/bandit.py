"""A sliding-window bandit, which selects the choice with the highest recent reward."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64


class SlidingWindowBandit:
    """Upper confidence bounds over the last `window` plays.

    The value of a choice is its mean reward in the window plus
    `exploration * sqrt(2 ln n / n_k)`, with n plays in the window, of which n_k took this choice. A
    choice without plays is selected first. Rewards lie in [0, 1], so that both terms have the same
    scale.

    Source: arXiv 2003.04389, algorithm 2, after arXiv 0805.3415. Differs: the authors' code takes
    the number of elites as reward, up to a hundred per play, so that the second term is negligible.
    """

    def __init__(self, num_arms: int, *, window: int = 1_000, exploration: float = 0.1) -> None:
        """Raises ValueError for fewer than 1 choice, or a window of fewer plays than choices."""
        if num_arms < 1 or window < num_arms:
            raise ValueError(
                f"expected 1 choice or more and a window of at least as many plays, got "
                f"{num_arms} and {window}"
            )
        self.num_arms = num_arms
        self.window = window
        self.exploration = exploration
        self._arms = np.empty(0, dtype=np.int64)
        self._rewards = np.empty(0)

    @property
    def plays(self) -> list[tuple[int, float]]:
        """Choice and reward of each play in the window, oldest first."""
        return list(zip(self._arms.tolist(), self._rewards.tolist(), strict=True))

    def counts(self) -> Float64[np.ndarray, " choice"]:
        """Return how often each choice was played in the window."""
        return np.bincount(self._arms, minlength=self.num_arms).astype(np.float64)

    def values(self) -> Float64[np.ndarray, " choice"]:
        """Return each choice's upper confidence bound, infinite without plays in the window."""
        counts = self.counts()
        sums = np.bincount(self._arms, weights=self._rewards, minlength=self.num_arms)
        pulls_per_arm = np.maximum(counts, 1)
        exploration_bonus = np.sqrt(2 * np.log(max(len(self._arms), 1)) / pulls_per_arm)
        return np.where(
            counts == 0, np.inf, sums / pulls_per_arm + self.exploration * exploration_bonus
        )

    def select(self) -> int:
        """Return the choice with the highest bound; the first one if several are equal."""
        return int(np.argmax(self.values())) if self.num_arms > 1 else 0

    def tell(self, choice: int, reward: float) -> None:
        """Record one play. Raises ValueError for an unknown choice or a reward outside [0, 1]."""
        if not 0 <= choice < self.num_arms:
            raise ValueError(f"expected a choice of 0 to {self.num_arms - 1}, got {choice}")
        if not 0 <= reward <= 1:
            raise ValueError(f"expected a reward within [0, 1], got {reward}")
        self._arms = np.append(self._arms, choice)[-self.window :]
        self._rewards = np.append(self._rewards, reward)[-self.window :]
