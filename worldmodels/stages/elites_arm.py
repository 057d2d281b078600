"""Run MAP-Elites on the planar arm, with or without an autoencoder of the elites."""

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import shapely
import torch

from agents.elites import disc_centroids
from envs.arm import PlanarArm
from worldmodels.map_elites.arm import ARCHIVE, ArmConfig
from worldmodels.map_elites.log import log_events, write_figures
from worldmodels.map_elites.search import RepresentationSearch
from worldmodels.progress import Report, tensorboard
from worldmodels.runs.checkpoint import save_checkpoint
from worldmodels.runs.json_files import read_json
from worldmodels.runs.provenance import plain
from worldmodels.runs.stage_folder import RESULT, begin_work
from worldmodels.training.deferred_interrupt import deferred_interrupt

CHECKPOINT_SECONDS = 20.0
# A search of at most this many generations records every generation, and a longer search records
# every tenth generation.
FINE_GENERATIONS = 500


# Long function: it holds all steps of the stage in order, around one loop.
def search_arm(folder: Path, config: ArmConfig, report: Report) -> dict[str, Any]:
    """Fill an archive, and write the archive, curves and a picture to `folder`.

    If a call is killed, the next call with the same arguments continues from the last checkpoint.
    The archive is then equal to the archive of an uninterrupted call.

    Returns: a dict with the metrics of the last generation and, as `history`, the metrics of all
        recorded generations. `training_seconds` is the duration of the autoencoder's training.
    """
    started = time.monotonic()
    search_config = config.representation_search
    work = begin_work(folder, {"stage": "elites arm", "config": plain(config)}, report.log)
    if work is None:
        return read_json(folder / RESULT) or {}
    report.estimate(
        f"elites: {config.generations:,} generations of {config.batch_size} arms of "
        f"{config.joints} joints, {config.operator}{' with a bandit' if config.bandit else ''}",
        disk_bytes=8 * config.num_cells * config.joints + 2e6,
        folder=folder,
    )
    centroids = disc_centroids(config.num_cells)
    search = RepresentationSearch(config.joints, centroids, search_config, config.seed)
    arm = PlanarArm(config.joints)
    history = search.resume(work.partial / ARCHIVE)

    def save() -> None:
        tensors, metadata = search.state_dict()
        tensors["centroids"] = torch.from_numpy(centroids)
        metadata |= {"config": asdict(config), "history": history}
        save_checkpoint(work.partial / ARCHIVE, tensors, metadata)

    first_seconds = history[-1]["seconds"] if history else 0.0
    every = 1 if config.generations <= FINE_GENERATIONS else 10
    with (
        tensorboard(work.partial / "events") as events,
        report.progress("elites", config.generations, search.search.generation) as meter,
        deferred_interrupt() as interrupted,
    ):
        saved_at = time.monotonic()
        while search.search.generation < config.generations:
            search.step(arm.evaluate)
            generation = search.search.generation
            if generation == config.generations or generation % every == 0:
                stats = search.search.stats()
                seconds = {
                    "seconds": round(first_seconds + time.monotonic() - started, 2),
                    "training_seconds": round(search.training_seconds, 2),
                }
                history.append({**asdict(stats), **seconds})
                log_events(events, stats)
                meter.show({"coverage": stats.coverage, "fitness": stats.mean_fitness})
            meter.to(generation)
            if interrupted() or time.monotonic() - saved_at > CHECKPOINT_SECONDS:
                save()
                saved_at = time.monotonic()
            if interrupted():
                raise KeyboardInterrupt
    save()
    offset = {"qd_score_offset": search_config.elites.qd_score_offset}
    write_figures(
        work.partial,
        search.search.archive,
        history,
        fitness="fitness",
        measures=("end of the arm, x", "y"),
        **offset,
        region=shapely.Point(0.5, 0.5).buffer(0.5),
    )
    result = {**history[-1], **offset, "history": history}
    return work.commit(result, time.monotonic() - started)
