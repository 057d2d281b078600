"""The contract of V: frames to a small latent and back, whatever kind the latent is."""

from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from worldmodels.training.model import Model
from worldmodels.vision.objective import ErrorConfig


@runtime_checkable
class Vision(Model, Protocol):
    """Frames uint8 (B, 64, 64, 3) -> posterior -> latent -> features float (B, F), and frames.

    Attributes:
        kind: its name in files.
        discrete: whether latents are codes, which let no gradient through.
    """

    kind: str
    discrete: bool

    @property
    def config(self) -> ErrorConfig:
        """Its settings."""

    @property
    def num_features(self) -> int:
        """F, the number of features that C and M receive."""

    @property
    def posterior_size(self) -> int:
        """Number of values of a frame's posterior."""

    @property
    def posterior_type(self) -> np.dtype:
        """The type in which a number of the posterior is stored."""

    def init_from_data(self, frames: Tensor) -> None:
        """Fit the initial weights to frames."""

    def calibrate(self, frames: Tensor) -> None:
        """Update the statistics that lag behind the weights, such as running averages."""

    def encode(self, frames: Tensor) -> Tensor:
        """The posterior of each frame."""

    def sample(self, posterior: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """A latent sampled from each posterior."""

    def mode(self, posterior: Tensor) -> Tensor:
        """The likeliest latent of each posterior."""

    def features(self, latent: Tensor) -> Tensor:
        """The features that C and M receive."""

    def feature_bounds(self) -> tuple[Tensor, Tensor] | None:
        """Lower and upper bounds of all features, each (F,); None where latents have no bounds."""

    def decode(self, latent: Tensor) -> Tensor:
        """The frames that latents stand for."""

    def loss(
        self, frames: Tensor, generator: torch.Generator | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, a mean over frames, and metrics."""
