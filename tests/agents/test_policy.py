from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from agents.exploration import CorrelatedNoise, ExploringPolicy, NoisyPolicy
from agents.policy import (
    BrownianPolicy,
    ConstantPolicy,
    Policy,
    RandomPolicy,
    RepeatingPolicy,
)
from envs.tasks import task_for

BOX = spaces.Box(np.array([-1, 0, 0], np.float32), np.ones(3, np.float32))
DISCRETE = spaces.Discrete(4, start=2)
CAR = task_for("worldmodels/CarRacing-v3")

POLICIES = {
    "random": lambda: RandomPolicy(BOX, action_repeat=3),
    "random discrete": lambda: RandomPolicy(DISCRETE, action_repeat=3),
    "brownian": lambda: BrownianPolicy(BOX, action_repeat=3),
    "exploring": lambda: ExploringPolicy(CAR, BOX, action_repeat=3),
    "noisy": lambda: NoisyPolicy(ConstantPolicy(BOX, [0, 0.5, 0.5], "middle", 3)),
    "noisy discrete": lambda: NoisyPolicy(ConstantPolicy(DISCRETE, [0, 1, 0, 0], "two", 3), 0.5),
}


def frames(num_envs: int) -> np.ndarray:
    return np.zeros((num_envs, 4, 4, 3), dtype=np.uint8)


def actions_of(
    policy: Policy,
    num_envs: int,
    steps: int,
    seed: int = 0,
    reset_at: tuple[int, int] | None = None,
) -> np.ndarray:
    policy.reset(num_envs, seed)
    taken = []
    for step in range(steps):
        mask = None
        if reset_at is not None and step == reset_at[0]:
            mask = np.arange(num_envs) == reset_at[1]
        taken.append(policy.act(frames(num_envs), mask))
    return np.stack(taken)


class Counting(RepeatingPolicy):
    """A policy whose action at the k-th agent step of an episode is k."""

    def begin(self, starting: np.ndarray) -> None:
        if starting.all():
            self.count = np.zeros((self.num_envs, 1), dtype=np.float32)
        self.count[starting] = 0

    def select_actions(self, frames: np.ndarray, due: np.ndarray) -> np.ndarray:
        self.count[due] += 1
        return self.count


def test_an_action_is_held_and_a_reset_starts_one_env_afresh() -> None:
    policy = Counting(spaces.Box(0, 99, (1,), np.float32), "counting", action_repeat=3)
    taken = actions_of(policy, 2, 8, reset_at=(4, 1))[:, :, 0]
    assert taken[:, 0].tolist() == [1, 1, 1, 2, 2, 2, 3, 3]
    assert taken[:, 1].tolist() == [1, 1, 1, 2, 1, 1, 1, 2]


@pytest.mark.parametrize("make", POLICIES.values(), ids=POLICIES)
def test_what_an_env_does_depends_on_the_seed_alone(make: Callable[..., Any]) -> None:
    three = actions_of(make(), 3, 40, seed=7)
    assert np.array_equal(three, actions_of(make(), 3, 40, seed=7))
    assert np.array_equal(three[:, :1], actions_of(make(), 1, 40, seed=7))
    assert not np.array_equal(three, actions_of(make(), 3, 40, seed=8))
    assert not np.array_equal(three[:, 0], three[:, 1])
    # A restart of one env must leave the others as they are.
    assert np.array_equal(three[:, 0], actions_of(make(), 3, 40, 7, reset_at=(5, 2))[:, 0])


@pytest.mark.parametrize("make", POLICIES.values(), ids=POLICIES)
def test_actions_are_native_and_within_the_space(make: Callable[..., Any]) -> None:
    policy = make()
    space = policy.action_space
    assert isinstance(policy, Policy)
    taken = actions_of(policy, 2, 300).reshape(-1, *space.shape)
    assert taken.dtype == space.dtype
    assert all(space.contains(action) for action in taken)


def test_a_policy_does_not_repeat_its_envs_own_random_numbers() -> None:
    env = gym.make("CartPole-v1")
    env.reset(seed=5)
    policy = RandomPolicy(BOX)
    policy.reset(1, seed=5)
    fresh = np.random.default_rng(5)
    env_numbers = fresh.random(100)
    policy_numbers = policy.generators[0].random(100)
    assert not np.intersect1d(env_numbers, policy_numbers).size
    env.close()


def test_brownian_motion_spreads_by_the_square_root_of_time() -> None:
    wide = spaces.Box(-100, 100, (1,), np.float32)
    for repeat in (1, 5):
        taken = actions_of(BrownianPolicy(wide, action_repeat=repeat), 400, 51)[:, :, 0]
        assert np.std(taken[-1] - taken[0]) == pytest.approx(1, rel=0.15)  # 50 steps of 1/50
    with pytest.raises(ValueError, match="needs a Box action space"):
        BrownianPolicy(DISCRETE)


def test_noise_has_unit_variance_and_the_correlation_asked_for() -> None:
    noise, generator = CorrelatedNoise(1, 500, env_steps=2), np.random.default_rng(0)
    noise.restart(0, 20, generator)
    series = np.stack(
        [noise.values[0].copy()] + [noise.step(0, generator).copy() for _ in [0] * 60]
    )
    assert series[0].std() == pytest.approx(1, rel=0.1)
    assert series.std() == pytest.approx(1, rel=0.05)
    assert np.mean(series[10:] * series[:-10]) == pytest.approx(np.exp(-1), abs=0.05)


