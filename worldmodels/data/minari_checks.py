"""Check Minari datasets from other sources; every problem raises an error of one line."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from numpy.typing import NDArray

from envs.actions import UnsupportedActionSpace, action_size
from envs.config import EnvConfig
from envs.errors import EnvError
from envs.tasks import Task, task_for
from envs.views import has_pixels
from worldmodels.errors import UserError

PIXELS_KEY = "pixels"


def env_task(name: str, env: EnvConfig) -> Task:
    """The task that belongs to a dataset's env.

    Raises: UserError if the env does not exist, or if agents cannot act in the env.
    """
    try:
        return task_for(env)
    except (gym.error.Error, ImportError, UnsupportedActionSpace) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{env}, the environment of {name}, cannot be used: {reason}") from error


def given_arguments(spec: EnvSpec) -> dict[str, Any]:
    """The constructor arguments of a recorded env, except those that the env id already implies."""
    registered = gym.registry[spec.id].kwargs if spec.id in gym.registry else {}
    given = {
        name: value
        for name, value in spec.kwargs.items()
        if name != "render_mode" and (name not in registered or registered[name] != value)
    }
    try:
        return dict(EnvConfig(spec.id, given).kwargs)
    except EnvError:  # some arguments are objects, which a run cannot store
        return {}


def pixels_key(name: str, space: spaces.Space[Any]) -> str | None:
    """The key under which Dict observations hold frames; None if observations are frames."""
    if has_pixels(space):
        return None
    if isinstance(space, spaces.Dict):
        keys = [key for key, part in space.spaces.items() if has_pixels(part)]
        if PIXELS_KEY in keys or len(keys) == 1:
            return PIXELS_KEY if PIXELS_KEY in keys else keys[0]
    raise UserError(
        f"expected the observations of {name} to be pixels, in a Box of uint8 (H, W, 3) or in a "
        f"Dict with one such Box, got {space}: record the dataset again with the wrapper "
        "gymnasium.wrappers.AddRenderObservation"
    )


def check_env_actions(name: str, found: spaces.Space[Any], task: Task) -> None:
    """Raise UserError if a dataset's actions differ in meaning from the env's actions.

    The first number of a Discrete space (`start`) may differ, because this number does not affect
    the one-hot encoding.
    """
    space = task.action_map.space
    same = type(found) is type(space) and action_size(found) == action_size(space)
    if same and isinstance(found, spaces.Box) and isinstance(space, spaces.Box):
        # Infinite bounds are not compared: an export without the installed env writes them.
        ours, theirs = (space.low, space.high), (found.low, found.high)
        same = not found.is_bounded() or np.allclose(ours, theirs)
    if not same:
        raise UserError(
            f"expected {name} to hold the actions of {task.env_id}, in {space}, got {found}: "
            "name a dataset that was recorded without wrappers that change the actions, or name "
            "the dataset's own env with --env"
        )


def check_ends(
    episode: str, num_steps: int, terminations: NDArray[Any], truncations: NDArray[Any]
) -> None:
    """Raise UserError for an episode that ends before its last step.

    Args:
        episode: name of the episode, for the error message.
        terminations, truncations: one flag per env step.
    """
    flags = {"termination": np.asarray(terminations), "truncation": np.asarray(truncations)}
    for kind, ends in flags.items():
        if ends.shape != (num_steps,):
            raise UserError(
                f"expected {num_steps} {kind} flags in {episode}, one per reward, got an array of "
                f"shape {ends.shape}: repair the dataset"
            )
        early = np.flatnonzero(ends[:-1])
        if len(early):
            raise UserError(
                f"expected {episode} to end at its last step, got a {kind} at step "
                f"{early[0]} of {num_steps}, counting from 0: cut the episode after that step"
            )


def check_frames(episode: str, frames: NDArray[Any], shape: tuple[int, ...]) -> None:
    """Raise UserError if frames do not have the shape that their dataset states."""
    if frames.shape[1:] != shape:
        raise UserError(
            f"expected frames of the shape that the dataset states, {shape}, in {episode}, "
            f"got {frames.shape[1:]}: leave the episode out, or put it into another dataset"
        )


def finite_floats(episode: str, what: str, values: NDArray[Any]) -> NDArray[np.float32]:
    """Convert values to float32; raises UserError if a value is NaN or infinite.

    The first axis of `values` is time.

    Args:
        episode, what: names of the episode and of the values, for the error message.
    """
    with np.errstate(over="ignore"):  # values that are too large become infinite
        floats = np.asarray(values, np.float32)
    wrong = np.argwhere(~np.isfinite(floats))
    if len(wrong):
        raise UserError(
            f"expected finite {what} of 32 bits in {episode}, got {floats[tuple(wrong[0])]} at "
            f"step {wrong[0][0]} of {len(floats)}, counting from 0: repair the dataset, or leave "
            "the episode out"
        )
    return floats


def reason_of(error: Exception) -> str:
    """The message of an error in one line; the error's type is added if the message is unclear."""
    text = " ".join(str(error).split())
    return text if text and not isinstance(error, KeyError) else f"{type(error).__name__} {text}"
