"""V with a discrete latent: the vector-quantized autoencoder.

A frame becomes a grid of N codes. Two quantizers, both from vector-quantize-pytorch: `vq`, a
learned codebook updated by exponential moving averages (arXiv 1711.00937, A.1), and `fsq`, a
fixed lattice of a few levels per dimension (arXiv 2309.15505).
"""

import math
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn
from torch.nn import functional as F
from vector_quantize_pytorch import FSQ, VectorQuantize

from worldmodels.errors import UserError, check_at_least, check_choice
from worldmodels.training.model import LossAndMetrics
from worldmodels.vision.digits import check_digit_sizes, smallest_type
from worldmodels.vision.networks import Frames, Images, LeanDecoder, LeanEncoder, to_frames, to_unit
from worldmodels.vision.pixel_error import ErrorConfig, training_error

Codes = Int[Tensor, "*batch code"]
Grid = Float[Tensor, "batch vector row column"]


@dataclass(frozen=True)
class VQVAEConfig(ErrorConfig):
    """Settings of the quantized V.

    Attributes:
        quantizer: "vq" (learned codebook) or "fsq" (fixed lattice).
        grid: codes along each side of a frame, 4 or 8.
        codebook_size, code_size: K vectors of this dimension, for "vq".
        levels: levels per dimension, for "fsq"; their product is K.
        decay, commitment: the EMA codebook's (arXiv 1711.00937, A.1 and equation 3).
        channels: width of the network.
        decoder_channels: width of its decoder.
    """

    QUANTIZERS: ClassVar[tuple[str, ...]] = ("vq", "fsq")

    quantizer: str = "vq"
    grid: int = 4
    codebook_size: int = 256
    code_size: int = 8
    levels: tuple[int, ...] = (8, 6, 5)
    decay: float = 0.99
    commitment: float = 0.25
    channels: int = 64
    decoder_channels: int = 32

    def __post_init__(self) -> None:
        check_choice("quantizer", self.quantizer, self.QUANTIZERS)
        if self.grid not in (4, 8):
            raise UserError(f"grid must be 4 or 8, got {self.grid}")
        check_at_least(2, self, "codebook_size")
        # Two levels need a symmetric lattice, which the library rounds in another way.
        if not self.levels or min(self.levels) < 3:
            raise UserError(f"levels must be 3 or more each, got {self.levels}")
        check_digit_sizes(self.digit_sizes)

    @property
    def num_codes(self) -> int:
        """N, codes per frame."""
        return self.grid**2

    @property
    def digit_sizes(self) -> tuple[int, ...]:
        """A code index as digits, the first one changing fastest: FSQ's levels, or just K."""
        return self.levels if self.quantizer == "fsq" else (self.codebook_size,)

    @property
    def num_values(self) -> int:
        """K, the number of values one code can take."""
        return math.prod(self.digit_sizes)

    @property
    def vector_size(self) -> int:
        """Length of the vector that a code stands for."""
        return len(self.levels) if self.quantizer == "fsq" else self.code_size


class CellNorm(nn.BatchNorm1d):
    """Brings each number of each cell of the grid to mean 0 and spread 1 over the data.

    A learned codebook moves to where the data is; a lattice stays, so the data must come to it:
    most cells show grass most of the time, and one fixed scale for all leaves most of the
    lattice empty. On held-out driving frames nearly all of 240 values were used and the perplexity
    was 115, against 66 % and 64 without, at the same error (15.0).

    In training it takes the spread from the batch, else from running averages.
    """

    MOMENTUM = 0.05

    def __init__(self, num_numbers: int) -> None:
        super().__init__(num_numbers, affine=False)
        self.momentum: float = self.MOMENTUM

    def forward(self, grid: Grid) -> Grid:
        """The grid with its numbers brought to scale."""
        return F.batch_norm(
            grid.flatten(1),
            self.running_mean,
            self.running_var,
            training=self.training and len(grid) > 1,  # one frame has no spread
            momentum=self.momentum,
            eps=self.eps,
        ).view_as(grid)


