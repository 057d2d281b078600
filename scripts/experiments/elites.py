"""Run MAP-Elites on the planar arm, with and without an autoencoder of the elites.

The experiment has three parts, with three seeds each. The first part compares operators, which make
new solutions, on an arm of 1,000 joints. The second part searches for solutions with which the end
of an arm of 200 joints reaches targets. This search is either over the codes of an autoencoder or
over the solutions themselves. The third part compares codebooks with and without the quantizer
library's remedies against unused code vectors and against parallel code vectors. The experiment
writes docs/elites.md and takes a quarter of an hour on one core.
"""

import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from agents.elites import disc_centroids
from envs.arm import PlanarArm
from scripts.experiments.experiment import Context, Experiment, Result, Results, grouped
from scripts.experiments.figures import columns, plot_runs, saved_axes
from scripts.experiments.markdown import per_seed, write_page
from worldmodels.map_elites.arm import ArmConfig
from worldmodels.map_elites.autoencoders import REMEDIES, AutoencoderConfig, SolutionVQVAE
from worldmodels.map_elites.search import RepresentationSearch
from worldmodels.progress import Report
from worldmodels.stages.elites_arm import search_arm
from worldmodels.stages.elites_solve import CLOSE, SolveConfig, solve_targets

SEEDS = (0, 1, 2)
JOINTS, BASE, FEWER = 1_000, 200_000, 20_000
_ARM = partial(ArmConfig, joints=JOINTS, evaluations=FEWER)
SEARCHES = {
    "line": _ARM(operator="line", evaluations=BASE),
    "vae": _ARM(operator="vae"),
    "vqvae": _ARM(operator="vqvae"),
    "vae, bandit": _ARM(operator="vae", bandit=True),
    "vqvae, bandit": _ARM(operator="vqvae", bandit=True),
}
# The metrics that are plotted against evaluations, and the labels of their axes.
PLOTTED = {"coverage": "coverage", "mean_fitness": "mean fitness, minus radians"}
SOLVE_JOINTS, SOLVE_EVALUATIONS = 200, 5_000
# As in an earlier replication whose code vectors aligned: few codes of few numbers each.
CODEBOOK = AutoencoderConfig(kind="vqvae", num_latents=10, num_codes=3, code_size=3)
CODEBOOKS: dict[str, tuple[str, ...]] = {"none": (), **{name: (name,) for name in REMEDIES}}
CODEBOOKS["revival, orthogonal"] = ("revival", "orthogonal")
# The operator of each archive, and the space in which targets are searched.
TARGETS = {
    "solutions": ("vae", "direct"),
    "codes of the VAE": ("vae", "codes"),
    "codes of the VQ-VAE": ("vqvae", "codes"),
}

Groups = Mapping[str, list[Result]]


def search(config: ArmConfig, seed: int) -> Result:
    """Run one search; return its metrics and its learning curve."""
    with tempfile.TemporaryDirectory() as folder:
        result = search_arm(Path(folder) / "search", replace(config, seed=seed), Report())
    names = ("evaluations", "coverage", "norm_qd_score", "mean_fitness")
    result["history"] = [
        {name: round(entry[name], 4) for name in names} for entry in result["history"][::4]
    ]
    return result


def solve(operator: str, seed: int) -> Result:
    """Train an autoencoder during a search; then search for targets over codes and solutions."""
    config = ArmConfig(joints=SOLVE_JOINTS, operator=operator, evaluations=FEWER, seed=seed)
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / "archive"
        search_arm(archive, config, Report())
        solved = SolveConfig(evaluations=SOLVE_EVALUATIONS, seed=seed)
        return solve_targets(archive, Path(folder) / "solved", solved, Report())


def codebook(remedies: tuple[str, ...], seed: int) -> Result:
    """Run a search with 20 joints; return the cosines between code vectors, and other metrics."""
    config = ArmConfig(operator="vqvae").representation_search
    model = replace(CODEBOOK, remedies=remedies)
    found = RepresentationSearch(20, disc_centroids(1_950), replace(config, model=model), seed)
    arm = PlanarArm(20)
    while found.search.evaluations < FEWER:
        found.step(arm.evaluate)
    stats, autoencoder = found.search.stats(), found.model
    assert isinstance(autoencoder, SolutionVQVAE)
    elites = torch.from_numpy(found.search.elites)
    vectors = autoencoder.code_vectors.detach()
    directions = F.normalize(vectors, dim=-1)
    cosines = (directions @ directions.T)[tuple(torch.triu_indices(len(vectors), len(vectors), 1))]
    axes = torch.linalg.svdvals(directions).square()
    return {
        "remedies": list(remedies),
        "cosines": [round(float(value), 3) for value in cosines],
        "mean_absolute_cosine": float(cosines.abs().mean()),
        "first_axis_fraction": float(axes[0] / axes.sum()),
        "used": len(np.unique(autoencoder.codes(elites).numpy())),
        "error": float((autoencoder.reconstruct(elites) - elites).square().sum(-1).mean()),
        "coverage": stats.coverage,
        "mean_fitness": stats.mean_fitness,
    }


