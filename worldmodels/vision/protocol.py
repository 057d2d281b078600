"""The interface of V, which encodes frames as small latents and decodes latents to frames."""

from typing import Protocol, runtime_checkable

import numpy as np
from torch import Generator, Tensor

from worldmodels.data.batches import FrameBatch
from worldmodels.training.model import LossAndMetrics, Model
from worldmodels.vision.pixel_error import ErrorConfig, PixelError


@runtime_checkable
class Vision(Model, Protocol):
    """V maps frames to posteriors, posteriors to latents, and latents to features or to frames.

    Frames are uint8 (B, 64, 64, 3), and features are float (B, F).

    Attributes:
        kind: the name of this kind of V in files.
        discrete: whether latents are codes, which are not differentiable.
        num_features: F, the number of features that C and M receive.
        posterior_size: the number of values in the posterior of a frame.
        posterior_type: the NumPy type in which the values of a posterior are stored.
        pixel_error: the squared error on which V is trained.
    """

    kind: str
    discrete: bool
    num_features: int
    posterior_size: int
    posterior_type: np.dtype
    pixel_error: PixelError

    @property
    def config(self) -> ErrorConfig:
        """The settings of V."""

    def init_from_data(self, frames: Tensor) -> None:
        """Fit the initial weights to frames."""

    def calibrate(self, frames: Tensor) -> None:
        """Update the statistics that lag behind the weights, such as running averages."""

    def encode(self, frames: Tensor) -> Tensor:
        """Return the posterior of each frame."""

    def sample(self, posterior: Tensor, generator: Generator | None = None) -> Tensor:
        """Sample a latent from each posterior."""

    def mode(self, posterior: Tensor) -> Tensor:
        """Return the likeliest latent of each posterior."""

    def features(self, latent: Tensor) -> Tensor:
        """Return the features of a latent, which C and M receive."""

    def feature_bounds(self) -> tuple[Tensor, Tensor] | None:
        """Return the lower and the upper bounds (F,) of features, or None if they are unbounded."""

    def decode(self, latent: Tensor) -> Tensor:
        """Return the frames that latents stand for."""

    def loss(
        self, batch: FrameBatch | Tensor, generator: Generator | None = None
    ) -> LossAndMetrics:
        """Return the mean loss over frames, and metrics.

        Unlike a tensor of frames, a `FrameBatch` has the mean frame of each episode. Where a frame
        differs from this mean frame, something moves.
        """
