"""How M is trained: its settings, its batches, and an M with random weights."""

from dataclasses import dataclass

import torch

from worldmodels.data.sequences import SequenceBatch, Sequences
from worldmodels.errors import UserError
from worldmodels.memory import CodeRNNConfig, MDNRNNConfig, Memory, make_memory
from worldmodels.training.stage import TrainingStageConfig
from worldmodels.vision import VQVAE, Vision


@dataclass(frozen=True, kw_only=True)
class MemoryStageConfig(TrainingStageConfig):
    """How M is trained; what kind it is follows from V.

    Attributes:
        num_hidden, num_mixtures, predict_change, head_width, autoregressive: see MDNRNNConfig and
            CodeRNNConfig.
        ensemble_size: models whose mixture M is, see `MemoryEnsemble`.
        sequence_length: agent steps a training sequence, from a random place of its episode;
            longer than the episodes means whole episodes.
        burn_in: the first agent steps of a sequence that only run M's state up and are not
            learned from, where it begins in the middle of its episode.
    """

    num_hidden: int = 256
    num_mixtures: int = 5
    predict_change: bool = False
    head_width: int = 256
    autoregressive: bool = True
    ensemble_size: int = 1
    sequence_length: int = 999
    burn_in: int = 0
    reward_weight: float = 1.0

    def __post_init__(self) -> None:
        if self.ensemble_size < 1:
            raise UserError(f"ensemble_size must be at least 1, got {self.ensemble_size}")
        if not 0 <= self.burn_in < self.sequence_length:
            raise UserError(
                f"burn_in must be in 0..{self.sequence_length - 1}, shorter than a sequence, "
                f"got {self.burn_in}"
            )


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


def new_memory(config: MemoryStageConfig, vision: Vision, num_actions: int) -> Memory:
    """An M with random weights, of V's kind and of the settings' size."""
    if isinstance(vision, VQVAE):
        codes = CodeRNNConfig(
            num_codes=vision.config.num_codes,
            digit_sizes=vision.config.digit_sizes,
            vector_size=vision.config.vector_size,
            num_actions=num_actions,
            num_hidden=config.num_hidden,
            num_mixtures=config.num_mixtures,
            head_width=config.head_width,
            autoregressive=config.autoregressive,
            reward_weight=config.reward_weight,
        )
        return make_memory(codes, config.ensemble_size, vision.code_vectors.cpu())
    latents = MDNRNNConfig(
        num_latents=vision.config.num_latents,
        num_actions=num_actions,
        num_hidden=config.num_hidden,
        num_mixtures=config.num_mixtures,
        predict_change=config.predict_change,
        reward_weight=config.reward_weight,
    )
    return make_memory(latents, config.ensemble_size)
