"""V with a discrete latent: the vector-quantized autoencoder.

A frame becomes a grid of N codes. The two quantizers come from the library vector-quantize-pytorch.
The quantizer `vq` is a learned codebook that is updated by exponential moving averages (arXiv
1711.00937, A.1). The quantizer `fsq` is a fixed lattice of a few levels per dimension (arXiv
2309.15505).
"""

import math
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn

from worldmodels.data.batches import FrameBatch
from worldmodels.errors import UserError, check_at_least, check_choice
from worldmodels.training.model import LossAndMetrics
from worldmodels.vision.digits import check_digit_sizes, smallest_type
from worldmodels.vision.networks import (
    CellNorm,
    Frames,
    Grids,
    Images,
    LeanDecoder,
    LeanEncoder,
    calibrate_norms,
    to_frames,
    to_unit,
)
from worldmodels.vision.pixel_error import ErrorConfig, PixelError, unpacked

Codes = Int[Tensor, "*batch code"]


@dataclass(frozen=True)
class VQVAEConfig(ErrorConfig):
    """Settings of the quantized V.

    Attributes:
        quantizer: "vq" (learned codebook) or "fsq" (fixed lattice).
        grid: number of codes along each side of a frame, 4 or 8.
        codebook_size, code_size: number K of code vectors, and dimension of each code vector, for
            "vq".
        levels: number of levels of each dimension, for "fsq"; K is the product of these numbers.
        decay, commitment: decay of the moving averages of the codebook, and weight of the
            commitment loss (arXiv 1711.00937, A.1 and equation 3).
        channels: width of the network.
        decoder_channels: width of the decoder.
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
        # Two levels need a symmetric lattice, which the library rounds differently.
        if not self.levels or min(self.levels) < 3:
            raise UserError(f"each of the levels must be at least 3, got {self.levels}")
        check_digit_sizes(self.digit_sizes)

    @property
    def num_codes(self) -> int:
        """N, the number of codes per frame."""
        return self.grid**2

    @property
    def digit_sizes(self) -> tuple[int, ...]:
        """The number of values of each digit of a code: FSQ's levels, or (K,) for a codebook.

        When codes are counted up, the first digit changes fastest.
        """
        return self.levels if self.quantizer == "fsq" else (self.codebook_size,)

    @property
    def num_values(self) -> int:
        """K, the number of values that a code can have."""
        return math.prod(self.digit_sizes)

    @property
    def vector_size(self) -> int:
        """Length of the vector that a code stands for."""
        return len(self.levels) if self.quantizer == "fsq" else self.code_size


class VQVAE(nn.Module):
    """A V that encodes a frame as N codes.

    The posterior of a frame consists of the codes themselves, int64 (B, N), so nothing is sampled.
    A latent also consists of the codes. The features of a latent are the concatenated code vectors,
    float (B, N * vector size).
    """

    kind = "vqvae"
    discrete = True

    def __init__(self, config: VQVAEConfig) -> None:
        super().__init__()
        self.config = config
        self.num_features = config.num_codes * config.vector_size
        self.posterior_size = config.num_codes
        self.pixel_error = PixelError(config)
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
        # Importing the library takes over two seconds, which a VAE need not wait for.
        from vector_quantize_pytorch import FSQ, VectorQuantize

        self.quantizer: nn.Module
        if config.quantizer == "fsq":
            self.encoder.append(CellNorm(self.num_features))
            with torch.device("cpu"):  # the meta device cannot compute FSQ's lattice
                self.quantizer = FSQ(levels=list(config.levels))
        else:
            self.quantizer = VectorQuantize(
                dim=config.vector_size,
                codebook_size=config.codebook_size,
                decay=config.decay,
                commitment_weight=config.commitment,
                kmeans_init=True,
                # Codes that are used less than this are replaced. The library's default is never.
                threshold_ema_dead_code=1,
                # The library's default rotates the gradient; the paper copies it straight through.
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
        """Initialize the output near the mean frame of the data."""
        grid = self.config.grid
        vectors = torch.randn(len(frames), self.config.vector_size, grid, grid)
        self.decoder.init_from_data(to_unit(frames), self.from_codes(vectors))

    @torch.no_grad()
    def calibrate(self, frames: Frames) -> None:
        """Recompute the running averages of `CellNorm` from `frames` with the present weights."""
        calibrate_norms(self.encoder, to_unit(frames))

    def encode(self, frames: Frames) -> Int[Tensor, "batch code"]:
        """Return the codes of each frame, row by row of the grid."""
        return self._quantize(self.encoder(to_unit(frames)))[1]

    def sample(self, posterior: Codes, generator: Generator | None = None) -> Codes:
        """Return the codes themselves, because the posterior has no noise."""
        return posterior

    def mode(self, posterior: Codes) -> Codes:
        """Return the codes themselves."""
        return posterior

    def features(self, latent: Codes) -> Float[Tensor, "*batch feature"]:
        """Return the features that C and M receive: the concatenated code vectors."""
        return self.code_vectors[latent].flatten(-2)

    def feature_bounds(self) -> tuple[Float[Tensor, "feature"], Float[Tensor, "feature"]]:
        """Return the smallest and the largest possible values of the features, each (F,)."""
        vectors, count = self.code_vectors, self.config.num_codes
        return vectors.amin(0).repeat(count), vectors.amax(0).repeat(count)

    def decode(self, latent: Int[Tensor, "batch code"]) -> Frames:
        """Return the frames that codes stand for."""
        return to_frames(self._draw(self.code_vectors[latent]))

    def loss(
        self, batch: FrameBatch | Frames, generator: Generator | None = None
    ) -> LossAndMetrics:
        """Return the squared error summed over pixels, plus the quantizer's commitment loss.

        Source: arXiv 1711.00937, equation 3, with moving averages instead of the codebook term.
        Differs: the error is a sum over pixels, so the commitment loss is scaled up accordingly.
        """
        frames, still = unpacked(batch)
        images = to_unit(frames)
        vectors, _, commitment = self._quantize(self.encoder(images))
        error, plain_error = self.pixel_error(self._draw(vectors), images, still)
        # The commitment is summed over the numbers of all code vectors; errors are a few tens.
        return error.mean() + self.num_features * commitment, {"error": plain_error.mean()}

    def _quantize(
        self, grid: Grids
    ) -> tuple[Float[Tensor, "batch code vector"], Int[Tensor, "batch code"], Float[Tensor, ""]]:
        """Return code vectors, codes, and the commitment loss, which is 0 for a lattice."""
        quantized, codes, *losses = self.quantizer(grid.flatten(2).transpose(1, 2))
        return quantized, codes.long(), losses[0].sum() if losses else grid.new_zeros(())

    def _draw(self, vectors: Float[Tensor, "batch code vector"]) -> Images:
        """Decode code vectors to images, which are not limited to 0..1."""
        grid = vectors.transpose(1, 2).unflatten(2, (self.config.grid, self.config.grid))
        return cast(Tensor, self.decoder(self.from_codes(grid)))
