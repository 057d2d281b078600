"""Make environments of small frames from ids: a single one, or a vector of them."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

import gymnasium as gym
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from envs.checks import CheckedEnv
from envs.config import EnvConfig
from envs.frames import FrameEnv, can_draw, declared_space, seems_drawn
from envs.plain_actions import PlainActions
from envs.registration import RenderModeError, create_env
from envs.tasks import DEFAULT_ENV_ID, known_view, task_for
from envs.vector import ProcessVectorEnv
from envs.views import View, ViewObservation


def make_env(
    env: str | EnvConfig,
    *,
    render_mode: str | None = None,
    max_episode_steps: int | None = None,
    perturbation: str | None = None,
) -> gym.Env[Any, Any]:
    """Make one environment whose observations are the task's frames, uint8 (size, size, 3).

    Observations that are pictures are used as they are; anything else is drawn through
    `render()`; see `FrameEnv`. Actions are those of a Box with one axis or of a Discrete space,
    see `plain_action_space`; rewards and ends are checked, see `CheckedEnv`. With
    `render_mode="rgb_array"`, `render()` gives the large picture.
    `max_episode_steps` counts steps of the environment; None keeps the registered limit.
    `perturbation` is one of `envs.perturbations.PERTURBATIONS`, which change CarRacing's
    appearance.

    Raises:
        ValueError: no such perturbation.
        TypeError: a perturbation of something else than CarRacing.
        gymnasium.error.UnregisteredEnv: no such id (Gymnasium's own error, unchanged).
        UnsupportedActionSpace: no policy supports this kind of action.
        gymnasium.error.UnsupportedMode: a window was requested while the frames have to be drawn.
        EnvError: see `create_env`; from the first reset on, also as `FrameEnv` and `CheckedEnv`.
    """
    config = EnvConfig.of(env)
    _draw_without_display()

    def create(mode: str | None) -> gym.Env[Any, Any]:
        made = create_env(config, render_mode=mode, max_episode_steps=max_episode_steps)
        if perturbation is not None:
            from envs.perturbations import perturb  # imports Box2D, so only if needed

            with _closed_on_errors(made):
                made = perturb(made, perturbation)
        return made

    view = known_view(config)
    if config.env_id == DEFAULT_ENV_ID and config.observation_key is None:
        # Our CarRacing needs no checks, and is so fast that checks would slow it noticeably.
        fast = create(render_mode)
        if fast.observation_space.shape != (view.size, view.size, 3):
            with _closed_on_errors(fast):
                fast = ViewObservation(fast, view)
        return fast
    return _with_frames(config, view, create, render_mode)


def _with_frames(
    config: EnvConfig,
    view: View,
    create: Callable[[str | None], gym.Env[Any, Any]],
    render_mode: str | None,
) -> FrameEnv:
    """Make the environment with all checks, able to draw if its frames or `render()` need it."""

    def checked(mode: str | None) -> CheckedEnv:
        made = create(mode)
        with _closed_on_errors(made):
            env = CheckedEnv(PlainActions(made), str(config))
        return env

    drawing = functools.partial(checked, "rgb_array")
    env = checked(None if render_mode == "rgb_array" else render_mode)
    with _closed_on_errors(env):
        drawable = can_draw(env)
        has_to_draw = drawable and seems_drawn(config, declared_space(env))
        if has_to_draw and render_mode not in (None, "rgb_array"):
            raise gym.error.UnsupportedMode(
                f'expected render_mode None or "rgb_array" for {config}, whose frames are drawn '
                f'for the agent, got {render_mode!r}: record a video with "rgb_array" instead'
            )
        if has_to_draw or (drawable and render_mode == "rgb_array"):
            try:
                drawn = drawing()
            except RenderModeError:  # then videos show the observations
                if has_to_draw:
                    raise
            else:
                env.close()
                return FrameEnv(drawn, config, view, None)
    return FrameEnv(env, config, view, drawing)


@contextlib.contextmanager
def _closed_on_errors(env: gym.Env[Any, Any]) -> Iterator[None]:
    try:
        yield
    except BaseException:
        with contextlib.suppress(Exception):  # the first error is more useful
            env.close()
        raise


def check_env(env: str | EnvConfig) -> None:
    """Make the environment and reset it, so that an unusable environment fails early.

    Raises: as `make_env` and `task_for`; EnvError also as the first reset of a `FrameEnv`.
    """
    config = EnvConfig.of(env)
    task_for(config)
    if config == EnvConfig(DEFAULT_ENV_ID):
        return
    with make_env(config) as made:
        made.reset(seed=0)


def make_envs(
    num_envs: int,
    num_workers: int = 0,
    *,
    env_id: str | EnvConfig = DEFAULT_ENV_ID,
    autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
    copy: bool = True,
    **settings: Any,
) -> gym.vector.VectorEnv[Any, Any, Any]:
    """Make environments of `make_env` that `num_workers` processes (0: this one) step together.

    Shapes: observations uint8 (num_envs, size, size, 3), actions those of `env_id` with a first
    axis (num_envs,), rewards float64, terminated and truncated bool (num_envs,). Results do not
    depend on `num_workers`, but workers refuse actions of another dtype than the space's.
    `reset(seed=s)` seeds environment i with s + i. `copy=False` returns observations that are valid
    until the next step. `settings` are those of `make_env`. If a module registers the id, put the
    module's name before it, "module:Name-v0", so that processes can import the module::

        envs = make_envs(16, num_workers=2)  # in a script, below if __name__ == "__main__":
        frames, infos = envs.reset(seed=0)
        for _ in range(1000):
            frames, rewards, terminated, truncated, infos = envs.step(envs.action_space.sample())
        envs.close()

    Raises:
        ValueError: no environments, or fewer than 0 or more than `num_envs` workers.
        Exception: those of `make_env`, and while stepping those of `ProcessVectorEnv`.
    """
    if num_envs < 1 or not 0 <= num_workers <= num_envs:
        raise ValueError(
            "expected 1 environment or more, and 0 to as many workers, "
            f"got {num_envs} and {num_workers}"
        )
    make = [functools.partial(make_env, env_id, **settings)] * num_envs
    if num_workers == 0:
        return SyncVectorEnv(make, copy=copy, autoreset_mode=autoreset_mode)
    return ProcessVectorEnv(make, num_workers, copy=copy, autoreset_mode=autoreset_mode)


def view_of(env: str | EnvConfig) -> View:
    """Return the task's view, with the size of the frames that the env itself gives or draws.

    Raises: as `check_env`.
    """
    view = task_for(env).view
    if view.source is not None:
        return view
    with make_env(env) as made:
        made.reset(seed=0)
        source = made.frame_size if isinstance(made, FrameEnv) else (view.size, view.size)
    return dataclasses.replace(view, source=source)


def _draw_without_display() -> None:
    """Keep SDL from searching for a display on a server; an existing display or setting stays."""
    has_display = "DISPLAY" in os.environ or "WAYLAND_DISPLAY" in os.environ
    if sys.platform.startswith("linux") and not has_display:
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
