"""Make environments from Gymnasium ids; the message of every error is one line."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gymnasium as gym
from gymnasium.wrappers import AtariPreprocessing, TimeLimit

from envs.config import EnvConfig
from envs.errors import EnvError, describe_error

ATARI = "ALE/"
# Prefixes of ids whose packages Gymnasium does not find by itself; the extra "games" installs them.
_MODULES = {
    ATARI: "ale_py",
    "MiniGrid-": "minigrid",
    "BabyAI-": "minigrid",
    "Vizdoom": "vizdoom.gymnasium_wrapper",
}


class RenderModeError(EnvError):
    """The constructor has no argument `render_mode`, so the environment cannot be rendered."""


def create_env(
    env: str | EnvConfig, *, render_mode: str | None = None, max_episode_steps: int | None = None
) -> gym.Env[Any, Any]:
    """Make the environment with Gymnasium, but without Gymnasium's checks.

    `CheckedEnv` has stricter checks. If `render_mode` is None, it is not passed to the constructor,
    so that constructors without this argument work.

    Raises:
        EnvError: the module cannot be imported, or the constructor raised an exception.
        RenderModeError: `render_mode` is given, but the constructor does not take this argument.
        gymnasium.error.Error: Gymnasium raised this error, for example UnregisteredEnv.
    """
    config = EnvConfig.of(env)
    kwargs = {**config.kwargs, **({} if render_mode is None else {"render_mode": render_mode})}
    with _current_folder_importable():
        _import_module(config)
        try:
            if is_preprocessed(config):
                return _make_atari(config.env_id, max_episode_steps, kwargs)
            return gym.make(
                config.env_id,
                max_episode_steps=max_episode_steps,
                disable_env_checker=True,
                **kwargs,
            )
        except gym.error.Error:
            raise
        except (Exception, SystemExit) as error:
            if isinstance(error, TypeError) and "argument 'render_mode'" in str(error):
                raise RenderModeError(
                    f"{config} cannot be rendered, because its constructor takes no render_mode: "
                    "add this argument, or return pictures as observations"
                ) from error
            helps = f": correct --env-arg ({', '.join(config.kwargs)})" if config.kwargs else ""
            raise EnvError(
                f"{config} could not be made, because its constructor raised "
                f"{describe_error(error)}{helps}"
            ) from error


def episode_limit(env: str | EnvConfig) -> int | None:
    """Return Gymnasium's limit of env steps per episode, or None if there is no limit."""
    config = EnvConfig.of(env)
    with _current_folder_importable():
        _import_module(config)
    return gym.spec(config.env_id.rpartition(":")[2]).max_episode_steps


def is_preprocessed(config: EnvConfig) -> bool:
    """Whether the environment is an Atari game that gets the usual preprocessing."""
    env_id = config.env_id.rpartition(":")[2]
    return env_id.startswith(ATARI) and "frameskip" not in config.kwargs


def _make_atari(
    env_id: str, max_episode_steps: int | None, kwargs: dict[str, Any]
) -> gym.Env[Any, Any]:
    """Make an Atari game with the preprocessing that most publications use.

    An env step takes four frames of the game, and its observation is the maximum of the last two
    frames. An episode starts with up to thirty frames without an action, so that different seeds
    give different episodes. No action is repeated at random, unless `repeat_action_probability` is
    given.

    Source: Nature 518, 529 (DQN); Gymnasium's `AtariPreprocessing`. Differs: frames keep their
    colors and their size. An episode does not end when the player loses a life.
    """
    chosen = {"repeat_action_probability": 0.0, **kwargs, "frameskip": 1}
    made = gym.make(env_id, disable_env_checker=True, **chosen)
    height, width, *_ = made.observation_space.shape or ()
    skipping = AtariPreprocessing(made, screen_size=(width, height), grayscale_obs=False)
    if max_episode_steps is None:
        return skipping
    return TimeLimit(skipping, max_episode_steps)


@contextmanager
def _current_folder_importable() -> Iterator[None]:
    """Add the current folder to `sys.path` until the end of this context.

    In the command `wm`, `sys.path` lacks the current folder. The folder becomes the last entry of
    `sys.path`, so that none of its files hides a package.
    """
    folder = os.getcwd()
    is_missing = folder not in sys.path and "" not in sys.path
    if is_missing:
        sys.path.append(folder)
    try:
        yield
    finally:
        if is_missing and folder in sys.path:
            sys.path.remove(folder)


def _import_module(config: EnvConfig) -> None:
    """Import the module that registers the id, if the id contains or implies a module."""
    module, colon, env_id = config.env_id.rpartition(":")
    if colon and not all(part.isidentifier() for part in module.split(".")):
        raise EnvError(
            f'expected the name of a module before the colon of "{config.env_id}", got "{module}"'
        )
    if not colon:
        known = next((name for start, name in _MODULES.items() if env_id.startswith(start)), None)
        if known is None or env_id in gym.registry:
            return
        if importlib.util.find_spec(known.partition(".")[0]) is None:
            raise EnvError(
                f'{env_id} needs the package {known}: run "pip install worldmodels-gym[games]"'
            )
        module = known
    try:
        importlib.import_module(module)
    except (Exception, SystemExit) as error:
        missing = (error.name or "") if isinstance(error, ModuleNotFoundError) else None
        if missing is None:
            fault = f"importing the module {module} of {config.env_id} raised "
            fault += describe_error(error)
        elif module == missing or module.startswith(f"{missing}."):
            fault = (
                f"no module {missing} for {config.env_id}: expected a module that is installed or "
                f"lies in {os.getcwd()}, and that registers {env_id}"
            )
        else:
            fault = (
                f"the module {module} of {config.env_id} imports {missing}, which is not installed "
                f"({describe_error(error)})"
            )
        raise EnvError(fault) from error
