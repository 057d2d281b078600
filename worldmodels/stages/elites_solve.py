"""Use CMA-ES to reach targets with the arm, with and without the autoencoder of an archive."""

import csv
import itertools
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from envs.arm import PlanarArm
from worldmodels.errors import UserError, check_at_least
from worldmodels.map_elites.arm import ARCHIVE, load_autoencoder
from worldmodels.map_elites.targets import TARGETS, Attempt, code_space, direct_space, reach
from worldmodels.progress import Report
from worldmodels.runs.json_files import read_json
from worldmodels.runs.provenance import file_digest, plain
from worldmodels.runs.stage_folder import RESULT, begin_work

CLOSE = 0.01  # a target is reached within this distance; the space of measures has width 1
MARKS = (500, 1_000, 5_000)


@dataclass(frozen=True)
class SolveConfig:
    """Settings of CMA-ES, which gets `evaluations` evaluations per target in each search space.

    Source: arXiv 2003.04389, section 4.3.
    """

    evaluations: int = 5_000
    seed: int = 0

    def __post_init__(self) -> None:
        check_at_least(1, self, "evaluations")
        check_at_least(0, self, "seed")


def solve_targets(archive: Path, out: Path, config: SolveConfig, report: Report) -> dict[str, Any]:
    """Use CMA-ES to reach every target in both search spaces, and write the results to `out`.

    The two search spaces are the codes of the autoencoder and the joint angles of the arm.

    Args:
        archive: folder that `wm elites arm` has written. The folder must hold an archive with an
            autoencoder.

    Returns: a dict with the `summary` of each space and, under the key `history`, the
        `median_curve` of each space.
    Raises: UserError if there is no archive, if the archive has no autoencoder, or if `evaluations`
        is smaller than a generation of CMA-ES.
    """
    started = time.monotonic()
    arm_config, model = load_autoencoder(archive)
    spaces = (direct_space(arm_config.joints), code_space(model))
    fewest = max(space.population for space in spaces)
    if config.evaluations < fewest:
        raise UserError(f"expected at least {fewest} evaluations, got {config.evaluations}")
    inputs = {"archive": file_digest(archive / ARCHIVE)}
    work = begin_work(
        out, {"stage": "elites solve", "config": plain(config), "inputs": inputs}, report.log
    )
    if work is None:
        return read_json(out / RESULT) or {}
    arm = PlanarArm(arm_config.joints)
    attempts: dict[str, list[Attempt]] = {space.name: [] for space in spaces}
    pairs = list(itertools.product(enumerate(TARGETS), spaces))
    for (index, target), space in report.track("solve", pairs):
        seed = int(np.random.SeedSequence([config.seed, index]).generate_state(1)[0])
        attempts[space.name].append(reach(target, space, arm, config.evaluations, seed))
    _write_attempts(work.partial / "solve.csv", attempts)
    draw_attempts(work.partial / "solve.png", attempts)
    result = {
        "joints": arm_config.joints,
        "operator": arm_config.operator,
        "targets": len(TARGETS),
        **{name: summary(found) for name, found in attempts.items()},
        "history": {name: median_curve(found) for name, found in attempts.items()},
    }
    return work.commit(result, time.monotonic() - started)


def summary(attempts: list[Attempt]) -> dict[str, Any]:
    """Return the number of reached targets, the median distance and the mean joint variance.

    The result has one entry for each of several numbers of evaluations.
    """
    rows = {}
    for mark in _marks(attempts[0]):
        distances = np.array([attempt.distances[mark - 1] for attempt in attempts])
        spreads = np.array([attempt.spreads[mark - 1] for attempt in attempts])
        rows[str(mark)] = {
            "reached": int((distances < CLOSE).sum()),
            "median_distance": float(np.median(distances)),
            "joint_variance": float(np.mean(spreads**2)),
        }
    return rows


def median_curve(attempts: list[Attempt]) -> list[float]:
    """Return the median distance to the targets at every tenth evaluation."""
    middle = np.median([attempt.distances for attempt in attempts], axis=0)
    return [round(float(distance), 6) for distance in middle[9::10]]


def draw_attempts(path: Path, attempts: dict[str, list[Attempt]]) -> None:
    """Plot the median and the quartiles of the distance to the targets over the evaluations."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for name, found in attempts.items():
        distances = np.array([attempt.distances for attempt in found])
        low, middle, high = np.quantile(distances, (0.25, 0.5, 0.75), axis=0)
        evaluations = np.arange(1, len(middle) + 1)
        axes.plot(evaluations, middle, label=name)
        axes.fill_between(evaluations, low, high, alpha=0.2)
    axes.axhline(CLOSE, color="gray", lw=1, ls=":")
    axes.set(xscale="log", yscale="log", xlabel="evaluations", ylabel="distance to the target")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=110)


def _write_attempts(path: Path, attempts: dict[str, list[Attempt]]) -> None:
    """Write a row with the best solution for each space, target and number of evaluations."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["space", "target", "x", "y", "evaluations", "distance", "joint_spread"])
        for name, found in attempts.items():
            for index, best in enumerate(found):
                for mark in _marks(best):
                    texts = (f"{each[mark - 1]:.6f}" for each in (best.distances, best.spreads))
                    writer.writerow([name, index, *TARGETS[index], mark, *texts])


def _marks(attempt: Attempt) -> list[int]:
    evaluations = len(attempt.distances)
    return [mark for mark in MARKS if mark < evaluations] + [evaluations]
