"""What a collection leaves beside its episodes: figures, a picture and a manifest."""

from typing import Any

import numpy as np

from worldmodels.errors import UserError
from worldmodels.plotting import save_grid
from worldmodels.runs.env_steps import env_steps
from worldmodels.runs.provenance import versions
from worldmodels.runs.run import Run

SHEET_ROWS, SHEET_COLUMNS = 8, 12


def is_summarized(run: Run) -> bool:
    """Whether the manifest, and what was written before it, is of these episodes."""
    try:
        manifest = run.manifest("collect")
    except UserError:  # damaged: it is written anew
        return False
    if manifest is None or manifest.get("output") != run.store.digest:
        return False
    files = [run.folder / "collect" / name for name in ("result.json", "collect.png")]
    return manifest.get("stage") == "import" or all(file.is_file() for file in files)


def write_summary(
    run: Run, config: dict[str, Any], round_: int, result: dict[str, Any], seconds: float
) -> None:
    """Write the picture, the figures and, last, the manifest."""
    save_grid(run.folder / "collect" / "collect.png", _contact_sheet(run))
    run.write_json("collect/result.json", result)
    manifest = {
        "stage": "collect",
        "round": round_,
        "config": config,
        "seed": run.settings.seed,
        "output": run.store.digest,
        "seconds": round(seconds, 2),
        "versions": versions(),
        "env_steps": {"collected": env_steps(run)["collected"]},
    }
    run.write_json("collect/manifest.json", manifest)


def _contact_sheet(run: Run) -> dict[str, np.ndarray]:
    """Frames of the newest episodes: a row each, evenly spread over its steps."""
    rows = {}
    for episode in run.store.episodes[-SHEET_ROWS:]:
        frames = episode.load().frames
        picks = np.linspace(0, len(frames) - 1, SHEET_COLUMNS).astype(int)
        rows[f"{episode.index}: {episode.meta['episode_return']:.0f}"] = frames[picks]
    return rows


def summary(run: Run) -> dict[str, Any]:
    """Figures of all episodes of a run."""
    run.store.refresh()
    episodes = list(run.store)
    returns = [episode.meta["episode_return"] for episode in episodes]
    return {
        "episodes": len(episodes),
        "held_out": len(run.store.split(held_out=True)),
        "env_steps": sum(episode.num_steps for episode in episodes),
        "mean_return": float(np.mean(returns)),
        "best_return": float(np.max(returns)),
        "bytes": sum(episode.num_bytes for episode in episodes),
    }
