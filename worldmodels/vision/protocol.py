"""The contract of V: frames to a small latent and back, whatever kind the latent is."""

from typing import Protocol, runtime_checkable

import numpy as np
from torch import Generator, Tensor

from worldmodels.training.model import LossAndMetrics, Model
from worldmodels.vision.pixel_error import ErrorConfig


@runtime_checkable
class Vision(Model, Protocol):
    """Frames uint8 (B, 64, 64, 3) -> posterior -> latent -> features float (B, F), and frames.

    Attributes:
        kind: its name in files.
        discrete: whether latents are codes, which let no gradient through.
        num_features: F, the number of features that C and M get.
        posterior_size: numbers of a frame's posterior.
        posterior_type: how one of these numbers is stored.
    """

    kind: str
    discrete: bool
    num_features: int
    posterior_size: int
    posterior_type: np.dtype

    @property
    def config(self) -> ErrorConfig:
        """Its settings."""

    def init_from_data(self, frames: Tensor) -> None:
        """Fit the initial weights to frames."""

    def calibrate(self, frames: Tensor) -> None:
        """Update the statistics that lag behind the weights, such as running averages."""

    def encode(self, frames: Tensor) -> Tensor:
        """The posterior of each frame."""

    def sample(self, posterior: Tensor, generator: Generator | None = None) -> Tensor:
        """A latent sampled from each posterior."""

    def mode(self, posterior: Tensor) -> Tensor:
        """The likeliest latent of each posterior."""

    def features(self, latent: Tensor) -> Tensor:
        """The features that C and M receive."""

    def feature_bounds(self) -> tuple[Tensor, Tensor] | None:
        """Lower and upper bounds of all features, each (F,); None where latents have no bounds."""

    def decode(self, latent: Tensor) -> Tensor:
        """The frames that latents stand for."""

    def loss(self, frames: Tensor, generator: Generator | None = None) -> LossAndMetrics:
        """Mean over frames, and metrics."""
