"""Compare three kinds of V in whole runs, with three seeds per kind of V.

The experiment writes docs/results.md. A run takes 19 to 44 minutes on one core. If a run was
stopped, the next call resumes the run.
"""

from dataclasses import dataclass, field
from pathlib import Path

from envs.tasks import DEFAULT_ENV_ID
from scripts.experiments.experiment import Context, Experiment, Result, Results
from scripts.experiments.quantized.kinds import KINDS, RUNS
from scripts.experiments.quantized.measures import agent_measures, curve_measures, world_measures
from scripts.experiments.quantized.page import draw_page
from worldmodels.errors import check_at_least
from worldmodels.pipeline import run_pipeline
from worldmodels.presets import STUDY, Preset
from worldmodels.runs.run import Run
from worldmodels.runs.run_settings import RunSettings
from worldmodels.stages.dream_check import DreamCheckConfig, dream_check


def finished_run(name: str, runs: Path, preset: Preset, context: Context) -> Run:
    """Do all rounds of the named run in the folder `runs`, and return the run."""
    kind, seed = RUNS[name]
    preset = KINDS[kind].settings(preset)
    run = Run(runs / name, RunSettings(DEFAULT_ENV_ID, preset.name, seed))
    quantized = KINDS[kind].quantizer is not None
    run_pipeline(run, preset, quantized=quantized, rounds=preset.rounds, **context.resources)
    return run


@dataclass(frozen=True)
class Quantized(Experiment):
    """Compare three kinds of V over three seeds.

    Attributes:
        preset: preset of every run.
        episodes: number of test tracks. Agents play these tracks without perturbation and with each
            perturbation.
        drives: number of drives of the scripted driver on which V and M are evaluated.
        dream: settings of the comparison between returns in the dream and in the real env.
    """

    name = "quantized"
    table = RUNS
    preset: Preset = STUDY
    episodes: int = 100
    drives: int = 16
    dream: DreamCheckConfig = field(default_factory=DreamCheckConfig)

    def __post_init__(self) -> None:
        check_at_least(1, self, "episodes")
        check_at_least(2, self, "drives")

    def run(self, name: str, spec: tuple[str, int], context: Context) -> Result:
        """Do the run and return its measures."""
        run = finished_run(name, context.runs, self.preset, context)
        gallery = context.docs / self.folder / f"codes-{name}.png"
        measures = {
            "kind": spec[0],
            "seed": spec[1],
            **curve_measures(run),
            "scores": agent_measures(run, self.episodes, context),
            **world_measures(run, self.drives, context.report, gallery, context.device),
        }
        checked = dream_check(run, self.dream, **context.resources)
        return {**measures, "dream": {name: checked[name] for name in ("scores", "horizons")}}

    def draw(self, results: Results, docs: Path) -> None:
        """Write the page of all runs and ablations."""
        draw_page(docs)
