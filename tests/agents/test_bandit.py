from collections.abc import Sequence

import numpy as np
import pytest

from agents.bandit import SlidingWindowBandit


def test_every_arm_is_played_once_before_any_twice() -> None:
    bandit, played = SlidingWindowBandit(4, window=100), []
    for _ in range(4):
        played.append(bandit.select())
        bandit.tell(played[-1], 1.0)
    assert played == [0, 1, 2, 3]


def test_bounds_are_means_plus_what_is_not_known_yet() -> None:
    bandit = SlidingWindowBandit(2, window=100, exploration=0.5)
    for choice, reward in ((0, 0.2), (0, 0.4), (0, 0.3), (1, 0.6)):
        bandit.tell(choice, reward)
    expected = [0.3 + 0.5 * np.sqrt(2 * np.log(4) / 3), 0.6 + 0.5 * np.sqrt(2 * np.log(4) / 1)]
    assert bandit.values() == pytest.approx(expected)


def test_it_finds_the_best_arm_and_notices_when_that_changes() -> None:
    bandit, generator = SlidingWindowBandit(3, window=60, exploration=0.1), np.random.default_rng(0)

    def play(reward_chances: Sequence[float], times: int) -> np.ndarray:
        chosen = []
        for _ in range(times):
            chosen.append(bandit.select())
            bandit.tell(chosen[-1], float(generator.random() < reward_chances[chosen[-1]]))
        return np.bincount(chosen[-60:], minlength=3)

    assert play((0.1, 0.2, 0.9), 200).argmax() == 2
    assert play((0.9, 0.2, 0.1), 200).argmax() == 0


def test_exploration_stays_beside_small_rewards() -> None:
    # As elites added of a hundred children: rewards of some per cent must not hide what is unknown.
    bandit = SlidingWindowBandit(2, window=1_000)
    for _ in range(500):
        bandit.tell(0, 0.04)
    bandit.tell(1, 0.03)
    assert bandit.select() == 1


def test_plays_that_left_the_window_do_not_count() -> None:
    bandit = SlidingWindowBandit(2, window=3)
    for choice in (0, 1, 1, 1):
        bandit.tell(choice, 0.5)
    assert bandit.counts().tolist() == [0, 3]
    assert bandit.select() == 0


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match="got 5 choices and a window of 4 plays"):
        SlidingWindowBandit(5, window=4)
    with pytest.raises(ValueError, match="expected a choice from 0 to 1, got 2"):
        SlidingWindowBandit(2).tell(2, 0.5)
    with pytest.raises(ValueError, match=r"expected a reward within \[0, 1\], got 7"):
        SlidingWindowBandit(2).tell(0, 7.0)
