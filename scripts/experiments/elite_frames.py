"""Compare three sources of training frames for V and M: elites, exploration and random actions.

The elites are agents that `wm elites drive --run RUN` found, where RUN is the value of
`--elites-run`. All three sources play the tracks in the same order, and give the same number of
frames. For each source, the experiment trains four models on the frames of that source alone: a
lean VAE, a V with FSQ codes as in the presets, and an M for each of the two. The number of
optimizer steps is the same for all sources. Every V and every M is evaluated on episodes of the
scripted driver on validation tracks. These episodes are not used for any selection. The experiment
writes docs/elites_frames.md and takes about a quarter of an hour on one core.
"""

import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch

from agents.collecting import play_episodes
from agents.rollout import Rollout
from agents.seeds import seeds
from scripts.experiments.driving import REPEAT, encoded_data, trained_memory, trained_vision
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
    """Compare three sources of training frames, for two kinds of V.

    Attributes:
        elites_run: the run whose elites play. All sources of frames play in the env of that run.
        frames: number of frames per source.
        max_steps: env steps per episode.
        drives: number of drives on which V and M are evaluated.
        steps: number of optimizer steps of V and of M; None means the number in the preset.
    """

    name = "elite-frames"
    table = TABLE
    elites_run: Path = Path("runs/cpu")
    frames: int = 24_000
    max_steps: int = 500
    drives: int = 16
    steps: int | None = None

    def run(self, name: str, spec: tuple[str, str], context: Context) -> Result:
        """Train one V and one M; return their metrics on held-out driving."""
        source, kind = spec
        settings = RunSettings(Run(self.elites_run).settings.env_id, DEMO.name, seed=0)
        data = Run(context.runs / source / "data", settings)
        collected = self.collect_frames(source, data, context)
        vision = trained_vision(data, kind, self.steps, context)
        train, validation, drives, frames = encoded_data(vision, data, self.drives)
        driven = torch.from_numpy(np.concatenate(frames))
        metrics = score_alike(vision, driven)
        config = DEMO.memory.with_steps(self.steps)
        batch_size = config.fit.batch_size * max(1, USUAL_STEPS // self.max_steps)
        config = replace(config, fit=replace(config.fit, batch_size=batch_size))
        memory, _, _ = trained_memory(vision, train, validation, config)
        horizon = SHOWN_STEPS[-1] // REPEAT
        curves = open_loop(DreamModel(vision, memory), drives, frames, horizon=horizon)
        metrics |= score_memory(vision, memory, train, drives)
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
        """Collect episodes until there are `frames` frames; return metrics of the episodes.

        Only one frame per agent step is counted.

        Raises: UserError if the run has no elites, or if all episodes together have too few frames.
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
                f"{len(tracks)} episodes of {source} have too few frames: {missing} more are needed"
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
        ordered = sorted(results.values(), key=lambda row: list(LABELS).index(row["kind"]))
        rows = [{**row, "label": LABELS[row["kind"]]} for row in ordered]
        write_page(docs / "elites_frames.md", table=rows, **rows[0])


def first_steps(rollout: Rollout, steps: int) -> Rollout:
    """Return an episode that consists of the first `steps` env steps of `rollout`."""
    if steps >= rollout.num_steps:
        return rollout
    parts = {name: getattr(rollout, name)[:steps] for name in ("actions", "rewards")}
    frames = rollout.frames[: steps + 1]
    return replace(rollout, frames=frames, **parts, terminated=False, truncated=True)
