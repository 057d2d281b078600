"""Presets have the same numbers of agent steps in every env."""

import pytest

from envs.config import EnvConfig
from envs.tasks import task_for
from worldmodels.presets import DEMO, PAPER, PRESETS


@pytest.mark.parametrize("env_id", ["worldmodels/CarRacing-v3", "CartPole-v1", "LunarLander-v3"])
def test_a_preset_has_the_same_number_of_agent_steps_in_every_env(env_id: str) -> None:
    env = EnvConfig(env_id)
    preset, repeat = DEMO.for_env(env), task_for(env).action_repeat
    assert repeat == {"CartPole-v1": 1}.get(env_id, 4)
    assert preset.env_steps(1) / repeat == DEMO.env_steps(1) / 4
    assert preset.later_env_steps / repeat == DEMO.later_env_steps / 4


def test_a_preset_with_its_own_action_repeat_is_the_same_in_every_env() -> None:
    assert PAPER.for_env(EnvConfig("CartPole-v1")) == PAPER


@pytest.mark.parametrize("name", PRESETS)
def test_a_given_number_of_env_steps_is_kept_in_every_env(name: str) -> None:
    preset = PRESETS[name].searching(dream=True).for_env(EnvConfig("CartPole-v1"))
    total = preset.with_env_steps(100_000, 5).env_steps(5)
    assert 100_000 - 5 <= total <= 100_000