class VQVAE(nn.Module):
    """Frames <-> N codes.

    Its posterior is the codes themselves, int64 (B, N): there is nothing to sample. A latent is
    the same; its features are the code vectors side by side, float (B, N * vector size).
    """

    kind = "vqvae"
    discrete = True

    def __init__(self, config: VQVAEConfig) -> None:
        super().__init__()
        self.config = config
        self.num_features = config.num_codes * config.vector_size
        self.posterior_size = config.num_codes
        self.posterior_type = smallest_type(config.num_values)
        self.encoder = nn.Sequential(
            LeanEncoder(config.channels, config.grid),
            nn.Conv2d(config.channels, config.vector_size, 1),
        )
        self._add_quantizer(config)
        self.from_codes = nn.Sequential(
            nn.Conv2d(config.vector_size, config.channels, 3, padding=1), nn.ReLU()
        )
        self.decoder = LeanDecoder(config.channels, config.decoder_channels, config.grid)

    def _add_quantizer(self, config: VQVAEConfig) -> None:
        self.quantizer: nn.Module
        if config.quantizer == "fsq":
            self.encoder.append(CellNorm(self.num_features))
            with torch.device("cpu"):  # it computes its lattice, which the meta device cannot
                self.quantizer = FSQ(levels=list(config.levels))
        else:
            self.quantizer = VectorQuantize(
                dim=config.vector_size,
                codebook_size=config.codebook_size,
                decay=config.decay,
                commitment_weight=config.commitment,
                kmeans_init=True,
                # The library's default never revives: codes used less than this come back.
                threshold_ema_dead_code=1,
                # And its default bends the gradient; the paper copies it straight through.
                rotation_trick=False,
            )

    @property
    def code_vectors(self) -> Float[Tensor, "value vector"]:
        """The vector that each of the K values of a code stands for."""
        if self.config.quantizer == "fsq":
            return self.quantizer.implicit_codebook  # type: ignore[return-value]
        return self.quantizer.codebook  # type: ignore[return-value]

    @torch.no_grad()
    def init_from_data(self, frames: Frames) -> None:
        """Let the output begin near the data's mean frame."""
        grid = self.config.grid
        vectors = torch.randn(len(frames), self.config.vector_size, grid, grid)
        self.decoder.init_from_data(to_unit(frames), self.from_codes(vectors))

    @torch.no_grad()
    def calibrate(self, frames: Frames) -> None:
        """Bring the scales that `CellNorm` keeps to what these frames give with today's weights.

        Its running averages lag behind a V that still learns fast: after 200 steps the held-out
        error was 63 with them and 21 without the lag.
        """
        norms = [module for module in self.modules() if isinstance(module, CellNorm)]
        if not norms or len(frames) < 2:
            return
        training = self.training
        self.train()
        for norm in norms:
            norm.momentum = 1.0
        self.encoder(to_unit(frames))
        for norm in norms:
            norm.momentum = CellNorm.MOMENTUM
        self.train(training)

    def encode(self, frames: Frames) -> Int[Tensor, "batch code"]:
        """The codes of each frame, row by row of the grid."""
        return self._quantize(self.encoder(to_unit(frames)))[1]

    def sample(self, posterior: Codes, generator: Generator | None = None) -> Codes:
        """The codes themselves: the posterior is a point."""
        return posterior

    def mode(self, posterior: Codes) -> Codes:
        """The codes themselves."""
        return posterior

    def features(self, latent: Codes) -> Float[Tensor, "*batch feature"]:
        """What C and M get of the codes: their vectors, side by side."""
        return self.code_vectors[latent].flatten(-2)

    def feature_bounds(self) -> tuple[Float[Tensor, "feature"], Float[Tensor, "feature"]]:
        """The smallest and the largest value of each number of a frame's code vectors."""
        vectors, count = self.code_vectors, self.config.num_codes
        return vectors.amin(0).repeat(count), vectors.amax(0).repeat(count)

    def decode(self, latent: Int[Tensor, "batch code"]) -> Frames:
        """The frame the codes stand for."""
        return to_frames(self._draw(self.code_vectors[latent]))

    def loss(self, frames: Frames, generator: Generator | None = None) -> LossAndMetrics:
        """Squared error summed over pixels + the quantizer's commitment.

        Source: arXiv 1711.00937, equation 3, the codebook term replaced by moving averages.
        Differs: the error is a sum over pixels, so the commitment is scaled to stay beside it.
        """
        images = to_unit(frames)
        vectors, _, commitment = self._quantize(self.encoder(images))
        error, plain_error = training_error(self._draw(vectors), images, self.config)
        # One unit of commitment per number of a code vector; errors are a few tens per frame.
        return error.mean() + self.num_features * commitment, {"error": plain_error.mean()}

    def _quantize(
        self, grid: Grid
    ) -> tuple[Float[Tensor, "batch code vector"], Int[Tensor, "batch code"], Float[Tensor, ""]]:
        """The chosen code vectors, their codes, and the commitment loss (0 for a lattice)."""
        quantized, codes, *losses = self.quantizer(grid.flatten(2).transpose(1, 2))
        return quantized, codes.long(), losses[0].sum() if losses else grid.new_zeros(())

    def _draw(self, vectors: Float[Tensor, "batch code vector"]) -> Images:
        """The image that code vectors stand for; not limited to 0..1."""
        grid = vectors.transpose(1, 2).unflatten(2, (self.config.grid, self.config.grid))
        return cast(Tensor, self.decoder(self.from_codes(grid)))
