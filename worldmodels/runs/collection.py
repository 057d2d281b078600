"""Summarize the episodes of a run in numbers, a picture and a manifest."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from worldmodels.data.episode import Episode
from worldmodels.errors import UserError
from worldmodels.plotting import save_grid
from worldmodels.runs.env_steps import env_steps
from worldmodels.runs.provenance import versions
from worldmodels.runs.run import Run

SHEET_ROWS, SHEET_COLUMNS = 8, 12


def is_summarized(run: Run) -> bool:
    """Return whether the stored summary is complete and describes the present episodes."""
    try:
        manifest = run.manifest("collect")
    except UserError:  # a damaged manifest is written anew
        return False
    if manifest is None or manifest.get("output") != run.store.digest:
        return False
    return manifest.get("stage") == "import" or all(
        (run.folder / "collect" / name).is_file() for name in ("result.json", "collect.png")
    )


def write_summary(
    run: Run, config: dict[str, Any], round_: int, result: dict[str, Any], seconds: float
) -> None:
    """Write the picture and `result` to the folder `collect`, and then write the manifest."""
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
    """Return one row of evenly spaced frames for each of the newest episodes."""
    rows = {}
    for episode in run.store.episodes[-SHEET_ROWS:]:
        frames = episode.load().frames
        picks = np.linspace(0, len(frames) - 1, SHEET_COLUMNS).astype(int)
        rows[f"{episode.index}: {episode.meta['episode_return']:.0f}"] = frames[picks]
    return rows


def figures(episodes: Sequence[Episode]) -> dict[str, Any]:
    """Return the numbers of episodes, env steps and bytes, and statistics of the returns.

    `terminated` is the number of episodes that the env terminated. All others were truncated.
    """
    returns = [episode.meta["episode_return"] for episode in episodes]
    return {
        "episodes": len(episodes),
        "held_out": sum(episode.held_out for episode in episodes),
        "terminated": sum(episode.meta["terminated"] for episode in episodes),
        "env_steps": sum(episode.num_steps for episode in episodes),
        "mean_return": float(np.mean(returns)),
        "best_return": float(np.max(returns)),
        "bytes": sum(episode.num_bytes for episode in episodes),
    }
