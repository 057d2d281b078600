"""Train V and M on frames of elites, of exploration or of random actions; evaluate on driving.

Elites are those of `wm elites drive --run RUN`, with RUN as in `--elites-run`. Every source plays
the same tracks for the same number of frames. For each source, V (lean, or with FSQ codes as in the
presets) and M are trained on its frames alone, for the same number of steps. They are evaluated on
frames and episodes of the scripted driver, on validation tracks, which select nothing. The
experiment draws docs/elites_frames.md and takes about a quarter of an hour on one core.
"""

import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch

from agents.collecting import play_episodes
from agents.rollout import Rollout
from agents.seeds import seeds
from scripts.experiments.driving import REPEAT, Encoded, trained_memory, trained_vision
from scripts.experiments.experiment import Context, Experiment, Result, Results
from scripts.experiments.markdown import write_page
from worldmodels.controller.policies import check_agents, player
from worldmodels.dream.model import DreamModel
from worldmodels.dream.open_loop import open_loop
from worldmodels.errors import UserError
from worldmodels.memory.metrics import score_memory
from worldmodels.presets import DEMO
from worldmodels.runs.json_files import read_json, write_json
from worldmodels.runs.provenance import file_digest
from worldmodels.runs.run import Run
from worldmodels.runs.run_settings import RunSettings
from worldmodels.vision.metrics import score_alike

LABELS = {"VAE": "VAE, lean", "FSQ": "FSQ"}
TABLE = {
    f"{source}-{kind.lower()}": (source, kind)
    for source in ("elites", "exploring", "random")
    for kind in LABELS
}
# Env steps since the dream began; the last two are agent steps 20 and 52.
SHOWN_STEPS = (20, 52, 80, 208)
# The presets' env steps per episode. Episodes are half as long here, so that every elite is
# played; M's batches are twice as large in return.
USUAL_STEPS = 1000
FIRST_TRACK = 100_000  # among the training seeds; no run with a small seed collects there
ERRORS = ("error", "foreground_error", "rare_error")
METRICS = (*ERRORS, "psnr", "codes_used", "perplexity", "mean_frame_error", "reward_r2")


@dataclass(frozen=True)
class EliteFrames(Experiment):
    """Compare sources of frames for two kinds of V.

    Attributes:
        elites_run: the run whose elites and whose env are played.
        frames: number of frames per source.
        max_steps: env steps per episode.
        drives: number of drives to evaluate on.
        steps: optimizer steps of V and of M; None takes the presets' numbers.
    """

    name = "elite-frames"
    table = TABLE
    elites_run: Path = Path("runs/cpu")
    frames: int = 24_000
    max_steps: int = 500
    drives: int = 16
    steps: int | None = None

    def run(self, name: str, spec: tuple[str, str], context: Context) -> Result:
        """Train one V and one M; return their figures on held-out driving."""
        source, kind = spec
        settings = RunSettings(Run(self.elites_run).settings.env_id, DEMO.name, seed=0)
        data = Run(context.runs / source / "data", settings)
        collected = self.collect_frames(source, data, context)
        vision = trained_vision(data, kind, self.steps, context)
        encoded = Encoded.by(vision, data, self.drives)
        driven = torch.from_numpy(np.concatenate(encoded.drive_frames))
        metrics = score_alike(vision, driven)
        config = DEMO.memory.with_steps(self.steps)
        batch_size = config.fit.batch_size * max(1, USUAL_STEPS // self.max_steps)
        config = replace(config, fit=replace(config.fit, batch_size=batch_size))
        memory, _, _ = trained_memory(vision, encoded, config)
        drives, frames = encoded.drives, encoded.drive_frames
        curves = open_loop(
            DreamModel(vision, memory), drives, frames, horizon=SHOWN_STEPS[-1] // REPEAT
        )
        metrics |= score_memory(vision, memory, encoded.train, drives)
        return {
            "source": source,
            "kind": kind,
            **collected,
            **{each: round(metrics[each], 4) for each in METRICS if each in metrics},
            "held_out_frames": len(driven),
            "steps_below_persistence": REPEAT * curves.steps_below_persistence,
            "open_loop": {
                part: [round(error, 2) for error in errors]
                for part, errors in asdict(curves).items()
            },
        }

    def collect_frames(self, source: str, data: Run, context: Context) -> Result:
        """Collect episodes of `frames` frames in all, one per agent step; return their figures.

        Raises: UserError where the run has no elites, or episodes have too few frames.
        """
        facts_file = data.folder / "collected.json"
        collected: Result | None = read_json(facts_file)
        if collected is not None:
            return collected
        run = Run(self.elites_run)
        check_agents(run, source)
        shutil.rmtree(data.folder, ignore_errors=True)
        data.create()
        factory, _ = player(run, source, None)
        tracks = seeds("training", 4 * self.frames * REPEAT // self.max_steps + 8, FIRST_TRACK)
        missing = self.frames
        returns: list[float] = []
        for rollout in play_episodes(
            run.settings.env, factory, tracks, workers=context.workers, max_steps=self.max_steps
        ):
            kept = first_steps(rollout, REPEAT * (missing - 1))
            data.store.add(len(returns), kept)
            returns.append(rollout.episode_return)
            missing -= kept.num_steps // REPEAT + 1
            if missing < 2:  # an episode has at least two frames
                break
        else:
            raise UserError(
                f"{source}: {len(tracks)} episodes have too few frames: {missing} are missing"
            )
        collected = {
            "frames": self.frames - missing,
            "episodes": len(returns),
            "mean_return": round(float(np.mean(returns)), 1),
            "max_steps": self.max_steps,
        }
        if source == "elites":
            collected["elites"] = file_digest(run.weights("elites"))
        write_json(facts_file, collected)
        return collected

    def draw(self, results: Results, docs: Path) -> None:
        """Write the page."""
        rows = [
            {**row, "label": label}
            for kind, label in LABELS.items()
            for row in results.values()
            if row["kind"] == kind
        ]
        write_page(docs / "elites_frames.md", table=rows, **rows[0])


def first_steps(rollout: Rollout, steps: int) -> Rollout:
    """Return the first env steps of an episode as an episode of its own."""
    if steps >= rollout.num_steps:
        return rollout
    parts = {name: getattr(rollout, name)[:steps] for name in ("actions", "rewards")}
    frames = rollout.frames[: steps + 1]
    return replace(rollout, frames=frames, **parts, terminated=False, truncated=True)
