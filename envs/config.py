"""The configuration of an environment: its id, its arguments, and the source of its frames."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from envs.errors import EnvError

RENDER = "render"
# These arguments have options of their own, or none.
_RESERVED = ("id", "render_mode", "max_episode_steps", "disable_env_checker")


@dataclass(frozen=True)
class EnvConfig:
    """The configuration of an environment, as runs and agents store it.

    Attributes:
        env_id: a Gymnasium id, or `module:id`, where the module registers the id. The module may
            lie in the current folder.
        kwargs: arguments of the environment's constructor, which must be JSON values.
        observation_key: the key of the picture in a Dict observation. With the key "render", the
            frames are the pictures of `render()`, whatever the observations are. With the key None,
            each frame is the only picture in the observation. If the observation contains no
            picture, the frames are the pictures of `render()`.

    Raises EnvError if a field has the wrong type, if `kwargs` contains `render_mode` or the name of
    an argument of `gymnasium.make`, or if a value in `kwargs` is not a JSON value.
    """

    env_id: str
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    observation_key: str | None = None

    def __post_init__(self) -> None:
        fits = isinstance(self.env_id, str) and isinstance(self.kwargs, Mapping)
        if not fits or not isinstance(self.observation_key, str | None):
            raise EnvError(
                "expected an environment's id, a dict of its arguments and an observation key, got "
                f"{self.env_id!r}, {self.kwargs!r} and {self.observation_key!r}"
            )
        for name in self.kwargs:
            if name in _RESERVED:
                raise EnvError(
                    f"{name} is not an argument that --env-arg can set: leave out --env-arg {name}"
                )
        try:
            plain = json.loads(json.dumps(dict(self.kwargs), allow_nan=False))
        except (TypeError, ValueError) as error:
            raise EnvError(
                f"expected JSON values as arguments of {self.env_id}, got {dict(self.kwargs)}: "
                f"{error}"
            ) from error
        object.__setattr__(self, "kwargs", plain)  # tuples became lists, as they do in a file

    def __hash__(self) -> int:
        return hash((self.env_id, json.dumps(self.kwargs, sort_keys=True), self.observation_key))

    def __str__(self) -> str:
        words = [f"{name}={json.dumps(value)}" for name, value in sorted(self.kwargs.items())]
        if self.observation_key is not None:
            words.append(f"observation key {self.observation_key}")
        return f"{self.env_id} ({', '.join(words)})" if words else self.env_id

    @classmethod
    def of(cls, env: str | EnvConfig) -> EnvConfig:
        """Convert an id to an EnvConfig; return an EnvConfig unchanged."""
        return cls(env) if isinstance(env, str) else env
