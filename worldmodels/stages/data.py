"""Data: what a run's episodes amount to, and their way to and from Minari."""

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from envs.config import EnvConfig
from worldmodels.data.durable import sync, sync_tree
from worldmodels.data.minari_export import write_dataset
from worldmodels.data.minari_format import dataset_folder
from worldmodels.data.minari_import import open_dataset
from worldmodels.data.store import EpisodeStore
from worldmodels.errors import UserError
from worldmodels.progress import Report
from worldmodels.runs.provenance import versions
from worldmodels.runs.run import Run
from worldmodels.runs.run_lock import write_lock
from worldmodels.runs.run_settings import RunSettings

NAMESPACE_FILE = "namespace_metadata.json"
# A frame in HDF5, as `minari_export` compresses it: measured 1.9 kB on driven CarRacing.
EXPORTED_BYTES_A_FRAME = 2_200
IMPORTED_BYTES_A_FRAME = 1_200


def data_info(run: Run, *, check: bool, report: Report) -> dict[str, Any]:
    """Episodes, steps, returns, bytes, and every file that is not a whole episode.

    Args:
        check: read all of every file; otherwise damage within one may go unnoticed.

    Raises: UserError where there is no run.
    """
    run.settings  # noqa: B018 (says so where there is no run)
    run.store.refresh()
    contents = run.store.contents
    episodes = contents.episodes
    damaged = {damage.path.name: damage.reason for damage in contents.damaged}
    if check:
        with report.progress("check", total=len(episodes)) as meter:
            for episode in episodes:
                damage = episode.damage()
                if damage is None:
                    try:
                        episode.load()
                    except UserError as error:
                        damaged[episode.path.name] = str(error.__cause__ or error)
                else:
                    damaged[episode.path.name] = damage.reason
                meter.advance()
    summary: dict[str, Any] = {
        "folder": str(run.store.folder),
        "episodes": len(episodes),
        "held_out": sum(episode.held_out for episode in episodes),
        "rounds": max((episode.round for episode in episodes), default=0),
        "env_steps": sum(episode.num_steps for episode in episodes),
    }
    if episodes:
        returns = [episode.meta["episode_return"] for episode in episodes]
        num_frames = sum(episode.num_frames() for episode in episodes)
        raw = sum(episode.num_frames() * int(np.prod(episode.frame_shape)) for episode in episodes)
        num_bytes = sum(episode.num_bytes for episode in episodes)
        summary |= {
            "mean_return": float(np.mean(returns)),
            "worst_return": float(np.min(returns)),
            "best_return": float(np.max(returns)),
            "bytes": num_bytes,
            "compression_ratio": raw / num_bytes,
            "bytes_per_frame": num_bytes / num_frames,
        }
    return {
        **summary,
        "damaged": damaged or "none",
        "inconsistent": {path.name: what for path, what in contents.inconsistent.items()} or "none",
        "foreign": {path.name: "not an episode, ignored" for path in contents.foreign} or "none",
        "quarantined": len(contents.quarantined),
        "left_by_killed_writers": len(contents.partial),
    }


def export_data(run: Run, name: str, root: Path | None, *, report: Report) -> dict[str, Any]:
    """Write all episodes of the run as a new Minari dataset; whole or not at all.

    Args:
        name: of the dataset, `namespace/name-v0`.
        root: the folder of datasets; None is Minari's own.

    Raises: UserError for a run without episodes, damaged ones, or a dataset that is there.
    """
    settings = run.settings
    run.store.refresh()
    episodes = run.store.episodes
    if not episodes:
        raise UserError(f'no episodes in {run.store.folder}: run "wm collect --run {run}" first')
    folder = dataset_folder(name, root)
    if folder.exists():
        raise UserError(f"{folder} is there already: choose another --dataset, or delete it")
    steps = sum(episode.num_steps for episode in episodes)
    report.estimate(
        f"export: {len(episodes):,} episodes, {steps:,} steps, to {folder}",
        disk_bytes=steps * EXPORTED_BYTES_A_FRAME,
        folder=folder,
    )
    summary = {
        "env_id": settings.env_id,
        "env_kwargs": settings.env.kwargs,
        "observation_key": settings.observation_key,
        "preset": settings.preset,
        "seed": settings.seed,
    }
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with report.progress("export", total=len(episodes)) as meter:
            write_dataset(partial, name, episodes, summary, meter.advance)
        for parent in list(folder.parents)[: name.count("/")]:
            namespace = parent / NAMESPACE_FILE  # so that Minari lists what is below
            if not namespace.exists():
                namespace.write_text("{}")
        sync_tree(partial)
        os.replace(partial, folder)
        sync(folder.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    written = sum(path.stat().st_size for path in folder.rglob("*"))
    return {"dataset": name, "folder": str(folder), "episodes": len(episodes), "bytes": written}


# Long: it makes a run whole or not at all, so that its steps stand in one try block.
def import_data(
    run_folder: Path,
    name: str,
    root: Path | None,
    *,
    preset: str | None,
    check_preset: Callable[[str], object],
    env: EnvConfig | None = None,
    report: Report,
) -> dict[str, Any]:
    """Make a run of a Minari dataset on this machine; whole or not at all.

    A dataset that came from a run brings back its env, seed and preset; `preset` and `env`
    replace those.

    Args:
        check_preset: raises UserError for the name of a preset that does not exist.

    Raises: UserError for a run that is there, or a dataset that is damaged, without pixels, with
        actions that are not its env's, or without an env.
    """
    with write_lock(run_folder):
        dataset = open_dataset(name, root, env)
        summary = dataset.metadata
        if dataset.unavailable_reason is not None:
            report.log(dataset.unavailable_reason)
        chosen = preset or summary.get("preset", "cpu")
        check_preset(chosen)
        new = RunSettings.of(dataset.env, chosen, summary.get("seed", 0))
        run = Run(run_folder, new=new)
        if run.store.folder.exists() or run.settings != new:
            raise UserError(f"{run} is a run already: name another folder with --run")
        report.estimate(
            f"import: {dataset.num_episodes:,} episodes, {dataset.num_steps:,} steps, into {run}",
            disk_bytes=dataset.num_steps * IMPORTED_BYTES_A_FRAME,
            folder=run_folder,
        )
        started = time.monotonic()
        partial = EpisodeStore(run_folder / ".episodes.partial")
        shutil.rmtree(partial.folder, ignore_errors=True)
        try:
            with report.progress("import", total=dataset.num_episodes) as meter:
                for index, episode in dataset.episodes():
                    partial.put(index, episode)
                    meter.advance()
            if not partial.contents.episodes:
                raise UserError(f"{name} holds no episodes")
            run.create()
            manifest = {
                "stage": "import",
                "dataset": name,
                "output": partial.digest,
                "seconds": round(time.monotonic() - started, 2),
                "versions": versions(),
            }
            run.write_json("collect/manifest.json", manifest)
            os.replace(partial.folder, run.store.folder)
            sync(run_folder)
        finally:
            shutil.rmtree(partial.folder, ignore_errors=True)
        run.store.refresh()
        return {
            "run": str(run),
            "env": str(dataset.env),
            "preset": chosen,
            "episodes": len(run.store),
            "env_steps": sum(episode.num_steps for episode in run.store),
        }
