"""Training of M: its settings, its batches, and an M with random weights."""

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
    """Settings of M that can be chosen before V's kind is known; each kind of M uses a part."""

    def part(self, kind: type[MemorySettings]) -> dict[str, Any]:
        """Return the settings that belong to this kind of M."""
        return {field.name: getattr(self, field.name) for field in fields(kind)}


@dataclass(frozen=True, kw_only=True)
class MemoryStageConfig(TrainingStageConfig):
    """Settings of M's training; V determines the kind of M.

    Attributes:
        ensemble_size: number of models in M; see `MemoryEnsemble`.
        sequence_length: agent steps per training sequence, which starts at a random place of its
            episode; a length above that of the episodes means whole episodes.
        burn_in: agent steps at the start of a sequence that only update M's state and have no
            loss; it applies to sequences that begin in the middle of their episode.
    """

    model: MemoryModelConfig = MemoryModelConfig()
    ensemble_size: int = 1
    sequence_length: int = 999
    burn_in: int = 0

    def __post_init__(self) -> None:
        check_at_least(1, self, "ensemble_size")
        if not 0 <= self.burn_in < self.sequence_length:
            most = self.sequence_length - 1
            raise UserError(
                f"burn_in must be in 0..{most}, shorter than a sequence, got {self.burn_in}"
            )

    @classmethod
    def from_dict(cls, summary: dict[str, Any]) -> "MemoryStageConfig":
        """Make a config from a JSON object, the inverse of `dataclasses.asdict`."""
        own = dict(summary)
        # Earlier versions wrote the settings of the model into the same object as the stage's.
        names = own.keys() & {field.name for field in fields(MemoryModelConfig)}
        flat = {name: own.pop(name) for name in names}
        own["model"] = MemoryModelConfig(**own.get("model", flat))
        return cls(**{**own, **{name: FitConfig(**own[name]) for name in ("fit", "later")}})


class SequenceBatches:
    """Random windows of random episodes; an episode shorter than the window is padded.

    Args:
        burn_in: agent steps at a window's start whose mask is false, unless the window starts with
            its episode.
    """

    def __init__(self, episodes: Sequences, batch_size: int, length: int, burn_in: int = 0) -> None:
        self.episodes = episodes
        self.batch_size = batch_size
        self.burn_in = burn_in
        self.lengths = episodes.lengths
        self.length = min(length, int(self.lengths.max()))

    def __call__(self, step: int, generator: torch.Generator) -> SequenceBatch:
        """Return the batch of an optimizer step, on the CPU; it depends only on the generator."""
        rows = torch.randint(len(self.episodes), (self.batch_size,), generator=generator)
        room = (self.lengths[rows] - self.length).clamp(min=0)
        starts = (torch.rand(self.batch_size, generator=generator) * (room + 1)).long()
        window = self.episodes.windows(rows, starts, self.length)
        if self.burn_in:
            window.mask[starts > 0, : self.burn_in] = False
        return window


def new_memory(config: MemoryStageConfig, vision: Vision, num_actions: int) -> AnyMemory:
    """Make an M with random weights, of the kind that fits V and of the size in the settings."""
    if isinstance(vision, VQVAE):
        codes, chosen = vision.config, config.model.part(CodeRNNSettings)
        sizes = codes.num_codes, codes.digit_sizes, codes.vector_size
        over_codes = CodeRNNConfig(*sizes, num_actions, **chosen)
        return make_memory(over_codes, config.ensemble_size, vision.code_vectors.cpu())
    chosen = config.model.part(MDNRNNSettings)
    over_latents = MDNRNNConfig(vision.num_features, num_actions, **chosen)
    return make_memory(over_latents, config.ensemble_size)
