"""Search targets of the arm in the code space of an archive's autoencoder, and without it."""

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

CLOSE = 0.01  # from a reached target, in the space of measures, whose width is 1
MARKS = (500, 1_000, 5_000)


@dataclass(frozen=True)
class SolveConfig:
    """How targets are searched: the evaluations per target, equal in both spaces.

    Source: arXiv 2003.04389, section 4.3.
    """

    evaluations: int = 5_000
    seed: int = 0

    def __post_init__(self) -> None:
        check_at_least(1, self, "evaluations")
        check_at_least(0, self, "seed")


def solve_targets(archive: Path, out: Path, config: SolveConfig, report: Report) -> dict[str, Any]:
    """Search the targets by CMA-ES in both spaces, and write the results to `out`.

    Args:
        archive: folder of a finished `wm elites arm` with an autoencoder.

    Returns: for each space, its figures after `MARKS` evaluations; as `history`, the median
        distance at every tenth evaluation.
    Raises: UserError where there is no such archive, or it has no autoencoder.
    """
    started = time.monotonic()
    arm_config, model = load_autoencoder(archive)
    spaces = (direct_space(arm_config.joints), code_space(model))
    fewest = max(space.population for space in spaces)
    if config.evaluations < fewest:
        raise UserError(f"expected {fewest} evaluations or more, got {config.evaluations}")
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
    """Reached targets, median distance and mean variance of the joints, after each mark."""
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
    """Median distance to the targets at every tenth evaluation."""
    middle = np.median([attempt.distances for attempt in attempts], axis=0)
    return [round(float(distance), 6) for distance in middle[9::10]]


def draw_attempts(path: Path, attempts: dict[str, list[Attempt]]) -> None:
    """Draw the median distance to the targets against evaluations, with its quartiles."""
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
    """Write the distance and joint spread of the best solution per space, target and mark."""
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
