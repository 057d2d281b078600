"""What a quantized V brings: whole runs of three kinds of V over three seeds, measured alike.

Draws docs/results.md. A run takes 19 to 44 minutes of one core, and one that was stopped resumes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from envs.tasks import DEFAULT_ENV_ID
from scripts.experiments.experiment import Context, Experiment, Result, Results
from scripts.experiments.quantized.kinds import KINDS, RUNS, RunSpec
from scripts.experiments.quantized.measures import (
    agent_measures,
    curve_measures,
    dream_measures,
    world_measures,
)
from scripts.experiments.quantized.page import FOLDER, draw_page
from worldmodels.errors import UserError
from worldmodels.pipeline import run_pipeline
from worldmodels.presets import STUDY, Preset
from worldmodels.runs.run import Run
from worldmodels.runs.run_settings import RunSettings
from worldmodels.stages.dream_check import DreamCheckConfig


def finished_run(spec: RunSpec, folder: Path, preset: Preset, context: Context) -> Run:
    """The run in this folder, all its rounds done."""
    kind = KINDS[spec.kind]
    preset = kind.settings(preset)
    run = Run(folder, RunSettings(DEFAULT_ENV_ID, preset.name, spec.seed))
    run_pipeline(
        run,
        preset,
        quantized=kind.quantizer is not None,
        rounds=preset.rounds,
        workers=context.workers,
        report=context.report,
        device=context.device,
    )
    return run


@dataclass(frozen=True)
class Quantized(Experiment[RunSpec]):
    """Kinds of V over seeds.

    Attributes:
        preset: of every run.
        episodes: test tracks, as they are and under each perturbation.
        drives: of the scripted driver, on which V and M are evaluated.
        dream: how returns in the dream and in the real env are compared.
    """

    name = "quantized"
    folder = FOLDER
    table = RUNS
    preset: Preset = STUDY
    episodes: int = 100
    drives: int = 16
    dream: DreamCheckConfig = field(default_factory=DreamCheckConfig)

    def __post_init__(self) -> None:
        for name, least in (("episodes", 1), ("drives", 2)):
            if getattr(self, name) < least:
                raise UserError(f"{name} must be at least {least}, got {getattr(self, name)}")

    def run(self, name: str, spec: RunSpec, context: Context) -> Result:
        """The run, and what is measured of it."""
        run = finished_run(spec, context.runs / name, self.preset, context)
        gallery = context.docs / self.folder / f"codes-{name}.png"
        gallery.parent.mkdir(parents=True, exist_ok=True)
        return {
            "kind": spec.kind,
            "seed": spec.seed,
            **curve_measures(run),
            "scores": agent_measures(run, self.episodes, context.workers, context.report),
            **world_measures(run, self.drives, context.report, gallery, context.device),
            "dream": dream_measures(
                run, self.dream, context.workers, context.report, context.device
            ),
        }

    def draw(self, results: Results, docs: Path) -> None:
        """The page of all runs and ablations."""
        draw_page(docs)
