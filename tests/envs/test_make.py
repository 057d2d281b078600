"""Any Gymnasium id gives an environment, or a vector of environments, with small frames."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from envs.actions import UnsupportedActionSpace
from envs.errors import EnvError
from envs.make import make_env, make_envs, view_of
from envs.tasks import DEFAULT_ENV_ID, task_for
from envs.vector import ProcessVectorEnv
from tests.fixtures.counting_env import BOX_ID, DISCRETE_ID, episode_length, read_frame


def test_cartpole_becomes_pixels_without_a_display(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER"):
        monkeypatch.delenv(name, raising=False)
    env = make_env("CartPole-v1", render_mode="rgb_array", max_episode_steps=7)
    first, _ = env.reset(seed=0)
    assert first in env.observation_space and first.shape == (64, 64, 3)
    assert first.std() > 0, "the cart is not to be seen"
    for _ in range(5):  # one step moves the cart by less than a level
        later, *_ = env.step(1)
    assert (first != later).any()
    picture = env.render()
    assert isinstance(picture, np.ndarray) and picture.shape == (400, 600, 3)
    assert env.spec is not None and env.spec.max_episode_steps == 7
    env.close()


@pytest.mark.parametrize("env_id", ["CarRacing-v3", "worldmodels/CarRacing-v3"])
def test_car_racing_is_seen_small_and_takes_its_tasks_actions(env_id: str) -> None:
    env = make_env(env_id, render_mode="rgb_array")
    assert env.spec is not None and env.spec.max_episode_steps == 1000
    frame, _ = env.reset(seed=1)
    picture = env.render()
    assert isinstance(picture, np.ndarray)
    assert frame.shape == (64, 64, 3) and picture.shape == (400, 600, 3)
    for action in task_for(env_id).constant_actions.values():
        assert np.array(action, np.float32) in env.action_space
    env.close()


@pytest.mark.parametrize("env_id", ["CarRacing-v3", "worldmodels/CarRacing-v3"])
def test_a_perturbed_environment_looks_different_and_drives_alike(env_id: str) -> None:
    plain, perturbed = make_env(env_id), make_env(env_id, perturbation="bars")
    frames = [env.reset(seed=1)[0] for env in (plain, perturbed)]
    assert (frames[1][:, :4] == 0).all() and (frames[0][:, 8:-8] == frames[1][:, 8:-8]).all()
    action = np.array([0.3, 1.0, 0.0], np.float32)
    assert plain.step(action)[1:] == perturbed.step(action)[1:]
    with pytest.raises(ValueError, match="expected a perturbation among"):
        make_env(env_id, perturbation="fog")


@pytest.mark.parametrize(
    ("env_id", "source"),
    [
        ("CartPole-v1", (400, 600)),
        ("CarRacing-v3", (96, 96)),
        (DEFAULT_ENV_ID, (96, 96)),
    ],
)
def test_a_view_has_the_size_of_what_the_env_gives_or_draws(
    env_id: str, source: tuple[int, int]
) -> None:
    view = view_of(env_id)
    assert view.source == source and view.size == 64
    assert view.rows == task_for(env_id).view.rows


def test_unknown_ids_get_gymnasiums_own_error() -> None:
    with pytest.raises(gym.error.NameNotFound, match="NoSuchGame"):
        make_env("NoSuchGame-v0")
    for num_workers in (0, 1):
        with pytest.raises(gym.error.NameNotFound, match="NoSuchGame"):
            make_envs(1, num_workers, env_id="NoSuchGame-v0")


def test_what_cannot_be_acted_in_or_seen_is_refused() -> None:
    many: Any = lambda render_mode=None: _Bare(gym.spaces.MultiDiscrete([9, 9]))  # noqa: E731
    blind: Any = lambda render_mode=None: _Bare(gym.spaces.Discrete(2))  # noqa: E731
    gym.register("Many-v0", many)
    gym.register("Blind-v0", blind)
    with pytest.raises(UnsupportedActionSpace, match="MultiDiscrete"):
        make_env("Many-v0")
    with pytest.raises(EnvError, match=r"as observations of .*, or the render mode rgb_array"):
        make_env("Blind-v0").reset(seed=0)
    with pytest.raises(gym.error.UnsupportedMode, match='expected render_mode None or "rgb_array"'):
        make_env("CartPole-v1", render_mode="human")


class _Bare(gym.Env[Any, Any]):
    """An environment that cannot be drawn."""

    observation_space = gym.spaces.Box(0, 1, (4,))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        return np.zeros(4, np.float32), {}

    def __init__(self, action_space: gym.Space[Any]) -> None:
        self.action_space = action_space


def test_workers_drive_the_same_races() -> None:
    """Episodes have few steps, so that the test also covers resets, which make new tracks."""
    returned = {}
    for num_workers in (0, 2):
        envs = make_envs(3, num_workers, max_episode_steps=4, render_mode="rgb_array")
        actions = np.random.default_rng(0).uniform(0, 1, (10, 3, 3)).astype(np.float32)
        steps = [envs.reset(seed=5)[:1], *(envs.step(each)[:4] for each in actions)]
        frames = envs.render()
        assert frames is not None and len(frames) == 3
        returned[num_workers] = [*(array for step in steps for array in step), *frames]
        envs.close()
    assert sum(array.sum() for array in returned[0] if array.dtype == bool) == 2 * 3
    for ours, theirs in zip(returned[2], returned[0], strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_frames_rewards_and_ends_belong_together(num_workers: int) -> None:
    envs = make_envs(3, num_workers, env_id=DISCRETE_ID, autoreset_mode=AutoresetMode.DISABLED)
    assert envs.observation_space.shape == (3, 64, 64, 3)
    frames, _ = envs.reset(seed=[6, 0, 2])  # type: ignore[arg-type]  # Gymnasium's omits lists
    assert [read_frame(frame) for frame in frames] == [(0, 6), (0, 0), (0, 2)]
    for step in range(episode_length(0)):
        frames, rewards, terminated, *_ = envs.step(np.array([1, 2, 3]))
        assert [read_frame(frame) for frame in frames] == [(step + 1, s) for s in (6, 0, 2)]
        assert rewards.tolist() == [1000 * step + 1, 1000 * step + 2, 1000 * step + 3]
    assert terminated.tolist() == [False, True, False]
    options = {"reset_mask": terminated}
    frames, _ = envs.reset(seed=[9, 9, 9], options=options)  # type: ignore[arg-type]
    assert [read_frame(frame) for frame in frames] == [(5, 6), (0, 9), (5, 2)]
    envs.close()


def test_zero_workers_are_gymnasiums_own_vector_and_options_reach_it() -> None:
    for num_workers, kind in ((0, SyncVectorEnv), (1, ProcessVectorEnv)):
        mode = AutoresetMode.SAME_STEP
        envs = make_envs(
            2, num_workers, env_id=BOX_ID, autoreset_mode=mode, max_episode_steps=2, copy=False
        )
        assert type(envs) is kind and envs.metadata["autoreset_mode"] == mode
        frames, _ = envs.reset(seed=0)
        envs.step(np.zeros((2, 2), np.float32))
        later, *_, truncated, infos = envs.step(np.zeros((2, 2), np.float32))
        assert np.shares_memory(frames, later)
        assert truncated.all() and infos["_final_obs"].all()
        envs.close()
    one: Any = make_envs(1)
    assert one.get_attr("spec")[0].id == DEFAULT_ENV_ID


@pytest.mark.parametrize(("num_envs", "num_workers"), [(0, 0), (-1, 0), (2, -1), (2, 3)])
def test_numbers_that_make_no_sense_are_refused(num_envs: int, num_workers: int) -> None:
    message = f"0 <= num_workers .*, got num_envs={num_envs} and num_workers={num_workers}"
    with pytest.raises(ValueError, match=message):
        make_envs(num_envs, num_workers, env_id=BOX_ID)
