"""Hamiltonian Monte Carlo with many parallel chains, whose draws are compared with a fitted q."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from worldmodels.bbvi.diagnostics import rank_normalized_r_hat
from worldmodels.bbvi.joint import LogJoint, evaluate_log_joint
from worldmodels.errors import check_at_least

Chains = Float[Tensor, "chain latent"]


@dataclass(frozen=True)
class HMCConfig:
    """Settings of Hamiltonian Monte Carlo.

    Attributes:
        num_warmup: number of transitions at the start that tune the step size and the covariance.
            The draws of the warm-up are discarded.
        num_draws: number of draws that are kept per chain.
        max_leapfrog: largest number of leapfrog steps of a transition. Each transition draws its
            number of leapfrog steps from 1 to `max_leapfrog`.
        target_acceptance: mean acceptance probability for which the step size is tuned.
    """

    num_chains: int = 64
    num_warmup: int = 200
    num_draws: int = 400
    max_leapfrog: int = 6
    target_acceptance: float = 0.9

    def __post_init__(self) -> None:
        fewest = {"num_chains": 2, "num_warmup": 20, "num_draws": 4, "max_leapfrog": 1}
        for name, least in fewest.items():
            check_at_least(least, self, name)


@dataclass(frozen=True)
class HMCResult:
    """Draws from the posterior, and measures of the quality of the chains.

    Attributes:
        r_hat: R-hat of each latent. If the R-hat of a latent is below 1.01, the chains agree on
            this latent.
        acceptance: mean acceptance probability over the kept transitions.
    """

    draws: Float[Tensor, "chain draw latent"]
    r_hat: Float[Tensor, "latent"]
    acceptance: float

    @property
    def mean(self) -> Float[Tensor, "latent"]:
        """Mean of all draws."""
        return self.draws.flatten(0, 1).mean(0)

    @property
    def covariance(self) -> Float[Tensor, "latent latent"]:
        """Covariance of all draws."""
        return torch.cov(self.draws.flatten(0, 1).T)


def hmc(model: LogJoint, num_latents: int, config: HMCConfig, *, generator: Generator) -> HMCResult:
    """Sample the posterior of a log-joint that is defined and differentiable on all of R^D.

    The chains start at draws from the standard normal distribution and advance together. The
    warm-up whitens the posterior with the chains' own covariance and tunes one step size for all
    chains.

    Source: Neal, "MCMC using Hamiltonian dynamics", arXiv 1206.1901.
    """
    shape = (config.num_chains, num_latents)
    exact: dict[str, Any] = {"dtype": torch.float64, "device": generator.device}
    z = torch.randn(shape, generator=generator, **exact)
    tril = torch.eye(num_latents, **exact)
    log_step = -1.0
    kept: list[Tensor] = []
    accepted: list[float] = []
    warmed = config.num_warmup
    for transition in range(warmed + config.num_draws):
        # The length is random, as a trajectory of fixed length may return to its start (R-hat 1.03
        # instead of 1.006).
        length = 1 + int(torch.rand((), generator=generator, **exact) * config.max_leapfrog)
        z, acceptance = _transition(model, z, tril, math.exp(log_step), length, generator)
        if transition < warmed:
            log_step += (acceptance - config.target_acceptance) * min(1.0, 20.0 / (transition + 1))
            if transition == warmed // 2:
                spread = torch.cov(torch.cat(kept[warmed // 4 :]).T).reshape(num_latents, -1)
                floor = 1e-6 * torch.eye(num_latents, **exact)
                tril, log_step = torch.linalg.cholesky(spread + floor), -0.5
        else:
            accepted.append(acceptance)
        kept.append(z)
    draws = torch.stack(kept[warmed:], 1)
    return HMCResult(draws, rank_normalized_r_hat(draws), sum(accepted) / len(accepted))


def _transition(
    model: LogJoint,
    z: Chains,
    tril: Float[Tensor, "latent latent"],
    step: float,
    num_leapfrog: int,
    generator: Generator,
) -> tuple[Chains, float]:
    """Make one leapfrog trajectory per chain in whitened space; accept or reject each trajectory.

    Return the new states of the chains and the mean acceptance probability.
    """
    momentum = torch.randn(z.shape, generator=generator, dtype=z.dtype, device=z.device)
    log_p, gradient = _value_and_gradient(model, z)
    before = log_p - 0.5 * momentum.square().sum(-1)
    proposal = z
    for _ in range(num_leapfrog):
        momentum = momentum + 0.5 * step * gradient @ tril
        proposal = proposal + step * momentum @ tril.T
        log_p, gradient = _value_and_gradient(model, proposal)
        momentum = momentum + 0.5 * step * gradient @ tril
    after = log_p - 0.5 * momentum.square().sum(-1)
    # A trajectory that diverged has no finite energy and is never accepted.
    chance = (after - before).nan_to_num(-torch.inf).clamp(max=0).exp()
    accept = torch.rand(len(z), generator=generator, dtype=z.dtype, device=z.device) < chance
    return torch.where(accept[:, None], proposal, z), float(chance.mean())


def _value_and_gradient(model: LogJoint, z: Chains) -> tuple[Float[Tensor, "chain"], Chains]:
    z = z.detach().requires_grad_()
    log_p = evaluate_log_joint(model, z)
    (gradient,) = torch.autograd.grad(log_p.sum(), z)
    return log_p.detach(), gradient
