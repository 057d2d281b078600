"""Black-box variational inference approximates the posterior of any model with a known log-joint.

Write log p(x, z) as a function of samples z of shape (sample, latent), and choose a family q of
distributions. `fit_bbvi` then moves q towards the posterior. In this example, a coin shows 1 or 0,
and z is the probability of 1. The prior is Beta(10, 10), and ten throws gave six ones and four
zeros. The exact posterior is Beta(16, 14):

>>> import torch
>>> from torch.distributions import Beta, kl_divergence
>>> from worldmodels.bbvi import BBVIConfig, MeanFieldBeta, fit_bbvi, pareto_k
>>>
>>> def log_joint(z):  # (sample, 1) -> (sample,)
...     prior = Beta(10.0, 10.0).log_prob(z)
...     throws = 6 * z.log() + 4 * (1 - z).log()
...     return (prior + throws).sum(-1)
>>>
>>> q = MeanFieldBeta(num_latents=1)
>>> generator = torch.Generator().manual_seed(0)
>>> config = BBVIConfig(num_steps=500, learning_rate=0.1)
>>> result = fit_bbvi(log_joint, q, config, generator=generator)
>>> bool(kl_divergence(q.distribution(), Beta(16.0, 14.0)) < 0.01)  # nats
True
>>> pareto_k(log_joint, q, generator=generator) < 0.7  # q can be trusted
True

`Estimator` selects how gradients are estimated. A `FactoredJoint` declares which terms of the
log-joint depend on which latent. The method "rao-blackwell" needs a `FactoredJoint`. The function
`gradient_variance` compares the gradient variances of all estimators.

Equations use these symbols: q is the variational family, lambda are the parameters of q, f is the
gradient of one sample, h is the control variate of this gradient, and a* is the best scale of h.

Read `score.py`, `families.py` and `fit.py` first, then `variance.py` and `examples/models.py`.
"""

from worldmodels.bbvi.diagnostics import GOOD_PARETO_K as GOOD_PARETO_K
from worldmodels.bbvi.diagnostics import NoParetoTail as NoParetoTail
from worldmodels.bbvi.diagnostics import pareto_k as pareto_k
from worldmodels.bbvi.families import FullCovarianceGaussian as FullCovarianceGaussian
from worldmodels.bbvi.families import MeanFieldBernoulli as MeanFieldBernoulli
from worldmodels.bbvi.families import MeanFieldBeta as MeanFieldBeta
from worldmodels.bbvi.families import MeanFieldCategorical as MeanFieldCategorical
from worldmodels.bbvi.families import MeanFieldGaussian as MeanFieldGaussian
from worldmodels.bbvi.families import VariationalFamily as VariationalFamily
from worldmodels.bbvi.fit import ALL_ESTIMATORS as ALL_ESTIMATORS
from worldmodels.bbvi.fit import BBVIConfig as BBVIConfig
from worldmodels.bbvi.fit import BBVIResult as BBVIResult
from worldmodels.bbvi.fit import ElboEstimate as ElboEstimate
from worldmodels.bbvi.fit import Estimator as Estimator
from worldmodels.bbvi.fit import NonFiniteGradient as NonFiniteGradient
from worldmodels.bbvi.fit import elbo_surrogate as elbo_surrogate
from worldmodels.bbvi.fit import estimate_elbo as estimate_elbo
from worldmodels.bbvi.fit import fit_bbvi as fit_bbvi
from worldmodels.bbvi.joint import FactoredJoint as FactoredJoint
from worldmodels.bbvi.joint import LogJoint as LogJoint
from worldmodels.bbvi.score import score_surrogate as score_surrogate
from worldmodels.bbvi.variance import GradientMoments as GradientMoments
from worldmodels.bbvi.variance import applicable_estimators as applicable_estimators
from worldmodels.bbvi.variance import gradient_variance as gradient_variance
