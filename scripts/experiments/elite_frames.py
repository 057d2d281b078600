"""V and M trained on frames of elites, of exploration, or of random play; all judged on driving.

    python scripts/experiments/elite_frames.py --run runs/cpu

Elites are those of `wm elites drive --run runs/cpu`. Every source plays the same tracks for equally
many frames; then V, lean or with FSQ codes as in the presets, and M are trained on those alone, for
equally many steps. Judged on frames and episodes of the scripted driver, on validation tracks, by
which nothing is chosen. A row is written as soon as it is there, and rows that are there are not
made again. One process; about a quarter of an hour on one core.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch

from agents.collecting import play_episodes
from agents.rollout import Rollout
from agents.seeds import seeds
from agents.workers import Workers
from envs.tasks import DEFAULT_ENV_ID, task_for
from scripts.experiments.memory import ENCODED, LEAN, Encoded, load_vision, prepare
from worldmodels.controller.policies import POLICIES, check_agents, player
from worldmodels.dream.open_loop import open_loop
from worldmodels.memory import Memory
from worldmodels.memory.metrics import held_out_metrics, score_memory
from worldmodels.memory.training import SequenceBatches, new_memory
from worldmodels.presets import DEMO
from worldmodels.runs.provenance import file_digest, versions
from worldmodels.runs.run import Run
from worldmodels.runs.run_settings import RunSettings
from worldmodels.training.fit import fit
from worldmodels.vision import Vision
from worldmodels.vision.metrics import score_alike

SOURCES = ("elites", "exploring", "random")
KINDS = {"VAE": "VAE, lean", "FSQ": "FSQ"}
SHOWN_STEPS = (
    20,
    52,
    80,
    208,
)  # env steps since the dream began; the last two are agent step 20, 52
# Of all presets; halved here, so that all elites get their turn. M's batches are doubled for it.
USUAL_STEPS = 1000
REPEAT = task_for(DEFAULT_ENV_ID).action_repeat
FIRST_TRACK = 100_000  # of the training tracks; no run of a small seed collects there


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", type=Path, required=True, help="with elites")
    parser.add_argument("--frames", type=int, default=24_000, help="a source (24,000)")
    parser.add_argument("--max-steps", type=int, default=500, help="env steps per episode (500)")
    parser.add_argument("--drives", type=int, default=16, help="to judge by (16)")
    parser.add_argument("--steps", type=int, help="optimizer steps, of V and of M (1,200)")
    parser.add_argument("--sources", nargs="+", default=list(SOURCES), choices=POLICIES)
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--json", type=Path, default=Path("docs/results/elites/frames.json"))
    parser.add_argument("--table", type=Path, default=Path("docs/elites_frames.md"))
    arguments = parser.parse_args()
    run = Run(arguments.run)
    for source in arguments.sources:
        check_agents(run, source)
    names = ("frames", "max_steps", "drives", "steps")
    settings = {name: getattr(arguments, name) for name in names}
    settings["elites"] = file_digest(run.weights("elites"))
    result = read(arguments.json, settings)
    for source in arguments.sources:
        missing = [kind for kind in arguments.kinds if f"{source}/{kind}" not in result["rows"]]
        if not missing:
            continue
        with tempfile.TemporaryDirectory() as folder:
            data = Path(folder) / "data"
            summary = collect_frames(run, source, data, arguments.frames, arguments.max_steps)
            for kind in missing:
                started = time.monotonic()
                prepare(data, arguments.steps, arguments.drives, kind)
                row = evaluate_frames(data.parent / kind, arguments.steps, arguments.max_steps)
                seconds = round(time.monotonic() - started, 1)
                name = f"{source}/{kind}"
                result["rows"][name] = {"source": source, "kind": kind, **summary, **row}
                result["rows"][name]["seconds"] = seconds
                write(arguments.json, result)
                print(f"{name}: error {row['error']:.1f}, {seconds:.0f} s", flush=True)
    text = table(result)
    arguments.table.parent.mkdir(parents=True, exist_ok=True)
    arguments.table.write_text(text)
    print(text)


def read(path: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """What was measured before with these settings."""
    if not path.exists():
        command = " ".join(["python", *sys.argv])
        return {"command": command, "settings": settings, "versions": versions(), "rows": {}}
    result: dict[str, Any] = json.loads(path.read_text())
    if result["settings"] != settings:
        sys.exit(f"{path} has rows of other settings, {result['settings']}: name another --json")
    return result


def write(path: Path, result: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(json.dumps(result, indent=1) + "\n")
    os.replace(partial, path)


def collect_frames(
    run: Run, source: str, folder: Path, num_frames: int, max_steps: int
) -> dict[str, Any]:
    """A run whose episodes have just so many frames, one per agent step; what there is to tell."""
    collected = Run(folder, RunSettings(run.settings.env_id, DEMO.name, seed=0))
    collected.create()
    factory, _ = player(run, source, None)
    tracks = seeds("training", 4 * num_frames * REPEAT // max_steps + 8, FIRST_TRACK)
    left = num_frames
    returns: list[float] = []
    with Workers(1) as workers:
        for rollout in play_episodes(
            run.settings.env, factory, tracks, workers=workers, max_steps=max_steps
        ):
            kept = first_steps(rollout, REPEAT * (left - 1))
            collected.store.add(len(returns), kept)
            returns.append(rollout.episode_return)
            left -= kept.num_steps // REPEAT + 1
            if left < 2:  # an episode has two frames at least
                break
        else:
            sys.exit(f"{source}: {len(tracks)} episodes have too few frames, {left} are missing")
    return {
        "frames": num_frames - left,
        "episodes": len(returns),
        "mean_return": round(float(np.mean(returns)), 1),
    }


def first_steps(rollout: Rollout, steps: int) -> Rollout:
    """The beginning of an episode."""
    if steps >= rollout.num_steps:
        return rollout
    return replace(
        rollout,
        frames=rollout.frames[: steps + 1],
        actions=rollout.actions[:steps],
        rewards=rollout.rewards[:steps],
        terminated=False,
        truncated=True,
    )


def evaluate_frames(folder: Path, steps: int | None, max_steps: int) -> dict[str, Any]:
    """Figures of the V in this folder, and of an M trained over it, on held-out driving."""
    vision = load_vision(Run(folder))
    encoded = Encoded.load(folder / ENCODED)
    driven = torch.from_numpy(np.concatenate(encoded.drive_frames))
    seen = score_alike(vision, driven)
    memory = train_memory(vision, encoded, steps, max_steps)
    curves = open_loop(
        vision,
        memory,
        encoded.drives,
        encoded.drive_frames,
        horizon=SHOWN_STEPS[-1] // REPEAT,
    )
    wanted = ("error", "foreground_error", "rare_error", "psnr", "codes_used", "perplexity")
    scores = score_memory(vision, memory, encoded.train, encoded.drives)
    return {
        **{name: round(seen[name], 4) for name in wanted if name in seen},
        "mean_frame_error": round(seen["mean_frame_error"], 4),
        "reward_r2": round(scores["reward_r2"], 4),
        "held_out_frames": len(driven),
        "steps_below_persistence": REPEAT * curves.steps_below_persistence,
        "open_loop": {
            name: [round(error, 2) for error in errors] for name, errors in asdict(curves).items()
        },
    }


def train_memory(vision: Vision, encoded: Encoded, steps: int | None, max_steps: int) -> Memory:
    """An M from random weights, as the presets have it."""
    config = LEAN.with_steps(steps)
    batch_size = config.fit.batch_size * max(1, USUAL_STEPS // max_steps)
    torch.manual_seed(1)
    memory = new_memory(config, vision, encoded.train.actions.shape[-1])
    memory.calibrate(encoded.train)
    with tempfile.TemporaryDirectory() as folder:
        fit(
            memory,
            SequenceBatches(encoded.train, batch_size, config.sequence_length, config.burn_in),
            lambda: held_out_metrics(memory, encoded.validation),
            replace(config.fit, batch_size=batch_size),
            seed=0,
            folder=Path(folder),
            checkpoint_seconds=1e9,
        )
    return memory.eval()


def table(result: dict[str, Any]) -> str:
    """The rows in Markdown."""
    columns = ["V", "trained on frames of", "error", "foreground", "rare", "reward R2"]
    columns += [f"dream / frozen at {step}" for step in SHOWN_STEPS]
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    rows = result["rows"].values()
    for kind, label in KINDS.items():
        for row in (row for row in rows if row["kind"] == kind):
            loop = row["open_loop"]
            places = [step // REPEAT - 1 for step in SHOWN_STEPS]
            errors = [f"{loop['predicted'][p]:.0f} / {loop['persistence'][p]:.0f}" for p in places]
            figures = [f"{row[name]:.1f}" for name in ("error", "foreground_error", "rare_error")]
            cells = [label, row["source"], *figures, f"{row['reward_r2']:.2f}", *errors]
            lines.append("| " + " | ".join(cells) + " |")
    frames = next(iter(rows), {"frames": 0, "held_out_frames": 0})
    caption = (
        f"Squared error summed over a frame, on {frames['held_out_frames']:,} frames of the "
        f"scripted driver; V and M trained on {frames['frames']:,} frames of each source. Dreams "
        "under real actions beside the frozen frame, by env steps since they began.\n\n"
    )
    return caption + "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
