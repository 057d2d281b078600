"""The choice of an environment: its id, its constructor's arguments, and what its frames are."""

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
    """The choice of an environment, as runs and agents store it.

    Attributes:
        env_id: a Gymnasium id, or `module:id`, where the module registers the id. The module may
            lie in the current folder.
        kwargs: arguments of the environment's constructor; JSON values.
        observation_key: the entry of a Dict observation that is the picture; "render" draws the
            environment through `render()` for any observation. None finds the picture.

    Raises EnvError for fields of another type, an argument that cannot be set here, or a value that
    JSON does not have.
    """

    env_id: str
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    observation_key: str | None = None

    def __post_init__(self) -> None:
        fits = isinstance(self.env_id, str) and isinstance(self.kwargs, Mapping)
        if not fits or not isinstance(self.observation_key, str | None):
            raise EnvError(
                "expected an environment's id, its arguments by name and an observation key, got "
                f"{self.env_id!r}, {self.kwargs!r} and {self.observation_key!r}"
            )
        for name in self.kwargs:
            if name in _RESERVED:
                raise EnvError(
                    f"{name} is no argument of an environment's own: leave out --env-arg {name}"
                )
        try:
            plain = json.loads(json.dumps(dict(self.kwargs), allow_nan=False))
        except (TypeError, ValueError) as error:
            raise EnvError(
                f"expected arguments of {self.env_id} as JSON values, got {dict(self.kwargs)}: "
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
        """Return `env` itself, or the config of an id alone."""
        return cls(env) if isinstance(env, str) else env
