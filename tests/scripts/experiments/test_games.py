"""PPO from pixels, the peer in games, plays the same frames and action repeat as our agents."""

import gymnasium as gym
import numpy as np
import pytest

from scripts.experiments.games import GAMES, Games
from scripts.experiments.pixel_ppo import (
    STACKED_FRAMES,
    ActionRepeat,
    falling,
    frame_maker,
    stacked,
)
from tests.fixtures.counting_env import DISCRETE_ID


def test_every_game_has_untrained_policies_both_kinds_and_ppo() -> None:
    for name, game in GAMES.items():
        players = [player for of, player, _ in Games.table.values() if of == name]
        assert {"untrained", "latents", "codes", "ppo"} <= set(players)
        assert players.count("ppo") == (3 if game.target is not None else 1)


def test_ppo_gets_the_last_four_frames_of_64_pixels() -> None:
    env = stacked([frame_maker(DISCRETE_ID)] * 2)
    assert env.reset().shape == (2, 64, 64, 3 * STACKED_FRAMES)  # type: ignore[union-attr]
    env.close()


def test_an_action_is_held_and_its_rewards_are_added() -> None:
    env, plain = (gym.make("CartPole-v1") for _ in range(2))
    held = ActionRepeat(env, 3)
    for each in (held, plain):
        each.reset(seed=0)
    seen, reward, *_ = held.step(1)
    for _ in range(3):
        expected, *_ = plain.step(1)
    assert reward == 3.0
    np.testing.assert_array_equal(seen, expected)


def test_a_schedule_falls_linearly_to_zero() -> None:
    schedule = falling(0.4)
    assert [schedule(left) for left in (1.0, 0.5, 0.0)] == pytest.approx([0.4, 0.2, 0.0])
