"""Autoencoders of solutions, which are trained on the elites of a MAP-Elites search.

The two kinds, a VAE and a VQ-VAE, have the same interface. `encode` maps each solution to a code,
which is a vector of a few numbers. `decode` maps each code to a solution. `reconstruct` encodes
solutions and decodes the resulting codes. The code of a VQ-VAE consists of several vectors from a
codebook.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from vector_quantize_pytorch import VectorQuantize

from worldmodels.errors import UserError, check_at_least, check_choice

KINDS = ("vae", "vqvae")
REMEDIES = ("revival", "orthogonal", "cosine", "rotation")


@dataclass(frozen=True)
class AutoencoderConfig:
    """Sizes and losses of an autoencoder of solutions.

    Attributes:
        kind: "vae" or "vqvae".
        num_latents: length of a VAE's code. The hidden layers of both kinds of autoencoder have
            2 * `num_latents` units.
        kl_weight: weight of a VAE's KL term. The weight is close to 0, because codes have to
            represent solutions and are not sampled from the prior.
        num_codes, code_size, codebook_size: a VQ-VAE's code has `num_codes` vectors of `code_size`
            numbers, and each vector comes from a codebook of `codebook_size` vectors.
        commitment, decay: for a VQ-VAE, the weight of the commitment loss, and the decay of the
            moving averages that update the codebook.
        remedies: options of the quantizer library against unused code vectors and against parallel
            code vectors. "revival" initializes code vectors by k-means and replaces unused code
            vectors. "orthogonal" penalizes the cosines between code vectors. "cosine" keeps code
            vectors on the unit sphere. "rotation" passes gradients to the encoder through the
            rotation that maps the encoder's output to the code vector.

    Source: arXiv 2003.04389, section 4, and the code of that paper, in which the hidden layer has
        twice the size of the latent.
    """

    kind: str = "vae"
    num_latents: int = 32
    kl_weight: float = 1e-4
    num_codes: int = 8
    code_size: int = 4
    codebook_size: int = 32
    commitment: float = 0.25
    decay: float = 0.99
    remedies: tuple[str, ...] = ("revival",)

    def __post_init__(self) -> None:
        check_choice("kind", self.kind, KINDS)
        unknown = set(self.remedies) - set(REMEDIES)
        if unknown:
            raise UserError(f"remedies must be among {', '.join(REMEDIES)}, got {sorted(unknown)}")
        check_at_least(1, self, "num_latents", "num_codes", "code_size")
        check_at_least(2, self, "codebook_size")

    @property
    def num_numbers(self) -> int:
        """Length of a code."""
        return self.num_latents if self.kind == "vae" else self.num_codes * self.code_size


class SolutionAutoencoder(nn.Module):
    """Base class of both kinds; the encoder and the decoder have one hidden layer each.

    A solution is a vector of numbers within [-1, 1], and a code is a vector of `config.num_numbers`
    numbers.
    """

    def __init__(self, num_parameters: int, config: AutoencoderConfig, num_outputs: int) -> None:
        super().__init__()
        self.config = config
        hidden = 2 * config.num_latents
        self.encoder = nn.Sequential(
            nn.Linear(num_parameters, hidden), nn.ReLU(), nn.Linear(hidden, num_outputs)
        )
        self.decoder = nn.Sequential(
            nn.Linear(config.num_numbers, hidden),
            nn.ReLU(),
            nn.Linear(hidden, num_parameters),
            nn.Tanh(),
        )

    def encode(self, solutions: Float[Tensor, "batch parameter"]) -> Float[Tensor, "batch number"]:
        """Return the code of each solution."""
        raise NotImplementedError

    def decode(self, code: Float[Tensor, "batch number"]) -> Float[Tensor, "batch parameter"]:
        """Return the solution of each code, as numbers within [-1, 1]."""
        return cast(Tensor, self.decoder(code))

    @torch.no_grad()
    def reconstruct(
        self, solutions: Float[Tensor, "batch parameter"]
    ) -> Float[Tensor, "batch parameter"]:
        """Return decode(encode(x))."""
        return self.decode(self.encode(solutions))

    def loss(self, solutions: Float[Tensor, "batch parameter"]) -> Float[Tensor, ""]:
        """Return the training loss, a mean over the batch."""
        raise NotImplementedError


class SolutionVAE(SolutionAutoencoder):
    """A VAE: `loss` decodes samples of the posterior, and `encode` returns the posterior's mean."""

    def __init__(self, num_parameters: int, config: AutoencoderConfig) -> None:
        super().__init__(num_parameters, config, 2 * config.num_latents)

    def encode(self, solutions: Float[Tensor, "batch parameter"]) -> Float[Tensor, "batch number"]:
        """Return the posterior's mean."""
        return cast(Tensor, self.encoder(solutions).chunk(2, dim=-1)[0])

    def loss(self, solutions: Float[Tensor, "batch parameter"]) -> Float[Tensor, ""]:
        """Return the squared error plus the weighted KL to N(0, 1), as a mean over solutions."""
        mean, logvar = self.encoder(solutions).chunk(2, dim=-1)
        code = mean + torch.randn_like(mean) * (logvar / 2).exp()
        error = (self.decoder(code) - solutions).square().sum(-1)
        kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).sum(-1)
        return cast(Tensor, (error + self.config.kl_weight * kl).mean())


