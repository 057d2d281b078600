"""Selection of the most surprising candidate episodes, for `wm collect --select-by-surprise`."""

import functools
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from agents.rollout import Rollout
from worldmodels.data.episode import PackedEpisode, pack_episode
from worldmodels.prior.surprise import Surprise, episode_surprise, load_surprise
from worldmodels.runs.run import Run

# Number of candidates that are played per stored episode. Three candidates take three times as long
# to play as one, but only the selected candidate takes disk space.
CANDIDATES = 3


@dataclass(frozen=True)
class PackWithSurprise:
    """Packs an episode and computes its surprise, in the worker that played the episode.

    Attributes:
        stride: the surprise is computed on every stride-th frame.
        prior: digest of the prior; a worker loads the prior again when this digest has changed.
        metadata: metadata of the policy, which is stored with the episode.
    """

    run: Path
    round: int
    stride: int
    prior: str
    metadata: dict[str, str] = field(default_factory=dict)

    def __call__(self, rollout: Rollout) -> "Candidate":
        """Return the packed episode and its surprise in nats per frame."""
        surprise = episode_surprise(_load(self.run, self.prior), rollout.frames, self.stride)
        metadata = {**self.metadata, "surprise": round(surprise, 4)}
        packed = pack_episode(rollout, round=self.round, **metadata)
        return Candidate(packed, surprise, rollout.num_steps)


@dataclass(frozen=True)
class Candidate:
    """A played episode that the selection may keep."""

    episode: PackedEpisode
    surprise: float
    num_steps: int


@dataclass
class EpisodeSelection:
    """Selects the most surprising candidate episode, and records the surprise of all candidates.

    Attributes:
        seen: surprise of all candidates so far.
        kept: surprise of all selected candidates so far.
        discarded_steps: env steps of the candidates that the last selection discarded.
    """

    seen: list[float] = field(default_factory=list)
    kept: list[float] = field(default_factory=list)
    discarded_steps: int = 0

    def __call__(self, candidates: list[Candidate]) -> PackedEpisode:
        """Return the most surprising candidate."""
        best = max(candidates, key=lambda candidate: candidate.surprise)
        self.seen += [candidate.surprise for candidate in candidates]
        self.kept.append(best.surprise)
        self.discarded_steps = sum(each.num_steps for each in candidates) - best.num_steps
        return best.episode

    def summary(self) -> dict[str, float]:
        """Return two mean surprises in nats per frame: of the selected and of all candidates."""
        return {
            "mean_surprise": float(np.mean(self.kept)),
            "candidates_mean_surprise": float(np.mean(self.seen)),
        }


@functools.lru_cache(maxsize=1)
def _load(run: Path, prior: str) -> Surprise:
    return load_surprise(Run(run))
