"""Make single environments and vector environments whose observations are small frames."""

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
from envs.frames import FrameEnv, can_draw, seems_drawn
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
    """Make one environment whose observations are frames in the view of its `Task`.

    Observations are uint8 (size, size, 3). If the environment's observations are pictures, the
    frames are these observations. Otherwise, the frames are rendered (see `FrameEnv`). The action
    space is a Box with one axis or a Discrete space (see `plain_action_space`). Rewards and ends of
    episodes are checked (see `CheckedEnv`), except in `worldmodels/CarRacing-v3`. With
    `render_mode="rgb_array"`, `render()` returns a picture in the original size.
    `max_episode_steps` limits the env steps of an episode. The value None keeps the limit with
    which the environment is registered. `perturbation` is the key of a perturbation in
    `envs.perturbations.PERTURBATIONS`, which changes CarRacing's pictures.

    Raises:
        ValueError: `perturbation` is not the name of a perturbation.
        TypeError: `perturbation` is given, and the environment is not CarRacing.
        gymnasium.error.UnregisteredEnv: no environment has this id (Gymnasium's error, unchanged).
        UnsupportedActionSpace: no policy supports the environment's action space.
        gymnasium.error.UnsupportedMode: the frames must be rendered, and `render_mode` is neither
            None nor "rgb_array".
        EnvError: raised by `create_env`; from the first reset on, also raised by `FrameEnv` and
            `CheckedEnv`.
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
    """Make the environment with all checks.

    If the frames must be rendered, the environment has the render mode "rgb_array".
    """

    def checked(mode: str | None) -> CheckedEnv:
        made = create(mode)
        with _closed_on_errors(made):
            env = CheckedEnv(PlainActions(made), str(config))
        return env

    drawing = functools.partial(checked, "rgb_array")
    env = checked(None if render_mode == "rgb_array" else render_mode)
    with _closed_on_errors(env):
        drawable = can_draw(env)
        has_to_draw = drawable and seems_drawn(config, getattr(env, "observation_space", None))
        if has_to_draw and render_mode not in (None, "rgb_array"):
            raise gym.error.UnsupportedMode(
                f'expected render_mode None or "rgb_array" for {config}, whose frames must be '
                f'rendered, got {render_mode!r}: record a video with "rgb_array" instead'
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
    """Make the environment and reset it, so that errors of an unusable environment appear early.

    Raises the errors of `make_env`, of `task_for` and of the first reset of a `FrameEnv`.
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
    """Make a vector environment of `num_envs` environments, each of which `make_env` makes.

    The environments are distributed over `num_workers` processes. If `num_workers` is 0, the
    current process steps all environments. Observations are uint8 (num_envs, size, size, 3).
    Actions have a first axis of length num_envs. Rewards are float64 (num_envs,), and `terminated`
    and `truncated` are bool (num_envs,). Results do not depend on `num_workers`, with one
    exception: worker processes raise an error if the actions do not have the dtype of the action
    space. `reset(seed=s)` seeds environment i with s + i. With `copy=False`, observations are valid
    only until the next step. `settings` are keyword arguments of `make_env`. If your own module
    registers the id, write the id as "module:Name-v0", so that worker processes import this module.
    In a script, code like this example must be below `if __name__ == "__main__":`::

        envs = make_envs(16, num_workers=2)
        frames, infos = envs.reset(seed=0)
        for _ in range(1000):
            frames, rewards, terminated, truncated, infos = envs.step(envs.action_space.sample())
        envs.close()

    Raises:
        ValueError: `num_envs` is less than 1, or `num_workers` is negative or more than `num_envs`.
        Exception: an error of `make_env`, or an error of `ProcessVectorEnv` during a step.
    """
    if num_envs < 1 or not 0 <= num_workers <= num_envs:
        raise ValueError(
            "expected num_envs >= 1 and 0 <= num_workers <= num_envs, "
            f"got num_envs={num_envs} and num_workers={num_workers}"
        )
    make = [functools.partial(make_env, env_id, **settings)] * num_envs
    if num_workers == 0:
        return SyncVectorEnv(make, copy=copy, autoreset_mode=autoreset_mode)
    return ProcessVectorEnv(make, num_workers, copy=copy, autoreset_mode=autoreset_mode)


def view_of(env: str | EnvConfig) -> View:
    """Return the task's view, with the original size of the environment's frames as its source.

    Raises the errors of `check_env`.
    """
    view = task_for(env).view
    if view.source is not None:
        return view
    with make_env(env) as made:
        made.reset(seed=0)
        source = made.frame_size if isinstance(made, FrameEnv) else (view.size, view.size)
    return dataclasses.replace(view, source=source)


def _draw_without_display() -> None:
    """On Linux, set SDL's dummy video driver, unless a display exists or a driver is set."""
    has_display = "DISPLAY" in os.environ or "WAYLAND_DISPLAY" in os.environ
    if sys.platform.startswith("linux") and not has_display:
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
