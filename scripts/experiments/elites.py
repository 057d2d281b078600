"""MAP-Elites on the arm with and without a model of its elites; targets; code vectors.

Searches with each operator and three seeds, at 1,000 joints; archives at 200 joints, in whose codes
targets are then searched; and codebooks with and without the quantizer library's remedies. Draws
docs/elites.md. A quarter of an hour on one core.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch.nn import functional as F

from agents.elites import disc_centroids
from envs.arm import PlanarArm
from scripts.experiments.experiment import Context, Experiment, Result, Results
from scripts.experiments.markdown import markdown_table, write_page
from worldmodels.map_elites.arm import ArmConfig
from worldmodels.map_elites.autoencoders import REMEDIES, AutoencoderConfig, SolutionVQVAE
from worldmodels.map_elites.search import RepresentationSearch
from worldmodels.progress import Report
from worldmodels.stages.elites_arm import search_arm
from worldmodels.stages.elites_solve import CLOSE, SolveConfig, solve_targets

SEEDS = (0, 1, 2)
JOINTS, BASE, FEWER = 1_000, 200_000, 20_000
SEARCHES = {
    "line": ArmConfig(joints=JOINTS, operator="line", evaluations=BASE),
    "vae": ArmConfig(joints=JOINTS, operator="vae", evaluations=FEWER),
    "vqvae": ArmConfig(joints=JOINTS, operator="vqvae", evaluations=FEWER),
    "vae, bandit": ArmConfig(joints=JOINTS, operator="vae", bandit=True, evaluations=FEWER),
    "vqvae, bandit": ArmConfig(joints=JOINTS, operator="vqvae", bandit=True, evaluations=FEWER),
}
SOLVE_JOINTS, SOLVE_EVALUATIONS = 200, 5_000
# As in an earlier replication that saw its code vectors align: few codes of few numbers.
CODEBOOK = AutoencoderConfig(kind="vqvae", num_latents=10, num_codes=3, code_size=3)
CODEBOOKS: dict[str, tuple[str, ...]] = {"none": (), **{name: (name,) for name in REMEDIES}}
CODEBOOKS["revival, orthogonal"] = ("revival", "orthogonal")


def search(config: ArmConfig) -> Result:
    """One search's figures and curve."""
    with tempfile.TemporaryDirectory() as folder:
        result = search_arm(Path(folder) / "search", config, Report())
    names = ("evaluations", "coverage", "norm_qd_score", "mean_fitness")
    result["history"] = [
        {name: round(entry[name], 4) for name in names} for entry in result["history"][::4]
    ]
    return result


def solve(operator: str, seed: int) -> Result:
    """An archive with a model, and targets searched in its codes and directly."""
    config = ArmConfig(joints=SOLVE_JOINTS, operator=operator, evaluations=FEWER, seed=seed)
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / "archive"
        search_arm(archive, config, Report())
        solved = SolveConfig(evaluations=SOLVE_EVALUATIONS, seed=seed)
        return solve_targets(archive, Path(folder) / "solved", solved, Report())


def codebook(remedies: tuple[str, ...], seed: int) -> Result:
    """Cosines between the code vectors of a search on 20 joints, and what the search came to."""
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


def _file(name: str, seed: int) -> str:
    return f"{name.replace(', ', '-')}-{seed}"


def _table() -> dict[str, Callable[[], Result]]:
    table: dict[str, Callable[[], Result]] = {}
    for seed in SEEDS:
        for name, config in SEARCHES.items():
            table[_file(name, seed)] = partial(search, replace(config, seed=seed))
        for operator in ("vae", "vqvae"):
            table[_file(f"solve-{operator}", seed)] = partial(solve, operator, seed)
        for name, remedies in CODEBOOKS.items():
            table[_file(f"codebook-{name}", seed)] = partial(codebook, remedies, seed)
    return table


TABLE = _table()


@dataclass(frozen=True)
class Elites(Experiment[Callable[[], Result]]):
    """Searches, targets and codebooks over three seeds."""

    name = "elites"
    folder = "results/elites"
    table = TABLE

    def run(self, name: str, spec: Callable[[], Result], context: Context) -> Result:
        """One search, or one archive and its targets, or one codebook."""
        return spec()

    def draw(self, results: Results, docs: Path) -> None:
        """The page and its figures."""
        draw_searches(docs / "elites_arm.png", results)
        draw_solved(docs / "elites_targets.png", results)
        draw_codebooks(docs / "elites_codebooks.png", results)
        write_page(
            docs / "elites.md",
            joints=JOINTS,
            solve_joints=SOLVE_JOINTS,
            close=CLOSE,
            fewer=FEWER,
            codebook_size=CODEBOOK.codebook_size,
            code_size=CODEBOOK.code_size,
            searches_table=_searches_table(results),
            targets_table=_targets_table(results),
            codebooks_table=_codebooks_table(results),
        )


