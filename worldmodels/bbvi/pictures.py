"""Pictures of black-box variational inference: posteriors, ELBO curves, variances, latents."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Ellipse
from torch import Tensor, distributions

from worldmodels.bbvi.examples.binary_vae import NUM_CLUSTERS
from worldmodels.bbvi.examples.binary_vae_scores import BinaryVAEFit
from worldmodels.bbvi.examples.comparison import LEARNING_RATES, NUM_SAMPLES, Comparison
from worldmodels.bbvi.examples.experiments import ExactFits, Fit, LogisticFits

DPI = 110
COLORS = {"score": "tab:red", "rao-blackwell": "tab:blue", "pathwise": "tab:green"}
DASHES = {"none": ":", "fitted": "--", "leave-one-out": "-"}
OPTIMIZER_NAMES = {"adam": "Adam", "adagrad": "AdaGrad"}
CLUSTER_COLORS = ("tab:red", "tab:green", "tab:blue")
EXACT_COLOR = "0.8"
POSTERIOR_LINES = {  # estimator -> color, width
    "score": ("tab:red", 2.0),
    "score + fitted": ("tab:orange", 5.0),
    "score + leave-one-out": ("tab:purple", 2.8),
    "pathwise": ("tab:green", 1.2),
}


def estimator_style(name: str) -> dict[str, Any]:
    """Return an estimator's line style: the color shows its method, the dashes show its control."""
    method, _, control = name.partition(" + ")
    dashes = "-" if method == "pathwise" else DASHES[control or "none"]
    return {"color": COLORS[method], "linestyle": dashes, "label": name}


def _posterior_style(fit: Fit) -> dict[str, Any]:
    """Return a line style; its width depends on the estimator, so that all lines stay visible."""
    color, width = POSTERIOR_LINES[fit.estimator]
    dashes = ":" if fit.estimator == "score" else "-"
    return {"color": color, "linewidth": width, "linestyle": dashes}


def save_posteriors(
    path: Path, coin: ExactFits | None, gaussian: ExactFits | None, logistic: LogisticFits | None
) -> None:
    """Draw each fitted q over the exact posterior; experiments that are None are left out."""
    upper = [(_draw_coin, coin), (_draw_gaussian, gaussian)]
    panels = [(draw, fits) for draw, fits in upper if fits is not None]
    num_rows = bool(panels) + (logistic is not None)
    width = 12.0 if len(panels) == 2 or logistic is not None else 6.5
    figure = Figure(figsize=(width, 4.3 * num_rows), layout="constrained")
    rows = figure.subfigures(num_rows, 1, squeeze=False)[:, 0]
    if panels:
        every_axes = rows[0].subplots(1, len(panels), squeeze=False)[0]
        for axes, (draw, fits) in zip(every_axes, panels, strict=True):
            draw(axes, fits)
    if logistic is not None:
        _draw_logistic(rows[-1], logistic)
    figure.savefig(path, dpi=DPI)


def _draw_coin(axes: Axes, coin: ExactFits) -> None:
    z = torch.linspace(0.05, 0.95, 400, dtype=torch.float64)
    exact = coin.posterior.log_prob(z).exp()
    axes.fill_between(z, exact, color=EXACT_COLOR, label="exact")
    for fit, q in zip(coin.fits, coin.found, strict=True):
        axes.plot(z, q.log_prob(z).exp().detach(), **_posterior_style(fit), label=_with_kl(fit))
    axes.set_title(f"Beta-Bernoulli: exact Beta(16, 14), {_worst_kl(coin)}")
    axes.set(xlabel="chance of a one", ylabel="density", ylim=(0, 1.45 * float(exact.max())))
    axes.legend(fontsize=8, loc="upper left")


