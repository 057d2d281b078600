"""The settings in which environments differ, such as the view and the action maps.

Any Gymnasium id works, even without an entry in this module. An environment that needs its own
view, action maps or action repeat gets a `Task` in this module.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from envs.actions import ActionMap, one_hot
from envs.checks import CheckedEnv
from envs.config import EnvConfig
from envs.measures import CAR_MEASURES, Measure, action_measures
from envs.plain_actions import native_action_space, plain_action_space
from envs.registration import create_env
from envs.views import PAPER_VIEW, View


@dataclass(frozen=True)
class Task:
    """An environment id, and everything about the environment that other packages need.

    `reference_env_id` is the id of the environment in which headline scores are measured. This id
    is usually `env_id` itself. `constant_actions` contains the encoded actions of baselines, each
    of which always takes the same action. `action_repeat`, the number of env steps per agent step,
    was chosen because it works well. `action_maps` map raw controller outputs to encoded actions.
    `measures` are numbers that describe how an agent acts in an episode.
    """

    env_id: str
    reference_env_id: str
    view: View
    action_maps: Mapping[str, ActionMap]
    default_action_map: str
    measures: tuple[Measure, ...]
    constant_actions: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    action_repeat: int = 1
    keys: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    steps_per_second: float = 50.0

    @property
    def action_map(self) -> ActionMap:
        """The default action map."""
        return self.action_maps[self.default_action_map]

    @property
    def noop_action(self) -> NDArray[np.float32]:
        """The encoded action of a human player who presses no key, float32 (A,).

        This action is zero for a Box, and one-hot at index 0 for a Discrete space.
        """
        size = self.action_map.size
        return one_hot(0, size) if self.action_map.discrete else np.zeros(size, dtype=np.float32)


# Source: arXiv 1803.10122 and its code: steer = tanh, gas = (tanh + 1) / 2, brake =
# clip(tanh, 0, 1). Encoded action: steer, gas, brake.
_CAR_PAPER = ActionMap(
    num_outputs=3,
    discrete=False,
    source=(0, 1, 2),
    scale=(1.0, 0.5, 1.0),
    offset=(0.0, 0.5, 0.0),
    low=(-1.0, 0.0, 0.0),
    high=(1.0, 1.0, 1.0),
)
# One pedal axis is gas above zero and brake below: both are never used at once, and the search has
# one output fewer.
_CAR_PEDAL = replace(
    _CAR_PAPER, num_outputs=2, source=(0, 1, 1), scale=(1.0, 1.0, -1.0), offset=(0.0, 0.0, 0.0)
)
DEFAULT_ENV_ID = "worldmodels/CarRacing-v3"
CAR_RACING_IDS = (DEFAULT_ENV_ID, "CarRacing-v3")
_CAR_RACING = Task(
    env_id=DEFAULT_ENV_ID,
    reference_env_id="CarRacing-v3",
    view=PAPER_VIEW,
    action_maps={"paper": _CAR_PAPER, "pedal": _CAR_PEDAL},
    default_action_map="pedal",
    measures=CAR_MEASURES,
    constant_actions={
        "standing": (0.0, 0.0, 1.0),
        "gentle gas": (0.0, 0.1, 0.0),
        "full gas": (0.0, 1.0, 0.0),
    },
    action_repeat=4,
    keys={
        "left": (-1.0, 0.0, 0.0),
        "right": (1.0, 0.0, 0.0),
        "up": (0.0, 1.0, 0.0),
        "down": (0.0, 0.0, 0.8),  # 0.9 and more block the wheels
    },
)

# Env steps per agent step of other environments, by the beginning of their ids, where 1 is not the
# best. A lander and a gun turn little within one env step.
_ACTION_REPEATS = {"LunarLander": 4, "Vizdoom": 4}

# More constant actions are of little use as baselines, and each is played for every score.
MAX_CONSTANT_ACTIONS = 18


def task_for(env: str | EnvConfig) -> Task:
    """Return the task of any environment.

    Raises:
        gymnasium.error.UnregisteredEnv: no environment has this id (Gymnasium's error, unchanged).
        UnsupportedActionSpace: `plain_action_space` cannot convert the action space, or the action
            space is a Box without bounds.
        EnvError: `create_env` could not make the environment.
    """
    config = EnvConfig.of(env)
    is_car_racing = config.env_id in CAR_RACING_IDS
    if is_car_racing and config.kwargs.get("continuous", True):
        return replace(_CAR_RACING, env_id=config.env_id, view=known_view(config))
    with CheckedEnv(create_env(config), str(config)) as made:
        space = plain_action_space(native_action_space(made))
        fps = made.metadata.get("render_fps")
    action_map = ActionMap.for_space(space)
    constant_actions = {}
    if action_map.discrete and action_map.size <= MAX_CONSTANT_ACTIONS:
        for index, action in enumerate(_one_hots(action_map.size, MAX_CONSTANT_ACTIONS)):
            constant_actions[f"always {action_map.start + index}"] = action
    return Task(
        env_id=config.env_id,
        reference_env_id="CarRacing-v3" if is_car_racing else config.env_id,
        view=known_view(config),
        action_maps={"default": action_map},
        default_action_map="default",
        measures=action_measures(action_map),
        constant_actions=constant_actions,
        action_repeat=_action_repeat(config.env_id),
        keys=_keys_for(action_map),
        steps_per_second=fps if isinstance(fps, int | float) and fps > 0 else 30,
    )


def _action_repeat(env_id: str) -> int:
    name = env_id.rpartition(":")[2]
    known = (n for start, n in _ACTION_REPEATS.items() if name.startswith(start))
    return next(known, 1)


def known_view(config: EnvConfig) -> View:
    """Return the view of the environment of `config`, without making the environment."""
    shows_road = config.env_id in CAR_RACING_IDS and config.observation_key is None
    return PAPER_VIEW if shows_road else View()


def _keys_for(action_map: ActionMap) -> dict[str, tuple[float, ...]]:
    """Return the keys of a human player, with the encoded action of each key.

    The keys are digits for discrete actions, and arrows for the first two dimensions of a Box.
    """
    one_hots = _one_hots(action_map.size, 10)
    if action_map.discrete:
        return {str(index): action for index, action in enumerate(one_hots)}
    keys = {}
    for dimension, pair in enumerate((("left", "right"), ("down", "up"))[: action_map.size]):
        for name, limit in zip(pair, (action_map.low, action_map.high), strict=True):
            keys[name] = tuple(limit[dimension] * hot for hot in one_hots[dimension])
    return keys


def _one_hots(size: int, most: int) -> list[tuple[float, ...]]:
    """Return the first `most` one-hot vectors of length `size`, or all if `size` is smaller."""
    return [tuple(row) for row in one_hot(np.arange(min(size, most)), size).tolist()]
