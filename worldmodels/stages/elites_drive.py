"""Use MAP-Elites to find the best C for every way of driving, such as slow or fast.

`wm collect --policy elites` plays episodes with the agents of the archive. V and M can then be
trained on equally many episodes of every way of driving.
"""

import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from agents.cells import box_centroids
from agents.elites import Centroids, ElitesConfig, MapElites
from agents.operators import OperatorConfig
from agents.seeds import SEED_RANGES
from agents.workers import Workers
from envs.tasks import task_for
from worldmodels.controller.agent import Agent, save_agent
from worldmodels.controller.new_agent import check_inputs, new_agent
from worldmodels.controller.real_episodes import RealEpisodes
from worldmodels.dream.load import load_world_model
from worldmodels.errors import UserError, check_above_zero, check_at_least
from worldmodels.map_elites.log import log_events, write_figures
from worldmodels.map_elites.search import RepresentationSearch, RepresentationSearchConfig
from worldmodels.progress import Report, tensorboard
from worldmodels.runs.checkpoint import save_checkpoint, with_prefix
from worldmodels.runs.env_steps import StepPurpose, record_env_steps
from worldmodels.runs.provenance import file_digest
from worldmodels.runs.run import WEIGHTS, Run
from worldmodels.runs.run_lock import locks_run
from worldmodels.runs.stage_folder import StageFolder

SEARCH, WORLD_MODEL_FILE = "search.safetensors", "world_model.safetensors"
CHECKPOINT_SECONDS = 20.0


@dataclass(frozen=True, kw_only=True)
class DriveConfig:
    """Settings of the search. C is linear, as in the paper. A solution is a vector of C's weights.

    Attributes:
        evaluations: number of evaluated solutions, which is rounded up to whole generations.
        episodes: number of episodes per solution. All solutions drive on the same tracks, because
            solutions of different generations are compared with each other.
        max_steps: largest number of env steps per episode. The default is enough for the first
            bends of a track.
        cells: number of cells of the archive along each measure of the task.
        batch_size: number of solutions per generation.
        inputs: inputs of C, "zh" or "z".
        start_sigma: standard deviation of the random weights with which the search begins. With a
            start_sigma of 0.1 the mean magnitude of steering is 0.1 to 0.8. With a start_sigma of
            0.4 the mean magnitude of steering is 0.8 or more, and the car hardly moves.
        iso_sigma, line_sigma: step sizes of the operators; see `OperatorConfig`. In a test with one
            seed, 960 solutions filled 48 % of the cells with an iso_sigma of 0.02, and 41 % with an
            iso_sigma of 0.05.
        bound: largest absolute value of a weight.
        qd_score_offset: number that is subtracted from each fitness in the QD score. The default is
            -130, because no episode of 300 env steps has a return below -130.
    """

    evaluations: int = 10_000
    episodes: int = 2
    max_steps: int = 300
    cells: int = 16
    batch_size: int = 64
    inputs: str = "zh"
    start_sigma: float = 0.1
    iso_sigma: float = 0.02
    line_sigma: float = 0.3
    bound: float = 5.0
    qd_score_offset: float = -130.0

    def __post_init__(self) -> None:
        check_at_least(1, self, "evaluations", "episodes", "max_steps", "batch_size")
        check_at_least(2, self, "cells")
        check_above_zero(self, "start_sigma", "iso_sigma", "line_sigma", "bound")
        check_inputs(self.inputs)

    @property
    def generations(self) -> int:
        """The smallest number of generations with at least `evaluations` evaluations in total."""
        return math.ceil(self.evaluations / self.batch_size)

    @property
    def elites(self) -> ElitesConfig:
        """The settings of MAP-Elites itself."""
        return ElitesConfig(
            batch_size=self.batch_size,
            start_sigma=self.start_sigma,
            bounds=(-self.bound, self.bound),
            operators=OperatorConfig(self.iso_sigma, self.line_sigma),
            qd_score_offset=self.qd_score_offset,
        )