def _draw_gaussian(axes: Axes, gaussian: ExactFits) -> None:
    """Draw ellipses of one and two standard deviations for the two most correlated weights."""
    covariance = gaussian.posterior.covariance_matrix
    spread = covariance.diagonal().sqrt()
    off_diagonal = (covariance / spread.outer(spread)).abs().tril(-1)
    pair = list(divmod(int(off_diagonal.argmax()), len(spread)))[::-1]
    mean = gaussian.posterior.mean[pair]
    for radius, alpha in ((2, 0.5), (1, 1.0)):
        gray = {"color": EXACT_COLOR, "alpha": alpha}
        axes.add_patch(_ellipse(mean, covariance[pair][:, pair], radius, gray))
    axes.plot([], [], color=EXACT_COLOR, linewidth=8, label="exact, 1 and 2 sd")
    for fit, q in zip(gaussian.fits, gaussian.found, strict=True):
        style = _posterior_style(fit)
        for radius in (1, 2):
            moments = q.mean[pair].detach(), q.covariance_matrix[pair][:, pair].detach()
            axes.add_patch(_ellipse(*moments, radius, {"fill": False, **style}))
        axes.plot([], [], **style, label=_with_kl(fit))
    axes.plot(*mean, "k+")
    x, y = zip(mean.tolist(), spread[pair].tolist(), strict=True)
    axes.set(
        title=f"Conjugate Gaussian, full covariance: {_worst_kl(gaussian)}",
        xlabel=f"weight {pair[0] + 1} (of 5)",
        ylabel=f"weight {pair[1] + 1}",
        xlim=(x[0] - 2.5 * x[1], x[0] + 2.5 * x[1]),
        ylim=(y[0] - 2.5 * y[1], y[0] + 4 * y[1]),  # room for the legend
    )
    axes.legend(fontsize=8, loc="upper right")


def _worst_kl(found: ExactFits) -> str:
    return f"KL at most {max(fit.kl for fit in found.fits):z.4f} nats"


def _with_kl(fit: Fit) -> str:
    return f"{fit.estimator}: KL {fit.kl:z.4f}, k-hat {fit.pareto_k:z.2f}"


def _ellipse(
    mean: Float[Tensor, "2"], covariance: Float[Tensor, "2 2"], radius: float, style: dict[str, Any]
) -> Ellipse:
    values, vectors = torch.linalg.eigh(covariance)
    angle = torch.atan2(vectors[1, 1], vectors[0, 1]).rad2deg().item()
    minor, major = (2 * radius * values.sqrt()).tolist()
    x, y = mean.tolist()
    return Ellipse((x, y), major, minor, angle=angle, **style)


def _draw_logistic(figure: SubFigure, logistic: LogisticFits) -> None:
    """Draw each weight's marginal over a histogram of the chains' draws."""
    panels = figure.subplots(1, logistic.draws.shape[1], sharey=True)
    handles = []
    for latent, axes in enumerate(panels):
        draws = logistic.draws[:, latent]
        *_, bars = axes.hist(draws.numpy(), bins=60, density=True, color=EXACT_COLOR)
        low, high = draws.quantile(torch.tensor([0.0005, 0.9995], dtype=draws.dtype)).tolist()
        z = torch.linspace(low, high, 200, dtype=draws.dtype)
        handles = [(bars, f"HMC, R-hat {logistic.r_hat:.3f}")]
        for fit, q in zip(logistic.fits, logistic.found, strict=True):
            marginal = distributions.Normal(q.mean[latent], q.stddev[latent])
            density = marginal.log_prob(z).exp().detach()
            style = _posterior_style(fit)
            if fit.family == "mean field":
                style |= {"linestyle": "--", "color": "tab:blue"}
            (line,) = axes.plot(z, density, **style)
            name = f"{fit.family}, {fit.estimator}"
            handles.append((line, f"{name}: KL {fit.kl:z.3f}, k-hat {fit.pareto_k:z.2f}"))
        axes.set(xlabel=f"weight {latent + 1}", xlim=(low, high))
    panels[0].set(ylabel="density")
    best = min(fit.kl for fit in logistic.fits)
    figure.suptitle(f"Logistic regression, marginals and HMC draws: KL {best:z.3f} nats at best")
    figure.legend(*zip(*handles, strict=True), loc="outside lower center", ncols=2, fontsize=8)


def save_elbo_curves(path: Path, comparison: Comparison) -> None:
    """Plot the exact ELBO over steps; panels below show the gap to the best ELBO on a log scale."""
    figure = Figure(figsize=(12, 7.5), layout="constrained")
    panels = figure.subplots(2, len(comparison.curves), sharex=True, sharey="row")
    evidence, best = comparison.log_evidence, comparison.best_elbo
    references = (evidence, "-", "log evidence"), (best, "-.", "best mean-field Gaussian")
    for column, (optimizer, curves) in enumerate(comparison.curves.items()):
        upper, lower = panels[:, column]
        for name, elbo in curves.items():
            steps = np.arange(1, len(elbo) + 1)
            upper.plot(steps, elbo, **estimator_style(name))
            lower.plot(steps, (best - elbo).clamp(min=1e-3), **estimator_style(name))
        for value, dashes, name in references:
            label = f"{name}, {value:.2f}"
            upper.axhline(value, color="k", linewidth=0.9, linestyle=dashes, label=label)
        rate = LEARNING_RATES[optimizer]
        upper.set(title=f"{OPTIMIZER_NAMES[optimizer]}, learning rate {rate:g}")
        lower.set(xlabel="optimizer steps", yscale="log", xlim=(0, None))
        for axes in (upper, lower):
            axes.grid(alpha=0.3)
    start = max(float(curve[0]) for curve in comparison.curves["adam"].values())
    panels[0, 0].set(ylabel="ELBO (nats)", ylim=(1.1 * start, evidence + 10))
    panels[1, 0].set(ylabel="nats below the best mean-field q")
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, fontsize=9)
    figure.savefig(path, dpi=DPI)


