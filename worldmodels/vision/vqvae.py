"""V with a discrete latent: the vector-quantized autoencoder.

A frame becomes a grid of N codes. Two quantizers, both from vector-quantize-pytorch: `vq`, a
learned codebook updated by exponential moving averages (arXiv 1711.00937, A.1), and `fsq`, a
fixed lattice of a few levels a dimension (arXiv 2309.15505).
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn
from vector_quantize_pytorch import FSQ, VectorQuantize

from worldmodels.errors import UserError
from worldmodels.vision.networks import LeanDecoder, LeanEncoder, to_frames, to_unit
from worldmodels.vision.objective import foreground_weight, squared_error


@dataclass(frozen=True)
class VQVAEConfig:
    """Settings of the quantized V.

    Attributes:
        quantizer: "vq" (learned codebook) or "fsq" (fixed lattice).
        grid: codes along each side of a frame, 4 or 8.
        codebook_size, code_size: K vectors of this dimension, for "vq".
        levels: levels a dimension, for "fsq"; their product is K.
        decay, commitment: the EMA codebook's (arXiv 1711.00937, A.1 and equation 3).
        channels: width of the network.
        background_weight, background: as for the VAE.
    """

    quantizer: str = "vq"
    grid: int = 4
    codebook_size: int = 256
    code_size: int = 8
    levels: tuple[int, ...] = (8, 6, 5)
    decay: float = 0.99
    commitment: float = 0.25
    channels: int = 64
    background_weight: float = 1.0
    background: tuple[int, int, int] = (0, 0, 0)

    def __post_init__(self) -> None:
        if self.quantizer not in ("vq", "fsq"):
            raise UserError(f'quantizer must be "vq" or "fsq", got "{self.quantizer}"')
        if self.grid not in (4, 8):
            raise UserError(f"grid must be 4 or 8, got {self.grid}")
        if self.codebook_size < 2:
            raise UserError(f"codebook_size must be at least 2, got {self.codebook_size}")
        # Two levels need a symmetric lattice, which the library rounds in another way.
        if not self.levels or min(self.levels) < 3:
            raise UserError(f"levels must be 3 or more each, got {self.levels}")

    @property
    def num_codes(self) -> int:
        """N, codes a frame."""
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
        """Numbers a code stands for, as C and M see it."""
        return len(self.levels) if self.quantizer == "fsq" else self.code_size


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
        self.encoder = nn.Sequential(
            LeanEncoder(config.channels, config.grid),
            nn.Conv2d(config.channels, config.vector_size, 1),
        )
        self.quantizer: nn.Module
        if config.quantizer == "fsq":
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
        self.from_codes = nn.Sequential(
            nn.Conv2d(config.vector_size, config.channels, 3, padding=1), nn.ReLU()
        )
        self.decoder = LeanDecoder(config.channels, config.grid)

    @property
    def num_features(self) -> int:
        """F, the number of features C and M see."""
        return self.config.num_codes * self.config.vector_size

    @property
    def code_vectors(self) -> Float[Tensor, "value vector"]:
        """The vector each of the K values of a code stands for."""
        if self.config.quantizer == "fsq":
            return self.quantizer.implicit_codebook  # type: ignore[return-value]
        return self.quantizer.codebook  # type: ignore[return-value]

    def start_at(self, mean_frame: Float[Tensor, "3 64 64"]) -> None:
        """Let the output begin at the data's mean frame."""
        self.decoder.mean_frame.data.copy_(mean_frame)

    def encode(self, frames: UInt8[Tensor, "batch 64 64 3"]) -> Int[Tensor, "batch code"]:
        """The codes of each frame, row by row of the grid."""
        return self._quantize(self.encoder(to_unit(frames)))[1]

    def sample(
        self, posterior: Int[Tensor, "*batch code"], generator: torch.Generator | None = None
    ) -> Int[Tensor, "*batch code"]:
        """The codes themselves: the posterior is a point."""
        return posterior

    def mode(self, posterior: Int[Tensor, "*batch code"]) -> Int[Tensor, "*batch code"]:
        """The codes themselves."""
        return posterior

    def features(self, latent: Int[Tensor, "*batch code"]) -> Float[Tensor, "*batch feature"]:
        """What C sees of the codes: their vectors, side by side."""
        return self.code_vectors[latent].flatten(-2)

    def decode(self, latent: Int[Tensor, "batch code"]) -> UInt8[Tensor, "batch 64 64 3"]:
        """The frame the codes stand for."""
        vectors = self.code_vectors[latent]
        grid = vectors.transpose(1, 2).unflatten(2, (self.config.grid, self.config.grid))
        return to_frames(self.decoder(self.from_codes(grid)))

    def loss(
        self, frames: UInt8[Tensor, "batch 64 64 3"], generator: torch.Generator | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Squared error summed over pixels + the quantizer's commitment.

        Source: arXiv 1711.00937, equation 3, the codebook term replaced by moving averages.
        Differs: the error is a sum over pixels, so the commitment is scaled to stay beside it.
        """
        images = to_unit(frames)
        quantized, codes, commitment = self._quantize_with_loss(self.encoder(images))
        decoded = self.decoder(self.from_codes(quantized))
        weight = None
        if self.config.background_weight != 1.0:
            weight = foreground_weight(
                images, self.config.background, self.config.background_weight
            )
        error = squared_error(decoded, images, weight)
        used = codes.flatten().unique().numel() / self.config.num_values
        metrics = {
            "error": squared_error(decoded.detach(), images),
            "codes_used": torch.tensor(float(used)),
        }
        # One unit of commitment a code vector, beside an error of a few tens a frame.
        return error + self.config.num_codes * self.config.vector_size * commitment, metrics

    def _quantize(
        self, grid: Float[Tensor, "batch vector row column"]
    ) -> tuple[Tensor, Int[Tensor, "batch code"]]:
        quantized, codes, _ = self._quantize_with_loss(grid)
        return quantized, codes

    def _quantize_with_loss(self, grid: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        vectors = grid.flatten(2).transpose(1, 2)
        if self.config.quantizer == "fsq":
            quantized, codes = self.quantizer(vectors)
            commitment = torch.zeros((), device=grid.device)
        else:
            quantized, codes, commitment = self.quantizer(vectors)
            commitment = commitment.sum()
        quantized = quantized.transpose(1, 2).unflatten(2, grid.shape[2:])
        return quantized, codes.long(), commitment