class SolutionVQVAE(SolutionAutoencoder):
    """A VQ-VAE, whose code consists of a few vectors from one codebook.

    Source: arXiv 1711.00937, with a codebook that is updated by moving averages (A.1).
    """

    def __init__(self, num_parameters: int, config: AutoencoderConfig) -> None:
        super().__init__(num_parameters, config, config.num_codes * config.code_size)
        self.quantizer = VectorQuantize(
            dim=config.code_size,
            codebook_size=config.codebook_size,
            decay=config.decay,
            commitment_weight=config.commitment,
            kmeans_init="revival" in config.remedies,
            threshold_ema_dead_code=int("revival" in config.remedies),
            rotation_trick="rotation" in config.remedies,
            use_cosine_sim="cosine" in config.remedies,
            orthogonal_reg_weight=10.0 * ("orthogonal" in config.remedies),
        )

    @property
    def code_vectors(self) -> Float[Tensor, "value number"]:
        """The vectors of the codebook."""
        return cast(Tensor, self.quantizer.codebook)

    def encode(self, solutions: Float[Tensor, "batch parameter"]) -> Float[Tensor, "batch number"]:
        """Return the concatenated code vectors that are nearest to the encoder's outputs."""
        return self._nearest(solutions)[0].flatten(1)

    def codes(self, solutions: Float[Tensor, "batch parameter"]) -> Int[Tensor, "batch code"]:
        """Return the indices of the code vectors that are nearest to the encoder's outputs."""
        return self._nearest(solutions)[1]

    def loss(self, solutions: Float[Tensor, "batch parameter"]) -> Float[Tensor, ""]:
        """Return the squared error plus the commitment loss, as a mean over solutions."""
        vectors, _, commitment = self.quantizer(self._vectors(solutions))
        error = (self.decoder(vectors.flatten(1)) - solutions).square().sum(-1)
        return cast(Tensor, error.mean() + self.config.num_numbers * commitment.sum())

    def _nearest(self, solutions: Tensor) -> tuple[Tensor, Tensor]:
        training = self.quantizer.training
        self.quantizer.eval()  # only `loss` updates the codebook
        quantized, codes, _ = self.quantizer(self._vectors(solutions))
        self.quantizer.train(training)
        return quantized, codes

    def _vectors(self, solutions: Tensor) -> Tensor:
        return cast(Tensor, self.encoder(solutions).unflatten(-1, (self.config.num_codes, -1)))


def make_autoencoder(num_parameters: int, config: AutoencoderConfig) -> SolutionAutoencoder:
    """Make an autoencoder of the kind `config.kind`, with random weights."""
    kind = SolutionVAE if config.kind == "vae" else SolutionVQVAE
    return kind(num_parameters, config)
