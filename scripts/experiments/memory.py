"""Compare kinds of M and two baselines by nats on held-out episodes and by open-loop dreams.

Every M is trained on the same episodes, which are on training tracks. Some of these episodes are of
the exploring policy, and the others are of the scripted driver with noise and at different speeds.
Every M is evaluated on episodes of the scripted driver without noise, on validation tracks. The
evaluation episodes are not used for any selection. No agent is trained on episodes of the scripted
driver, because the driver reads the track. The experiment writes docs/memory.md, and draws the
open-loop curves and pictures of dreams. The experiment takes about 20 minutes on one core.
"""

from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np

from agents.scripted_episodes import drive
from agents.seeds import seeds
from envs.tasks import DEFAULT_ENV_ID
from scripts.experiments.driving import REPEAT, encoded_data, trained_memory, trained_vision
from scripts.experiments.experiment import Context, Experiment, Result, Results
from scripts.experiments.markdown import write_page
from worldmodels.dream.model import DreamModel
from worldmodels.dream.open_loop import OpenLoop
from worldmodels.dream.pictures import most_active_episode
from worldmodels.memory.metrics import held_out_metrics
from worldmodels.memory.training import MemoryStageConfig
from worldmodels.presets import DEMO
from worldmodels.runs.run import Run
from worldmodels.runs.run_settings import RunSettings
from worldmodels.stages.collect import collect
from worldmodels.stages.evaluate_memory import (
    EvaluateMemoryConfig,
    draw_dreams,
    draw_open_loop,
    memory_figures,
    train_memoryless,
)

LEAN = DEMO.memory
FIVE = replace(LEAN, model=replace(LEAN.model, num_mixtures=5))
PAPER = replace(FIVE, model=replace(FIVE.model, num_hidden=256, predict_change=False))
CURVES = [field.name for field in fields(OpenLoop)]
INDEPENDENT = replace(LEAN, model=replace(LEAN.model, autoregressive=False))


@dataclass(frozen=True)
class Kind:
    """A kind of M, and the kind of V whose latents M predicts.

    Attributes:
        drawn: name of the picture of M's dreams; empty if there is no such picture.
    """

    label: str
    vision: str
    config: MemoryStageConfig
    drawn: str = ""


KINDS = {
    "mdnrnn-paper": Kind("MDN-RNN, paper's size", "VAE", PAPER),
    "mdnrnn": Kind("MDN-RNN, lean", "VAE", LEAN),
    "mdnrnn-5-gaussians": Kind("MDN-RNN, lean, 5 Gaussians", "VAE", FIVE, "continuous"),
    "mdnrnn-ensemble": Kind("MDN-RNN, lean, ensemble of 3", "VAE", replace(LEAN, ensemble_size=3)),
    "fsq": Kind("FSQ, lean", "FSQ", LEAN, "codes"),
    "fsq-5-components": Kind("FSQ, lean, 5 components", "FSQ", FIVE),
    "fsq-independent": Kind("FSQ, lean, independent codes", "FSQ", INDEPENDENT),
    "vq": Kind("VQ K = 256, lean", "VQ", LEAN),
}


@dataclass(frozen=True)
class MemoryKinds(Experiment):
    """Compare kinds of M over three kinds of V.

    Attributes:
        episodes: number of training episodes of the exploring policy.
        noisy: number of training episodes of the scripted driver with noise.
        drives: number of drives on which M is evaluated.
        steps: number of optimizer steps of V and of M; None means the number in the preset.
    """

    name = "memory"
    table = KINDS
    episodes: int = 96
    noisy: int = 48
    drives: int = 16
    steps: int | None = None

    def run(self, name: str, spec: Kind, context: Context) -> Result:
        """Train one M, and the same network without recurrence; return the metrics of both."""
        data = self.data(context)
        vision = trained_vision(data, spec.vision, self.steps, context)
        train, validation, drives, frames = encoded_data(vision, data, self.drives)
        config = spec.config.with_steps(self.steps)
        memory, steps, seconds = trained_memory(vision, train, validation, config)
        memoryless = train_memoryless(
            config, vision, train, validation, seed=0, report=context.report
        )
        dream = DreamModel(vision, memory)
        figures, _ = memory_figures(
            dream, memoryless, train, drives, frames, EvaluateMemoryConfig(steps=100), REPEAT
        )
        if spec.drawn:
            path = context.docs / f"dreams_{spec.drawn}.png"
            draw_dreams(path, dream, drives, frames, most_active_episode(drives), REPEAT)
        return {
            "label": spec.label,
            "episodes": self.episodes + self.noisy,
            "drives": self.drives,
            "parameters": sum(p.numel() for p in memory.parameters()),
            "optimizer_steps": steps,
            "training_seconds": round(seconds, 1),
            "exploring_nll": held_out_metrics(memory, validation)["nll"],
            **figures,
        }

    def data(self, context: Context) -> Run:
        """Make a run that holds the training episodes and nothing else."""
        run = Run(context.runs / "data", RunSettings(DEFAULT_ENV_ID, DEMO.name, seed=0))
        config = DEMO.collect.limited(self.episodes, None)
        if len(run.store) < self.episodes:
            run.create()
            collect(run, config, workers=context.workers, report=context.report)
        random, present = np.random.default_rng(0), len(run.store)
        for index, seed in enumerate(seeds("training", self.noisy), start=self.episodes):
            noise, top_speed = random.choice((0.1, 0.3, 0.6)), random.uniform(40.0, 90.0)
            if index >= present:
                rollout = drive(seed, action_repeat=REPEAT, noise=noise, top_speed=top_speed)
                run.store.add(index, rollout)
        run.store.refresh()
        return run

    def draw(self, results: Results, docs: Path) -> None:
        """Write the page, and plot the open-loop errors of those M whose dreams are drawn."""
        curves = {
            KINDS[name].drawn: OpenLoop(**{curve: row["open_loop"][curve] for curve in CURVES})
            for name, row in results.items()
            if KINDS[name].drawn
        }
        if curves:
            draw_open_loop(docs / "open_loop.png", curves, REPEAT)
        write_page(docs / "memory.md", table=list(results.values()))