def draw_searches(path: Path, results: Results) -> None:
    """Coverage and mean fitness against evaluations, the seeds of an operator in one color."""
    figure = Figure(figsize=(11, 4), layout="constrained")
    axes = figure.subplots(1, 2)
    for color, name in enumerate(SEARCHES):
        for seed, result in enumerate(seeds_of(results, name)):
            evaluations = [entry["evaluations"] for entry in result["history"]]
            for axis, field in zip(axes, ("coverage", "mean_fitness"), strict=True):
                values = [entry[field] for entry in result["history"]]
                label = name if seed == 0 and field == "coverage" else None
                axis.plot(evaluations, values, color=f"C{color}", lw=1, label=label)
    for axis, label in zip(axes, ("coverage", "mean fitness, minus radians"), strict=True):
        axis.set(xscale="log", xlabel="evaluations", ylabel=label)
        axis.grid(alpha=0.3)
    figure.legend(loc="outside upper center", ncols=len(SEARCHES))
    figure.savefig(path, dpi=110)


def draw_solved(path: Path, results: Results) -> None:
    """Median distance to the targets against evaluations."""
    figure = Figure(figsize=(6.5, 4), layout="constrained")
    axes = figure.subplots()
    for operator, space, color, label in (
        ("vae", "direct", "C0", "direct"),
        ("vae", "codes", "C1", "codes of the VAE"),
        ("vqvae", "codes", "C2", "codes of the VQ-VAE"),
    ):
        for seed, result in enumerate(seeds_of(results, f"solve-{operator}")):
            curve = result["history"][space]
            evaluations = 10 * np.arange(1, len(curve) + 1)
            axes.plot(evaluations, curve, color=color, lw=1, label=None if seed else label)
    axes.axhline(CLOSE, color="gray", ls=":", lw=1)
    axes.set(xscale="log", yscale="log", xlabel="evaluations", ylabel="median distance")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=110)


def draw_codebooks(path: Path, results: Results) -> None:
    """How often code vectors lie at which cosine, beside directions drawn at random."""
    figure = Figure(figsize=(11, 3.2), layout="constrained")
    axes = figure.subplots(1, len(CODEBOOKS), sharey=True)
    bins = np.linspace(-1, 1, 21)
    for axis, name in zip(axes, CODEBOOKS, strict=True):
        cosines = [value for result in codebooks_of(results, name) for value in result["cosines"]]
        if cosines:
            axis.hist(cosines, bins=bins, density=True)
        axis.axhline(0.5, color="gray", ls=":", lw=1)  # of random directions in space
        axis.set(title=name if name != "none" else "no remedy", xlabel="cosine")
    figure.savefig(path, dpi=110)


def seeds_of(results: Results, name: str) -> list[Result]:
    """The results of a search's seeds."""
    names = [_file(name, seed) for seed in SEEDS]
    return [results[each] for each in names if each in results]


def codebooks_of(results: Results, name: str) -> list[Result]:
    """The results of a codebook's seeds."""
    return seeds_of(results, f"codebook-{name}")


def each(results: list[Result], field: str, digits: int) -> str:
    """The field's value of every seed."""
    return ", ".join(f"{result[field]:.{digits}f}" for result in results)


def _searches_table(results: Results) -> str:
    heads = ["operator", "evaluations", "coverage", "mean fitness", "training, s", "in all, s"]
    rows = []
    for name in SEARCHES:
        found = seeds_of(results, name)
        if found:
            digits = {"coverage": 3, "mean_fitness": 3, "training_seconds": 0, "seconds": 0}
            figures = [each(found, field, shown) for field, shown in digits.items()]
            rows.append([name, f"{found[0]['evaluations']:,}", *figures])
    return markdown_table(heads, rows)


def _targets_table(results: Results) -> str:
    heads = ["searched in", "reached after 500", "1,000", "5,000"]
    heads += ["median distance after 1,000", "joint variance after 1,000"]
    rows = []
    for label, operator, space in (
        ("solutions", "vae", "direct"),
        ("codes of the VAE", "vae", "codes"),
        ("codes of the VQ-VAE", "vqvae", "codes"),
    ):
        found = seeds_of(results, f"solve-{operator}")
        if found:
            after = {
                mark: [result[space][mark] for result in found] for mark in ("500", "1000", "5000")
            }
            row = [label, *(each(figures, "reached", 0) for figures in after.values())]
            row += [each(after["1000"], "median_distance", 4)]
            rows.append([*row, each(after["1000"], "joint_variance", 3)])
    return markdown_table(heads, rows)


def _codebooks_table(results: Results) -> str:
    heads = ["remedies", "mean absolute cosine", "fraction on the first axis", "vectors used"]
    heads += ["squared error of elites", "coverage", "mean fitness"]
    fields = ["mean_absolute_cosine", "first_axis_fraction", "used", "error"]
    fields += ["coverage", "mean_fitness"]
    rows = []
    for name in CODEBOOKS:
        found = codebooks_of(results, name)
        if found:
            shown = [each(found, field, 0 if field == "used" else 2) for field in fields]
            rows.append([name, *shown])
    return markdown_table(heads, rows)