def test_noise_strength_is_in_half_ranges_or_the_share_of_random_actions() -> None:
    centre = ConstantPolicy(spaces.Box(-10, 10, (1,), np.float32), [0], "centre")
    taken = actions_of(NoisyPolicy(centre, 0.1), 300, 5)
    assert taken.std() == pytest.approx(1, rel=0.1)
    two = ConstantPolicy(spaces.Discrete(2), [1, 0], "zero", action_repeat=4)
    random_half = actions_of(NoisyPolicy(two, 0.5), 400, 20).mean()
    assert random_half == pytest.approx(0.25, abs=0.05)  # half the random actions are zero too
    assert not actions_of(NoisyPolicy(two, 0.0), 20, 20).any()
    with pytest.raises(ValueError, match=r"noise strengths from 0 to 1\.0"):
        NoisyPolicy(two, 1.5)


def test_strengths_are_mixed_over_episodes() -> None:
    still = ConstantPolicy(spaces.Box(-1e3, 1e3, (1,), np.float32), [0], "still")
    taken = actions_of(NoisyPolicy(still, (0.0, 1e-3)), 200, 3)
    quiet = (taken == 0).all(axis=(0, 2)).mean()
    assert 0.35 < quiet < 0.65


def test_a_noisy_policy_reports_the_executed_action() -> None:
    output = []

    class Output(ConstantPolicy):
        def executed(self, actions: np.ndarray, due: np.ndarray) -> None:
            output.append((actions.copy(), due.copy()))

    noisy = NoisyPolicy(Output(BOX, [0, 0.5, 0.5], "output", action_repeat=2), 0.3)
    taken = actions_of(noisy, 2, 4, reset_at=(1, 1))
    assert [due.tolist() for _, due in output] == [
        [True, True],
        [False, True],
        [True, False],
        [False, True],
    ]
    assert np.array_equal(output[0][0], taken[0])
    assert np.array_equal(output[1][0][1], taken[1][1])
    assert np.array_equal(output[2][0][0], taken[2][0])


def test_exploring_shows_every_style() -> None:
    taken = actions_of(ExploringPolicy(CAR, BOX), 60, 200)
    assert taken.shape == (200, 60, 3)
    mean_pedal = (taken[..., 1] - taken[..., 2]).mean(axis=0)
    assert mean_pedal.max() > 0.7 and mean_pedal.min() < -0.7  # full gas; standing on the brake
    assert (taken[..., 1] * taken[..., 2] == 0).all()  # the pedal map: never both


def test_mistakes_are_named() -> None:
    policy = ConstantPolicy(BOX, [0, 1, 0], "gas")
    policy.reset(2)
    with pytest.raises(ValueError, match="was reset for 2 environments, got frames of 3"):
        policy.act(frames(3))
    with pytest.raises(ValueError, match=r"encoded action of shape \(3,\), got \(2,\)"):
        ConstantPolicy(BOX, [0, 1], "gas")
    with pytest.raises(ValueError, match="action_repeat must be at least 1, got 0"):
        RandomPolicy(BOX, action_repeat=0)
    with pytest.raises(ValueError, match="finite bounds"):
        RandomPolicy(spaces.Box(-np.inf, np.inf, (1,)))


def test_exploring_episodes_differ_in_how_long_and_in_what_they_do() -> None:
    """Some episodes change actions often, and others rarely. Some episodes favor one action."""
    task = task_for("CartPole-v1")
    taken = actions_of(ExploringPolicy(task, task.action_map.space), 300, 100)
    changes = (taken[1:] != taken[:-1]).mean(0)
    # Without a habit, noise of the shortest correlation changes the action at 38 % of the steps.
    assert (changes > 0.3).mean() > 0.05 and (changes < 0.1).mean() > 0.2
    favored = np.abs(taken.mean(0) - 0.5)
    assert (favored < 0.1).mean() > 0.1 and (favored > 0.45).mean() > 0.1
    assert taken.mean() == pytest.approx(0.5, abs=0.05)


def test_random_actions_of_a_noisy_policy_last_for_different_times() -> None:
    noisy = NoisyPolicy(ConstantPolicy(spaces.Discrete(2), [1, 0], "zero"), 1.0)
    changes = (np.diff(actions_of(noisy, 300, 200), axis=0) != 0).mean(0)
    for env_steps in (1, 3, 10, 30):
        expected = 0.5 / env_steps  # a new random action is the same at every second time
        assert (np.abs(changes - expected) < 0.4 * expected + 0.02).mean() > 0.15


def test_a_quarter_of_an_agent_s_episodes_have_no_noise() -> None:
    still = ConstantPolicy(spaces.Box(-1, 1, (1,), np.float32), [0], "still")
    quiet = (actions_of(NoisyPolicy(still), 400, 3) == 0).all(axis=(0, 2)).mean()
    assert quiet == pytest.approx(0.25, abs=0.07)