# The function of each kind of run, by name; it is called with each of the seeds.
KINDS: dict[str, Callable[[int], Result]] = {
    **{name: partial(search, config) for name, config in SEARCHES.items()},
    **{f"solve-{operator}": partial(solve, operator) for operator in ("vae", "vqvae")},
    **{f"codebook-{name}": partial(codebook, remedies) for name, remedies in CODEBOOKS.items()},
}
TABLE = {f"{kind.replace(', ', '-')}-{seed}": (kind, seed) for seed in SEEDS for kind in KINDS}


@dataclass(frozen=True)
class Elites(Experiment):
    """Compare operators, searches for targets, and codebooks, each with three seeds."""

    name = "elites"
    table = TABLE

    def run(self, name: str, spec: tuple[str, int], context: Context) -> Result:
        """Do one run: a search, a search for targets, or the training of a codebook."""
        kind, seed = spec
        return KINDS[kind](seed)

    def draw(self, results: Results, docs: Path) -> None:
        """Write the page and draw its plots."""
        groups = grouped(results, self.table)
        draw_searches(docs / "elites_arm.png", groups)
        draw_solved(docs / "elites_targets.png", groups)
        draw_codebooks(docs / "elites_codebooks.png", groups)
        write_page(
            docs / "elites.md",
            joints=JOINTS,
            solve_joints=SOLVE_JOINTS,
            close=CLOSE,
            fewer=FEWER,
            codebook=CODEBOOK,
            searches=_rows(groups, "", SEARCHES),
            targets=[
                {"label": label, **_after(groups[f"solve-{operator}"], space)}
                for label, (operator, space) in TARGETS.items()
                if f"solve-{operator}" in groups
            ],
            codebooks=_rows(groups, "codebook-", CODEBOOKS),
        )


def _rows(groups: Groups, prefix: str, names: Iterable[str]) -> list[Result]:
    """Return one row per search or codebook that has results. A row holds values of all seeds."""
    found = {name: groups[prefix + name] for name in names if prefix + name in groups}
    return [{"name": name, **per_seed(results)} for name, results in found.items()]


def _after(found: list[Result], space: str) -> dict[str, Any]:
    """Return the metrics of searches over `space` after 500, 1,000 and 5,000 evaluations."""
    return {
        f"after{mark}": per_seed([result[space][mark] for result in found])
        for mark in ("500", "1000", "5000")
    }


def draw_searches(path: Path, groups: Groups) -> None:
    """Plot coverage and mean fitness against evaluations, in one color per operator."""
    with saved_axes(path, (11, 4), {"ncols": len(SEARCHES)}, ncols=2) as both:
        for axes, (metric, label) in zip(both, PLOTTED.items(), strict=True):
            for number, name in enumerate(SEARCHES):
                found = [result["history"] for result in groups.get(name, [])]
                curves = [columns(history, "evaluations", metric) for history in found]
                plot_runs(axes, curves, name, color=f"C{number}", lw=1)
            axes.set(xscale="log", xlabel="evaluations", ylabel=label)


def draw_solved(path: Path, groups: Groups) -> None:
    """Plot the median distance to the targets against evaluations."""
    with saved_axes(path, (6.5, 4)) as axes:
        for number, (label, (operator, space)) in enumerate(TARGETS.items()):
            found = [result["history"][space] for result in groups.get(f"solve-{operator}", [])]
            curves = [(10 * np.arange(1, len(curve) + 1), curve) for curve in found]
            label = "direct" if space == "direct" else label
            plot_runs(axes, curves, label, color=f"C{number}", lw=1)
        axes.axhline(CLOSE, color="gray", ls=":", lw=1)
        axes.set(xscale="log", yscale="log", xlabel="evaluations", ylabel="median distance")
        axes.legend()


def draw_codebooks(path: Path, groups: Groups) -> None:
    """Plot the density of cosines between code vectors, and that for random directions."""
    with saved_axes(path, (11, 3.2), grid=None, ncols=len(CODEBOOKS), sharey=True) as row:
        for axes, name in zip(row, CODEBOOKS, strict=True):
            found = groups.get(f"codebook-{name}", [])
            if found:
                cosines = np.concatenate([result["cosines"] for result in found])
                axes.hist(cosines, bins=np.linspace(-1, 1, 21), density=True)
            axes.axhline(0.5, color="gray", ls=":", lw=1)  # density of random directions in space
            axes.set(title=name if name != "none" else "no remedy", xlabel="cosine")
