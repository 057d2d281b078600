"""A sliding-window bandit, which selects one of several choices by their recent rewards."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64


class SlidingWindowBandit:
    """Selects the choice with the highest upper confidence bound over the last `window` plays.

    A play uses one choice and gives one reward. The bound of a choice is the choice's mean reward
    in the window plus `exploration * sqrt(2 ln n / n_k)`. Here n is the number of plays in the
    window, and n_k is the number of plays in the window that used the choice. A choice that has no
    plays in the window is selected first. Rewards must lie in [0, 1], so that the mean reward and
    the exploration term have the same scale.

    Source: arXiv 2003.04389, algorithm 2, which follows arXiv 0805.3415. Differs: the code of arXiv
    2003.04389 uses the number of new elites as the reward, which can be a hundred per play.
    Compared with such rewards, the exploration term is negligible.
    """

    def __init__(self, num_arms: int, *, window: int = 1_000, exploration: float = 0.1) -> None:
        """Raises ValueError if `num_arms` is below 1, or if `window` is below `num_arms`."""
        if num_arms < 1 or window < num_arms:
            raise ValueError(
                "expected at least 1 choice, and a window of at least as many plays as choices, "
                f"got {num_arms} choices and a window of {window} plays"
            )
        self.num_arms = num_arms
        self.window = window
        self.exploration = exploration
        self._arms = np.empty(0, dtype=np.int64)
        self._rewards = np.empty(0)

    @property
    def plays(self) -> list[tuple[int, float]]:
        """The choice and the reward of each play in the window, beginning with the oldest play."""
        return list(zip(self._arms.tolist(), self._rewards.tolist(), strict=True))

    def counts(self) -> Float64[np.ndarray, " choice"]:
        """Return how often each choice was played in the window."""
        return np.bincount(self._arms, minlength=self.num_arms).astype(np.float64)

    def values(self) -> Float64[np.ndarray, " choice"]:
        """Return each choice's upper confidence bound.

        The bound is infinite for a choice that has no plays in the window.
        """
        counts = self.counts()
        sums = np.bincount(self._arms, weights=self._rewards, minlength=self.num_arms)
        pulls_per_arm = np.maximum(counts, 1)
        exploration_bonus = np.sqrt(2 * np.log(max(len(self._arms), 1)) / pulls_per_arm)
        return np.where(
            counts == 0, np.inf, sums / pulls_per_arm + self.exploration * exploration_bonus
        )

    def select(self) -> int:
        """Return the choice with the highest bound; in a tie, return the first such choice."""
        return int(np.argmax(self.values())) if self.num_arms > 1 else 0

    def tell(self, choice: int, reward: float) -> None:
        """Record one play. Raises ValueError for an unknown choice or a reward outside [0, 1]."""
        if not 0 <= choice < self.num_arms:
            raise ValueError(f"expected a choice from 0 to {self.num_arms - 1}, got {choice}")
        if not 0 <= reward <= 1:
            raise ValueError(f"expected a reward within [0, 1], got {reward}")
        self._arms = np.append(self._arms, choice)[-self.window :]
        self._rewards = np.append(self._rewards, reward)[-self.window :]
