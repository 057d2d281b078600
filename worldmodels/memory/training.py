"""How M is trained: its settings, its batches, and an M with random weights."""

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
    """What can be chosen of M before V's kind is known; each kind of M takes its own part."""

    def part(self, kind: type[MemorySettings]) -> dict[str, Any]:
        """The settings that M's of this kind have."""
        return {field.name: getattr(self, field.name) for field in fields(kind)}


@dataclass(frozen=True, kw_only=True)
class MemoryStageConfig(TrainingStageConfig):
    """How M is trained; what kind it is follows from V.

    Attributes:
        ensemble_size: models whose mixture M is, see `MemoryEnsemble`.
        sequence_length: agent steps per training sequence, from a random place of its episode;
            longer than the episodes means whole episodes.
        burn_in: the first agent steps of a sequence that only bring M's state up to date and are
            not learned from, where it begins in the middle of its episode.
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
        """The inverse of `dataclasses.asdict`, through JSON."""
        own = dict(summary)
        # Earlier versions wrote the model's settings beside the stage's own.
        names = own.keys() & {field.name for field in fields(MemoryModelConfig)}
        flat = {name: own.pop(name) for name in names}
        own["model"] = MemoryModelConfig(**own.get("model", flat))
        return cls(**{**own, **{name: FitConfig(**own[name]) for name in ("fit", "later")}})


class SequenceBatches:
    """Random windows of random episodes; an episode shorter than the window fills it in part.

    Args:
        burn_in: agent steps at a window's beginning whose mask is false, unless it begins where its
            episode does.
    """

    def __init__(self, episodes: Sequences, batch_size: int, length: int, burn_in: int = 0) -> None:
        self.episodes = episodes
        self.batch_size = batch_size
        self.burn_in = burn_in
        self.lengths = episodes.lengths
        self.length = min(length, int(self.lengths.max()))

    def __call__(self, step: int, generator: torch.Generator) -> SequenceBatch:
        """The batch of step `step`, on the CPU; depends on nothing but the generator."""
        rows = torch.randint(len(self.episodes), (self.batch_size,), generator=generator)
        room = (self.lengths[rows] - self.length).clamp(min=0)
        starts = (torch.rand(self.batch_size, generator=generator) * (room + 1)).long()
        window = self.episodes.windows(rows, starts, self.length)
        if self.burn_in:
            window.mask[starts > 0, : self.burn_in] = False
        return window


def new_memory(config: MemoryStageConfig, vision: Vision, num_actions: int) -> AnyMemory:
    """An M with random weights, of V's kind and of the settings' size."""
    if isinstance(vision, VQVAE):
        codes, chosen = vision.config, config.model.part(CodeRNNSettings)
        sizes = codes.num_codes, codes.digit_sizes, codes.vector_size
        over_codes = CodeRNNConfig(*sizes, num_actions, **chosen)
        return make_memory(over_codes, config.ensemble_size, vision.code_vectors.cpu())
    chosen = config.model.part(MDNRNNSettings)
    over_latents = MDNRNNConfig(vision.num_features, num_actions, **chosen)
    return make_memory(over_latents, config.ensemble_size)