def save_variances(path: Path, comparison: Comparison) -> None:
    """Draw each estimator's gradient variance as a bar, at the first q and at the best q."""
    figure = Figure(figsize=(12, 4.2), layout="constrained")
    measured = comparison.gradient_variance
    panels = figure.subplots(1, len(measured), sharex=True, sharey=True)
    for axes, (where, variances) in zip(panels, measured.items(), strict=True):
        colors = [estimator_style(name)["color"] for name in variances]
        bars = axes.barh(list(variances), list(variances.values()), color=colors)
        cuts = comparison.cut[where].values()
        labels = ["plain" if cut == 1 else f"{cut:,.0f}x less" for cut in cuts]
        axes.bar_label(bars, labels, padding=4)
        axes.set_title(f"at the {where} of a fit, {NUM_SAMPLES} samples per gradient")
        axes.set(xscale="log", xlabel="variance of the gradient, summed over 40 parameters")
        axes.margins(x=0.12)
        axes.grid(alpha=0.3, axis="x")
    panels[0].invert_yaxis()
    figure.savefig(path, dpi=DPI)


@torch.no_grad()
def save_binary_vae(path: Path, result: BinaryVAEFit) -> None:
    """Draw the latent plane, the ELBO curve, and images of points, reconstructions and samples."""
    figure = Figure(figsize=(15, 4.8), layout="constrained")
    plane, elbo_curve, grid = figure.subplots(1, 3, width_ratios=(1, 1.2, 1))
    z = result.vae.means(result.held_out.pixels)
    for number, color in enumerate(CLUSTER_COLORS):
        inside = z[result.held_out.cluster == number].T.numpy()
        plane.scatter(*inside, s=6, color=color, label=f"Gaussian {number + 1}")
    title = f"Held-out points: nearest mean right {100 * result.accuracy:.1f} %"
    plane.set(title=title, xlabel="latent 1", ylabel="latent 2", aspect="equal")
    plane.legend(fontsize=8)
    steps = np.arange(1, len(result.history) + 1)
    elbo_curve.plot(steps, result.history.numpy(), linewidth=0.7, label="batch")
    elbo_curve.axhline(result.elbo, color="tab:green", label=f"held out, {result.elbo:.1f}")
    for value, name, dashes in (
        (result.pixels_of_cluster, "independent pixels, Gaussian given", "--"),
        (result.independent_pixels, "independent pixels", ":"),
    ):
        elbo_curve.axhline(value, color="k", linestyle=dashes, label=f"{name}, {value:.1f}")
    elbo_curve.set(title="ELBO", xlabel="optimizer steps", ylabel="nats per point", ylim=(-80, 0))
    elbo_curve.grid(alpha=0.3)
    elbo_curve.legend(fontsize=8, loc="lower right")
    shown = [result.held_out.cluster.tolist().index(number) for number in range(NUM_CLUSTERS)]
    prior = torch.randn(3, 2, generator=torch.Generator().manual_seed(0))
    decoded, drawn = (result.vae.decoder(latents).sigmoid() for latents in (z[shown], prior))
    strips = [_strip(images) for images in (result.held_out.pixels[shown], decoded, drawn)]
    grid.imshow(torch.cat(strips).numpy(), cmap="gray", vmin=0, vmax=1)
    grid.set(title="100 pixels, one point of each Gaussian", xticks=[])
    grid.set_yticks([6, 18, 30], ["seen", "decoded", "from prior"])
    figure.savefig(path, dpi=DPI)


def _strip(images: Tensor) -> Tensor:
    """Arrange images of 100 pixels as 10 x 10 squares in a row, each with a gray border."""
    squares = torch.nn.functional.pad(images.view(-1, 10, 10), (1, 1, 1, 1), value=0.5)
    return torch.cat(list(squares), 1)
