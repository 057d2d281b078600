"""A log-joint that is written as a sum of terms, and declares which latents each term involves."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from worldmodels.bbvi.families import Samples, VariationalFamily
from worldmodels.errors import UserError


@dataclass(frozen=True)
class FactoredJoint:
    """A log-joint log p(x, z) that is a sum of terms; it can be called like a plain log-joint.

    Attributes:
        terms: function that maps z of shape (sample, latent) to the values of the terms in nats, of
            shape (sample, term).
        involves: True where a term depends on a latent. The terms that involve a latent are the
            latent's Markov blanket. A superfluous True increases the variance of the gradient. A
            missing True biases the gradient; `check` detects a missing True.

    Source: arXiv 1401.0118, section 3.1, where p_i denotes "the terms in the joint that depend on
    the i-th variable".
    """

    terms: Callable[[Tensor], Tensor]
    involves: Bool[Tensor, "latent term"]

    def __post_init__(self) -> None:
        if self.involves.dim() != 2 or self.involves.dtype != torch.bool:
            raise UserError(
                "involves must be a bool tensor of shape (latents, terms), "
                f"got {self.involves.dtype} of shape {tuple(self.involves.shape)}"
            )

    def __call__(self, z: Samples) -> Float[Tensor, "sample"]:
        """Return the log-joint log p(x, z), in nats."""
        return self.evaluate(z).sum(-1)

    def evaluate(self, z: Samples) -> Float[Tensor, "sample term"]:
        """Return the value of each term at each sample of z.

        Raises: UserError if the number of terms or the number of latents does not match `involves`.
        """
        num_latents, num_terms = self.involves.shape
        if z.shape[1] != num_latents:
            raise UserError(
                f"`involves` has {num_latents} latents, but the samples have {z.shape[1]}"
            )
        values = self.terms(z)
        if values.shape != (len(z), num_terms):
            raise UserError(
                f"terms must return one number per sample and term: expected shape "
                f"{(len(z), num_terms)}, got {tuple(values.shape)}"
            )
        return values

    @torch.no_grad()
    def check(self, z: Samples) -> None:
        """Check `involves` by changing one latent at a time and comparing the terms.

        Args:
            z: at least 2 samples that differ from each other.

        Raises: UserError if a term changes with a latent although `involves` is False for this term
        and this latent.
        """
        values = self.evaluate(z)
        for latent in range(z.shape[1]):
            moved = z.clone()
            moved[:, latent] = z[:, latent].roll(1)
            changed = (self.evaluate(moved) != values).any(0) & ~self.involves[latent]
            if changed.any():
                term = int(changed.nonzero()[0])
                raise UserError(
                    f"term {term} depends on latent {latent}, but involves[{latent}, {term}] is "
                    "False: set this entry to True, because otherwise Rao-Blackwellized gradients "
                    "are biased"
                )


LogJoint = Callable[[Tensor], Tensor]
"""A function from z (sample, latent) to log p(x, z) in nats (sample,), or a `FactoredJoint`."""


def evaluate_log_joint(model: LogJoint, z: Samples) -> Float[Tensor, "sample"]:
    """Return the log-joint of a plain or factored model, in nats.

    Raises: UserError if the model does not return one number per sample.
    """
    values = model(z)
    if values.shape != (len(z),):
        raise UserError(
            f"log_joint must return one number per sample: expected shape {(len(z),)}, "
            f"got {tuple(values.shape)}"
        )
    return values


def log_weights(model: LogJoint, family: VariationalFamily, z: Samples) -> Float[Tensor, "sample"]:
    """Return the logarithm of each sample's importance weight, log p(x, z) - log q(z), in nats."""
    return evaluate_log_joint(model, z) - family.log_prob(z).sum(-1)
