"""Which episodes a score is made of: scores are comparable only where this is the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from agents.seeds import seeds

Purpose = Literal["monitoring", "selection", "validation", "test"]


@dataclass(frozen=True)
class EvaluationProtocol:
    """The episodes of one score.

    Attributes:
        env_id: as `envs.make.make_env` takes it.
        purpose: of the score, which is also the split that its seeds come from.
        episodes: number of episodes, 1 or more.
        start: position of the first seed within the split.
        perturbation: one of `envs.perturbations.PERTURBATIONS`; None changes nothing.

    Raises ValueError where there are no such episodes.
    """

    env_id: str
    purpose: Purpose
    episodes: int
    start: int = 0
    perturbation: str | None = None

    def __post_init__(self) -> None:
        if self.purpose not in get_args(Purpose):
            expected = ", ".join(get_args(Purpose))
            raise ValueError(f"expected a purpose among {expected}, got {self.purpose!r}")
        if self.episodes < 1:
            raise ValueError(f"expected 1 episode or more to evaluate, got {self.episodes}")
        _ = self.seeds

    @property
    def seeds(self) -> list[int]:
        """The seed of each episode, in order."""
        return seeds(self.purpose, self.episodes, self.start)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> EvaluationProtocol:
        """The inverse of `to_dict`."""
        return cls(**values)
