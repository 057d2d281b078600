"""The settings that all stages of a run share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import NoneType
from typing import Any

from envs.config import EnvConfig

MAX_SEED = 2**62  # stages add numbers to the seed, and torch takes at most 64 bits


@dataclass(frozen=True)
class RunSettings:
    """The settings that all stages of a run share.

    All settings except `quantized` are fixed when the run is created.

    Attributes:
        env_id, env_kwargs, observation_key: the settings of the env; see `EnvConfig`.
        quantized: whether V's latents are codes; None until V is trained.
    """

    env_id: str
    preset: str
    seed: int
    quantized: bool | None = None
    env_kwargs: Mapping[str, Any] = field(default_factory=dict)
    observation_key: str | None = None

    @property
    def env(self) -> EnvConfig:
        """The env of the run."""
        return EnvConfig(self.env_id, self.env_kwargs, self.observation_key)

    @classmethod
    def of(cls, env: EnvConfig, preset: str, seed: int) -> RunSettings:
        """Return the settings of a new run in `env`."""
        return cls(env.env_id, preset, seed, None, env.kwargs, env.observation_key)

    @classmethod
    def from_dict(cls, content: Any) -> RunSettings:
        """Make settings from JSON; raise TypeError or ValueError if a setting is not valid."""
        settings = cls(**content)
        kinds = {"env_id": (str,), "preset": (str,), "seed": (int,), "quantized": (bool, NoneType)}
        for name, kind in kinds.items():
            if type(getattr(settings, name)) not in kind:  # not isinstance: true is an int
                raise TypeError(f"{name} has the invalid value {getattr(settings, name)!r}")
        if not 0 <= settings.seed <= MAX_SEED:
            raise ValueError(f"seed has the invalid value {settings.seed}")
        _ = settings.env  # `EnvConfig` checks the settings of the env
        return settings