# Long function: it holds all steps of the stage in order, around one loop.
@locks_run
def drive_elites(
    run: Run,
    config: DriveConfig,
    *,
    workers: Workers,
    report: Report,
    seed: int | None = None,
) -> dict[str, Any]:
    """Fill an archive with controllers for the run's V and M, and store the archive in the run.

    If a call is killed, the next call with the same arguments continues from the last checkpoint.
    The archive is then equal to the archive of an uninterrupted call.

    Args:
        seed: seed of the search and of the random choice of training tracks; None stands for the
            seed of the run.

    Raises: UserError if V or M is missing, or if the seed is negative.
    """
    seed = run.settings.seed if seed is None else seed
    if seed < 0:
        raise UserError(f"seed must be at least 0, got {seed}")
    run.store.refresh()
    vision, memory = load_world_model(run)
    agent = new_agent(run, vision, memory, inputs=config.inputs)
    round_ = (run.manifest("memory") or {}).get("round", 1)
    work = run.begin("elites", config, seed, round_, report.log)
    if work is None:
        return run.result("elites") or {}
    started = time.monotonic()
    measures, num_parameters = task_for(run.settings.env).measures, agent.controller.num_parameters
    ranges = [(each.low, each.high) for each in measures]
    centroids = box_centroids(ranges, config.cells)
    report.estimate(
        f"elites: {config.generations * config.batch_size:,} controllers of "
        f"{num_parameters} parameters, {config.episodes} episodes each of up to "
        f"{config.max_steps} steps of {run.settings.env}, {len(centroids)} cells by "
        f"{' and '.join(each.name for each in measures)}",
        disk_bytes=8 * len(centroids) * num_parameters + 20e6,
        folder=run.folder,
    )
    play = RealEpisodes(agent, workers, work.partial / WORLD_MODEL_FILE, config.max_steps, measures)
    drawn = np.random.default_rng(seed).integers(SEED_RANGES["training"].stop, size=config.episodes)
    of_elites = RepresentationSearchConfig(elites=config.elites)
    search = RepresentationSearch(num_parameters, centroids, of_elites, seed, ranges)
    history = _run(search, config, play, drawn.tolist(), work, report)
    metadata = {"made_by": work.work, "measures": [each.label for each in measures]}
    file = work.partial / WEIGHTS["elites"]
    _save_elites(file, agent, search.search, centroids, metadata)
    steps: dict[StepPurpose, int] = {"searched": int(history[-1]["steps"])}
    record_env_steps(run, f"elites/{file_digest(file)[:16]}", steps)
    write_figures(
        work.partial,
        search.search.archive,
        history,
        fitness="return",
        measures=[each.label for each in measures],
        qd_score_offset=config.qd_score_offset,
    )
    (work.partial / WORLD_MODEL_FILE).unlink()
    result = {
        "elites": len(search.search.archive),
        "num_cells": len(centroids),
        "measures": metadata["measures"],
        "parameters": num_parameters,
        "qd_score_offset": config.qd_score_offset,
        "env_steps": steps,
        **history[-1],
    }
    report.log(
        f"elites: {result['elites']} of {result['num_cells']} cells filled, best return "
        f"{result['best_fitness']:.0f}, mean {result['mean_fitness']:.0f}"
    )
    return work.commit(result, time.monotonic() - started)


def _run(
    search: RepresentationSearch,
    config: DriveConfig,
    play: RealEpisodes,
    tracks: list[int],
    work: StageFolder,
    report: Report,
) -> list[dict[str, Any]]:
    """Run the search, from the saved state if it exists; return one entry per generation."""
    path = work.partial / SEARCH
    history = search.resume(path)
    last = history[-1] if history else {"seconds": 0.0, "steps": 0}
    started = saved_at = time.monotonic()

    def state() -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        tensors, metadata = search.state_dict()
        return tensors, {**metadata, "history": list(history)}

    # Ctrl-C may come within a generation, so the state after the last whole generation is kept.
    ended = state()
    total = config.generations * config.batch_size
    with (
        tensorboard(work.partial / "events") as events,
        report.progress("elites", total, search.search.evaluations) as meter,
    ):
        try:
            while search.search.generation < config.generations:
                search.step(lambda solutions: _scores(play(solutions, tracks)))
                stats = search.search.stats()
                entry = asdict(stats)
                del entry["mix"]
                seconds = round(last["seconds"] + time.monotonic() - started, 2)
                history.append({**entry, "steps": last["steps"] + play.steps, "seconds": seconds})
                ended = state()
                meter.to(stats.evaluations)
                meter.show({"coverage": stats.coverage, "best": stats.best_fitness})
                log_events(events, stats)
                if time.monotonic() - saved_at > CHECKPOINT_SECONDS:
                    save_checkpoint(path, *ended)
                    saved_at = time.monotonic()
        except KeyboardInterrupt:
            save_checkpoint(path, *ended)
            raise
    return history


def _scores(scores: list[list[Any]]) -> tuple[np.ndarray, np.ndarray]:
    """Return the means over each solution's episodes: fitness (P,) and measures (P, M)."""
    returns = np.array([[score.episode_return for score in row] for row in scores])
    measures = np.array([[score.measures for score in row] for row in scores])
    return returns.mean(axis=1), measures.mean(axis=1)


def _save_elites(
    path: Path, agent: Agent, search: MapElites, centroids: Centroids, metadata: dict[str, Any]
) -> None:
    """Write V, M, the agent's spec and the parameters (n, D) of all n elites, ordered by cell.

    The file also holds `elites.fitness` (n,), `elites.measures` (n, M), `elites.cell` (n,), and the
    `elites.centroids` (N, M) of all cells. `load_agent` returns an agent for n environments. A
    different elite acts in each environment.
    """
    order = np.argsort(search.archive.data("index"))
    parameters, fitness, measures, cells = (
        torch.from_numpy(search.archive.data(name)[order])
        for name in ("solution", "objective", "measures", "index")
    )
    agent.parameters = parameters
    elites = {"fitness": fitness, "measures": measures, "cell": cells.long()}
    elites["centroids"] = torch.from_numpy(centroids)
    save_agent(path, agent, metadata, extra_tensors=with_prefix("elites", elites))
