"""MAP-Elites on the planar arm: an archive of solutions, and an autoencoder of what they share."""

import math
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import shapely
import torch

from agents.elites import ElitesConfig, EliteStats, disc_centroids
from agents.operators import ALL_MIXES, LINE_MIXES, Mix
from envs.arm import PlanarArm
from worldmodels.errors import UserError, reading
from worldmodels.map_elites.autoencoders import KINDS, AutoencoderConfig
from worldmodels.map_elites.log import CURVE, PICTURE, draw_elites, tell_events, write_curve
from worldmodels.map_elites.search import Discovery, DiscoveryConfig
from worldmodels.progress import Report, tensorboard
from worldmodels.runs.checkpoint import load_checkpoint, save_checkpoint
from worldmodels.runs.json_files import read_json
from worldmodels.runs.provenance import plain
from worldmodels.runs.stage_folder import StageFolder, begin_work
from worldmodels.training.deferred_interrupt import deferred_interrupt

OPERATORS = ("line", *KINDS)
ARCHIVE = "elites.safetensors"
CHECKPOINT_SECONDS = 20.0
# Of several hundred generations each a point of the curves, of more one in ten.
FINE_GENERATIONS = 500
# Half by reconstruction, half along lines: with noise in place of lines 20,000 evaluations filled
# 0.62 of the niches instead of 0.72 at 1,000 joints (one seed).
_MODEL_MIX = Mix(reconstruction=0.5, line=0.5)


@dataclass(frozen=True)
class ArmConfig:
    """A search on the arm; the defaults are the paper's.

    Attributes:
        operator: "line", or the kind of autoencoder whose reconstruction is a crossover.
        bandit: mixes of operators are chosen by how many elites they lately added.
        niches: of equal size, in the disc that the arm can reach.

    Source: arXiv 2003.04389, section 4.
    """

    joints: int = 20
    operator: str = "line"
    bandit: bool = False
    evaluations: int = 1_000_000
    niches: int = 1_950
    batch_size: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        if self.operator not in OPERATORS:
            raise UserError(f'operator must be among {", ".join(OPERATORS)}, got "{self.operator}"')
        for name in ("joints", "niches", "batch_size", "evaluations"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.seed < 0:
            raise UserError(f"expected a seed of 0 or more, got {self.seed}")

    @property
    def generations(self) -> int:
        """As many whole ones as have `evaluations` at least."""
        return math.ceil(self.evaluations / self.batch_size)

    @property
    def discovery(self) -> DiscoveryConfig:
        """The settings of the search itself."""
        elites = ElitesConfig(
            batch_size=self.batch_size,
            start_share=0.01 if self.joints > 200 else 0.05,
            qd_offset=math.pi / 2,  # no angles within -pi/2 to pi/2 deviate by more
        )
        if self.operator == "line":
            mixes = LINE_MIXES if self.bandit else elites.mixes
            return DiscoveryConfig(elites=replace(elites, mixes=mixes))
        mixes = ALL_MIXES if self.bandit else (_MODEL_MIX,)
        model = AutoencoderConfig(kind=self.operator)
        if self.joints <= 20:
            model = replace(model, num_latents=10, num_codes=3, code_size=3)
        return DiscoveryConfig(elites=replace(elites, mixes=mixes), model=model)


def search_arm(folder: Path, config: ArmConfig, report: Report) -> dict[str, Any]:
    """Fill an archive and leave it in `folder`, with curves and a picture.

    Killed, the same call goes on from its last checkpoint and ends with the same archive.

    Returns: the last figures, `history` of them, and how long training the model took.
    """
    started = time.monotonic()
    discovery_config = config.discovery
    work = begin_work(folder, {"stage": "elites arm", "config": plain(config)}, report.line)
    if work is None:
        report.line(f"elites: done, {folder}")
        return load_result(folder)
    report.plan(
        f"elites: {config.generations:,} generations of {config.batch_size} arms of "
        f"{config.joints} joints, {config.operator}{' with a bandit' if config.bandit else ''}",
        disk_bytes=8 * config.niches * config.joints + 2e6,
        folder=folder,
    )
    centroids = disc_centroids(config.niches)
    discovery = Discovery(config.joints, centroids, discovery_config, config.seed)
    arm = PlanarArm(config.joints)
    history = _resume(work, discovery)

    def save() -> None:
        tensors, facts = discovery.state_dict()
        tensors["centroids"] = torch.from_numpy(centroids)
        facts |= {"config": asdict(config), "history": history}
        save_checkpoint(work.partial / ARCHIVE, tensors, facts)

    first_seconds = history[-1]["seconds"] if history else 0.0
    with (
        tensorboard(work.partial / "events") as events,
        report.progress("elites", config.generations, discovery.search.generation) as meter,
        deferred_interrupt() as interrupted,
    ):
        saved_at = time.monotonic()
        while discovery.search.generation < config.generations:
            discovery.step(arm.evaluate)
            generation = discovery.search.generation
            if generation == config.generations or _is_point(generation, config.generations):
                stats = discovery.search.stats()
                seconds = first_seconds + time.monotonic() - started
                history.append(_entry(stats, seconds, discovery.training_seconds))
                tell_events(events, stats)
                meter.show({"coverage": stats.coverage, "fitness": stats.mean_fitness})
            meter.to(generation)
            if interrupted() or time.monotonic() - saved_at > CHECKPOINT_SECONDS:
                save()
                saved_at = time.monotonic()
            if interrupted():
                raise KeyboardInterrupt
    save()
    write_curve(work.partial / CURVE, history)
    draw_elites(
        work.partial / PICTURE,
        discovery.search.archive,
        history,
        fitness="fitness",
        measures=("end of the arm, x", "y"),
        qd_offset=discovery_config.elites.qd_offset,
        region=shapely.Point(0.5, 0.5).buffer(0.5),
    )
    result = {**history[-1], "qd_offset": discovery_config.elites.qd_offset, "history": history}
    return work.commit(result, time.monotonic() - started)


def load_result(folder: Path) -> dict[str, Any]:
    """The figures of a finished search."""
    result: dict[str, Any] = read_json(folder / "result.json")
    return result


def _is_point(generation: int, generations: int) -> bool:
    return generation % (1 if generations <= FINE_GENERATIONS else 10) == 0


def _entry(stats: EliteStats, seconds: float, training_seconds: float) -> dict[str, Any]:
    return {
        **asdict(stats),
        "seconds": round(seconds, 2),
        "training_seconds": round(training_seconds, 2),
    }


def _resume(work: StageFolder, discovery: Discovery) -> list[dict[str, Any]]:
    """Take up the search under way, if there is one; its curve so far."""
    path = work.partial / ARCHIVE
    if not path.exists():
        return []
    remedy = f"delete {work.partial} to start again"
    saved = load_checkpoint(path, remedy=remedy)
    with reading(path, remedy):
        discovery.load_state_dict(saved)
        history: list[dict[str, Any]] = saved.metadata["history"]
    return history
