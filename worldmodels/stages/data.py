"""Describe a run's episodes, export them as a Minari dataset, and import a Minari dataset."""

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from envs.config import EnvConfig
from worldmodels.data.durable import replacing
from worldmodels.data.minari_export import write_dataset
from worldmodels.data.minari_format import dataset_folder, env_of
from worldmodels.data.minari_import import Dataset, open_dataset
from worldmodels.data.store import EpisodeStore
from worldmodels.errors import UserError
from worldmodels.progress import Report
from worldmodels.runs.collection import figures
from worldmodels.runs.provenance import versions
from worldmodels.runs.run import Run
from worldmodels.runs.run_lock import write_lock
from worldmodels.runs.run_settings import RunSettings

NAMESPACE_FILE = "namespace_metadata.json"
# Bytes of a frame that `minari_export` compresses into HDF5; 1.9 kB were measured on CarRacing.
EXPORTED_BYTES_A_FRAME = 2_200
IMPORTED_BYTES_A_FRAME = 1_200


def data_info(run: Run, *, check: bool, report: Report) -> dict[str, Any]:
    """Return metrics of a run's episodes, and list the files that are not complete episodes.

    Args:
        check: whether to read every file completely. This also finds damage inside files.

    Raises: UserError if the run does not exist.
    """
    _ = run.settings  # raises the right error if there is no run
    run.store.refresh()
    contents = run.store.contents
    episodes = contents.episodes
    damaged = {damage.path.name: damage.reason for damage in contents.damaged}
    if check:
        for episode in report.track("check", episodes):
            damage = episode.damage(decompress=True)
            if damage is not None:
                damaged[damage.path.name] = damage.reason
    summary: dict[str, Any] = {"folder": str(run.store.folder), "episodes": len(episodes)}
    summary |= {"held_out": 0, "rounds": 0, "env_steps": 0}
    if episodes:
        num_frames = sum(episode.num_frames() for episode in episodes)
        raw = sum(episode.num_frames() * math.prod(episode.frame_shape) for episode in episodes)
        summary |= figures(episodes)
        summary |= {
            "worst_return": min(float(episode.meta["episode_return"]) for episode in episodes),
            "rounds": max(episode.round for episode in episodes),
            "compression_ratio": raw / summary["bytes"],
            "bytes_per_frame": summary["bytes"] / num_frames,
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
    """Write all episodes of the run as a new Minari dataset, completely or not at all.

    Args:
        name: name of the dataset, such as `namespace/name-v0`.
        root: folder of the Minari datasets; None stands for Minari's own folder.

    Raises: UserError if the run has no episodes, if episodes are damaged, or if the dataset exists.
    """
    settings = run.settings
    run.store.refresh()
    episodes = run.store.episodes
    if not episodes:
        raise UserError(f'no episodes in {run.store.folder}: run "wm collect --run {run}" first')
    folder = dataset_folder(name, root)
    if folder.exists():
        raise UserError(f"{folder} exists already: choose another --dataset, or delete the folder")
    steps = sum(episode.num_steps for episode in episodes)
    report.estimate(
        f"export: {len(episodes):,} episodes, {steps:,} steps, to {folder}",
        disk_bytes=steps * EXPORTED_BYTES_A_FRAME,
        folder=folder,
    )
    names = ("env_id", "env_kwargs", "observation_key", "preset", "seed")
    metadata = {each: getattr(settings, each) for each in names}
    with replacing(folder) as partial:
        with report.progress("export", total=len(episodes)) as meter:
            write_dataset(partial, name, episodes, metadata, meter.advance)
        for parent in list(folder.parents)[: name.count("/")]:
            namespace = parent / NAMESPACE_FILE  # so that Minari lists the datasets below
            if not namespace.exists():
                namespace.write_text("{}")
    written = sum(path.stat().st_size for path in folder.rglob("*"))
    return {"dataset": name, "folder": str(folder), "episodes": len(episodes), "bytes": written}


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
    """Create a run from a Minari dataset on this machine, completely or not at all.

    A dataset that was exported from a run also holds the env, the seed and the preset of that run.
    The new run gets these settings. The arguments `preset` and `env` override the preset and the
    env of the dataset.

    Args:
        check_preset: function that takes the name of a preset and raises UserError if there is no
            such preset.

    Raises: UserError if the run exists already, if the dataset is damaged, if the dataset has no
        pictures or no name of an env, or if the actions do not fit the env.
    """
    with write_lock(run_folder):
        dataset = open_dataset(name, root, env)
        if dataset.unavailable_reason is not None:
            report.log(dataset.unavailable_reason)
        chosen = preset or dataset.metadata.get("preset", "cpu")
        check_preset(chosen)
        new = RunSettings.of(env_of(dataset.metadata), chosen, dataset.metadata.get("seed", 0))
        run = Run(run_folder, new=new)
        if run.store.folder.exists() or run.settings != new:
            raise UserError(f"{run} is a run already: name another folder with --run")
        _import_episodes(dataset, run, report)
        run.store.refresh()
        return {
            "run": str(run),
            "env": str(new.env),
            "preset": chosen,
            "episodes": len(run.store),
            "env_steps": sum(episode.num_steps for episode in run.store),
        }


def _import_episodes(dataset: Dataset, run: Run, report: Report) -> None:
    """Store the episodes of the dataset and create the run; the folder of episodes appears last."""
    total, steps = len(dataset.data), int(dataset.data.total_steps)
    report.estimate(
        f"import: {total:,} episodes, {steps:,} steps, into {run}",
        disk_bytes=steps * IMPORTED_BYTES_A_FRAME,
        folder=run.folder,
    )
    started = time.monotonic()
    with replacing(run.store.folder) as partial:
        store = EpisodeStore(partial)
        with report.progress("import", total=total) as meter:
            for index, episode in meter.counted(dataset.episodes()):
                store.put(index, episode)
        if not store.contents.episodes:
            raise UserError(f"the dataset {dataset.name} holds no episodes")
        run.create()
        manifest = {
            "stage": "import",
            "dataset": dataset.name,
            "output": store.digest,
            "seconds": round(time.monotonic() - started, 2),
            "versions": versions(),
        }
        run.write_json("collect/manifest.json", manifest)
