"""Evaluation protocols: two scores are comparable only if their protocols are the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from agents.seeds import seeds
from envs.config import EnvConfig

Purpose = Literal["monitoring", "selection", "validation", "test"]


@dataclass(frozen=True)
class EvaluationProtocol:
    """The settings that determine which episodes a score is computed over.

    Attributes:
        env_id, env_kwargs, observation_key: the environment, as in `EnvConfig`.
        purpose: what the score is used for. The seeds come from the split with the same name.
        episodes: number of episodes, 1 or more.
        start: position of the first seed within the split, counted from 0.
        perturbation: name of a perturbation in `envs.perturbations.PERTURBATIONS`, or None for no
            perturbation.

    Raises ValueError if the purpose is unknown, if `episodes` is below 1, or if the split has too
    few seeds.
    """

    env_id: str
    purpose: Purpose
    episodes: int
    start: int = 0
    perturbation: str | None = None
    env_kwargs: Mapping[str, Any] = field(default_factory=dict)
    observation_key: str | None = None

    @classmethod
    def of(
        cls, env: EnvConfig, purpose: Purpose, episodes: int, perturbation: str | None = None
    ) -> EvaluationProtocol:
        """Return the protocol with the first `episodes` seeds of the split named `purpose`."""
        return cls(env.env_id, purpose, episodes, 0, perturbation, env.kwargs, env.observation_key)

    def __post_init__(self) -> None:
        if self.purpose not in get_args(Purpose):
            expected = ", ".join(get_args(Purpose))
            raise ValueError(f"expected a purpose among {expected}, got {self.purpose!r}")
        if self.episodes < 1:
            raise ValueError(f"expected at least 1 episode to evaluate, got {self.episodes}")
        _ = self.seeds

    @property
    def env(self) -> EnvConfig:
        """The environment in which the episodes are played."""
        return EnvConfig(self.env_id, self.env_kwargs, self.observation_key)

    @property
    def seeds(self) -> list[int]:
        """The seed of each episode, in order."""
        return seeds(self.purpose, self.episodes, self.start)

    def to_dict(self) -> dict[str, Any]:
        """Return the protocol as a dictionary of JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> EvaluationProtocol:
        """Restore the protocol from the dictionary that `to_dict` returned."""
        return cls(**values)
