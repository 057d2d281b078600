"""Ids to environments of small frames: one, or a vector of them."""

from __future__ import annotations

import dataclasses
import functools
import os
import sys
from typing import Any

import gymnasium as gym
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from envs.actions import action_size
from envs.tasks import CAR_RACING_IDS, DEFAULT_ENV_ID, task_for
from envs.vector import ProcessVectorEnv
from envs.views import View, ViewObservation, has_pixels


def make_env(
    env_id: str,
    *,
    render_mode: str | None = None,
    max_episode_steps: int | None = None,
    perturbation: str | None = None,
) -> gym.Env[Any, Any]:
    """One environment whose observations are the task's frames, uint8 (size, size, 3).

    Pixel observations are used as they are; anything else is drawn, through Gymnasium's
    render wrapper. With `render_mode="rgb_array"`, `render()` gives the large picture.
    `max_episode_steps` None keeps the registered limit. `perturbation` is one of
    `envs.perturbations.PERTURBATIONS`, which change what CarRacing looks like.

    Raises:
        ValueError: no such perturbation.
        TypeError: a perturbation of something else than CarRacing.
        gymnasium.error.UnregisteredEnv: no such id (Gymnasium's own error, unchanged).
        UnsupportedActionSpace: actions are neither a 1-D Box nor Discrete.
        gymnasium.error.UnsupportedMode: no pixels to observe, or a window was asked for
            while the observations have to be drawn.
    """
    _draw_without_display()
    env = gym.make(env_id, render_mode=render_mode, max_episode_steps=max_episode_steps)
    try:
        action_size(env.action_space)  # refuse before anything is drawn
        if perturbation is not None:
            from envs.perturbations import perturb  # Box2D, only where it is needed

            env = perturb(env, perturbation)
        if not has_pixels(env.observation_space):
            _check_can_draw(env, render_mode)
            if render_mode is None:
                env.close()
                env = gym.make(env_id, render_mode="rgb_array", max_episode_steps=max_episode_steps)
            env = gym.wrappers.AddRenderObservation(env, render_only=True)
        view = _known_view(env_id)
        if env.observation_space.shape == (view.size, view.size, 3):
            return env
        return ViewObservation(env, view)
    except BaseException:
        env.close()
        raise


def make_envs(
    num_envs: int,
    num_workers: int = 0,
    *,
    env_id: str = DEFAULT_ENV_ID,
    autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
    max_episode_steps: int | None = None,
    render_mode: str | None = None,
    perturbation: str | None = None,
    copy: bool = True,
) -> gym.vector.VectorEnv[Any, Any, Any]:
    """Environments of `make_env` stepped together, by as many processes or, for 0, in this one.

    Shapes: observations uint8 (num_envs, size, size, 3), actions those of `env_id` behind a
    first axis (num_envs,), rewards float64, terminated and truncated bool (num_envs,).
    Results do not depend on `num_workers`, but workers refuse actions of another dtype than the
    space's. `reset(seed=s)` seeds environment i with s + i. `max_episode_steps` counts steps of
    the environment. `copy=False` returns observations that are valid until the next step.
    Processes know an id that a module registers by the module's name in it, "module:Name-v0".

        envs = make_envs(16, num_workers=2)  # in a script, below if __name__ == "__main__":
        frames, infos = envs.reset(seed=0)
        for _ in range(1000):
            frames, rewards, terminated, truncated, infos = envs.step(envs.action_space.sample())
        envs.close()

    Raises:
        ValueError: no environments, or fewer than 0 or more than `num_envs` workers.
        Those of `make_env`, and while stepping those of `ProcessVectorEnv`.
    """
    if num_envs < 1:
        raise ValueError(f"expected 1 environment or more, got {num_envs}")
    if not 0 <= num_workers <= num_envs:
        raise ValueError(
            f"expected 0 to {num_envs} workers for {num_envs} environments, got {num_workers}"
        )
    make = functools.partial(
        make_env,
        env_id,
        render_mode=render_mode,
        max_episode_steps=max_episode_steps,
        perturbation=perturbation,
    )
    if num_workers == 0:
        return SyncVectorEnv([make] * num_envs, copy=copy, autoreset_mode=autoreset_mode)
    return ProcessVectorEnv(
        [make] * num_envs, num_workers, copy=copy, autoreset_mode=autoreset_mode
    )


def view_of(env_id: str) -> View:
    """The task's view, with the size of the frames that the env itself gives or draws.

    Raises: as `make_env`.
    """
    view = task_for(env_id).view
    if view.source is not None:
        return view
    env = make_env(env_id)
    try:
        frames = env.env if isinstance(env, ViewObservation) else env
        height, width, _ = frames.observation_space.shape or (view.size, view.size, 3)
    finally:
        env.close()
    return dataclasses.replace(view, source=(height, width))


def _known_view(env_id: str) -> View:
    """The view alone: `task_for` would make the environment once more."""
    return task_for(env_id).view if env_id in CAR_RACING_IDS else View()


def _check_can_draw(env: gym.Env[Any, Any], render_mode: str | None) -> None:
    name = env.spec.id if env.spec is not None else str(env)
    if "rgb_array" not in env.metadata.get("render_modes", ()):
        raise gym.error.UnsupportedMode(
            f"expected {name} to observe or to draw pixels, got observations "
            f"{env.observation_space} and render modes {env.metadata.get('render_modes')}"
        )
    if render_mode not in (None, "rgb_array"):
        raise gym.error.UnsupportedMode(
            f'expected render_mode None or "rgb_array" for {name}, whose frames are drawn for '
            f'the agent, got {render_mode!r}: record a video with "rgb_array" instead'
        )


def _draw_without_display() -> None:
    """Keep SDL from looking for a screen on a server; a display, or a choice made, stays."""
    has_display = "DISPLAY" in os.environ or "WAYLAND_DISPLAY" in os.environ
    if sys.platform.startswith("linux") and not has_display:
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
