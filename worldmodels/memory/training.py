"""Settings and batches of M's training, and the creation of an M with random weights."""

import math
from dataclasses import dataclass, fields
from typing import Any

import torch

from worldmodels.data.sequences import SequenceBatch, Sequences
from worldmodels.errors import UserError, check_at_least
from worldmodels.memory import AnyMemory, make_memory
from worldmodels.memory.codernn import CodeRNNConfig, CodeRNNSettings
from worldmodels.memory.mdnrnn import MDNRNNConfig, MDNRNNSettings
from worldmodels.memory.protocol import MemorySettings
from worldmodels.training.fit import FitConfig
from worldmodels.training.stage import TrainingStageConfig
from worldmodels.vision import VQVAE, Vision


@dataclass(frozen=True, kw_only=True)
class MemoryModelConfig(MDNRNNSettings, CodeRNNSettings):
    """All settings of M that do not depend on V; each kind of M uses only some of the settings."""

    def part(self, kind: type[MemorySettings]) -> dict[str, Any]:
        """Return the settings that belong to this kind of M."""
        return {field.name: getattr(self, field.name) for field in fields(kind)}


@dataclass(frozen=True, kw_only=True)
class MemoryStageConfig(TrainingStageConfig):
    """Settings of M's training; V determines the kind of M.

    Attributes:
        ensemble_size: number of models in M; see `MemoryEnsemble`.
        min_batch_steps: number of agent steps that a batch has at least, on average over batches.
            If `fit.batch_size` sequences have fewer agent steps, a batch has more sequences.
        sequence_length: number of agent steps per training sequence. A sequence starts at a random
            agent step of an episode. If `sequence_length` exceeds the length of all episodes,
            sequences are whole episodes.
        burn_in: number of agent steps at the start of a sequence that update M's state but do not
            count in the loss. Sequences that start with the first agent step of an episode have no
            burn-in.
    """

    model: MemoryModelConfig = MemoryModelConfig()
    ensemble_size: int = 1
    min_batch_steps: int = 0
    sequence_length: int = 999
    burn_in: int = 0

    def __post_init__(self) -> None:
        check_at_least(1, self, "ensemble_size")
        if not 0 <= self.burn_in < self.sequence_length:
            most = self.sequence_length - 1
            raise UserError(
                f"burn_in must be in 0..{most}, below the sequence length, got {self.burn_in}"
            )

    @classmethod
    def from_dict(cls, summary: dict[str, Any]) -> "MemoryStageConfig":
        """Make a config from a JSON object that `dataclasses.asdict` made from a config."""
        own = dict(summary)
        # Earlier versions wrote the settings of the model into the same object as the stage's.
        names = own.keys() & {field.name for field in fields(MemoryModelConfig)}
        flat = {name: own.pop(name) for name in names}
        own["model"] = MemoryModelConfig(**own.get("model", flat))
        return cls(**{**own, **{name: FitConfig(**own[name]) for name in ("fit", "later")}})


class SequenceBatches:
    """Batches of random windows of random episodes; an episode shorter than a window is padded.

    The probability of an episode is proportional to its number of agent steps, so that every agent
    step is drawn about equally often.

    Args:
        batch_size: number of sequences per batch.
        min_steps: number of agent steps that a batch has at least, on average over batches. If
            `batch_size` sequences have fewer agent steps, a batch has more sequences.
        burn_in: number of agent steps at the start of a window for which the mask is set to false.
            The mask of a window that starts with the first agent step of an episode is unchanged.
    """

    def __init__(
        self,
        episodes: Sequences,
        batch_size: int,
        length: int,
        burn_in: int = 0,
        min_steps: int = 0,
    ) -> None:
        self.episodes = episodes
        self.burn_in = burn_in
        self.lengths = episodes.lengths
        self.length = min(length, int(self.lengths.max()))
        windows = self.lengths.clamp(max=self.length)
        per_sequence = float((windows * self.lengths).sum() / self.lengths.sum())
        self.batch_size = max(batch_size, math.ceil(min_steps / per_sequence))
        self._cumulative = self.lengths.cumsum(0)

    def __call__(self, step: int, generator: torch.Generator) -> SequenceBatch:
        """Return the batch of an optimizer step, on the CPU; the generator determines the batch."""
        picked = torch.randint(int(self._cumulative[-1]), (self.batch_size,), generator=generator)
        rows = torch.searchsorted(self._cumulative, picked, right=True)
        room = (self.lengths[rows] - self.length).clamp(min=0)
        starts = (torch.rand(self.batch_size, generator=generator) * (room + 1)).long()
        length = min(self.length, int(self.lengths[rows].max()))
        window = self.episodes.windows(rows, starts, length)
        if self.burn_in:
            window.mask[starts > 0, : self.burn_in] = False
        return window


def new_memory(config: MemoryStageConfig, vision: Vision, num_actions: int) -> AnyMemory:
    """Make an M with random weights; V determines the kind, and `config` determines the size."""
    if isinstance(vision, VQVAE):
        codes, chosen = vision.config, config.model.part(CodeRNNSettings)
        sizes = codes.num_codes, codes.digit_sizes, codes.vector_size
        over_codes = CodeRNNConfig(*sizes, num_actions, **chosen)
        return make_memory(over_codes, config.ensemble_size, vision.code_vectors.cpu())
    chosen = config.model.part(MDNRNNSettings)
    over_latents = MDNRNNConfig(vision.num_features, num_actions, **chosen)
    return make_memory(over_latents, config.ensemble_size)
