"""Compare inputs of C. In this experiment, CMA-ES searches for a linear C in the real env.

There is one search per kind of V and choice of inputs. Each search uses the V and M of a run of the
experiment `quantized`, namely the run with the same kind of V and with seed 1. If this run is
missing, it is done before the search. The experiment writes docs/results.md.

Source: arXiv 1803.10122, table 1, which compares z alone with z and h.
"""

from dataclasses import dataclass, replace
from pathlib import Path

from scripts.experiments.experiment import Context, Experiment, Result, Results
from scripts.experiments.forked_run import fork_run
from scripts.experiments.quantized.kinds import ABLATIONS, INPUTS, RUNS
from scripts.experiments.quantized.page import draw_page
from scripts.experiments.quantized.study import Quantized, finished_run
from worldmodels.controller.fitness import CMAESConfig
from worldmodels.memory import make_memory, restore_memory
from worldmodels.memory.ensemble import MemoryEnsemble
from worldmodels.presets import STUDY, Preset
from worldmodels.runs.checkpoint import load_checkpoint, save_checkpoint, with_prefix
from worldmodels.runs.run import Run
from worldmodels.runs.run_lock import locks_run
from worldmodels.stages.train_controller import ControllerStageConfig, train_controller
from worldmodels.training.seeding import global_seed

SEARCH = ControllerStageConfig(
    eval_episodes=16,
    selection_episodes=100,
    cmaes=CMAESConfig(generations=30, population=32, episodes=2, horizon=250, validate_every=10),
)


@dataclass(frozen=True)
class Ablations(Experiment):
    """Compare inputs of C for two kinds of V.

    Attributes:
        preset: preset of the runs.
        search: settings of the searches, which begin from weights of zero.
    """

    name = "ablation"
    table = ABLATIONS
    preset: Preset = STUDY
    search: ControllerStageConfig = SEARCH

    def run(self, name: str, spec: tuple[str, str], context: Context) -> Result:
        """Run the search for one kind of V and one choice of inputs."""
        run_name, inputs = spec
        kind, seed = RUNS[run_name]
        run = finished_run(run_name, context.runs.parent / Quantized.name, self.preset, context)
        measures = ablation_measures(run, inputs, self.search, context)
        return {"kind": kind, "seed": seed, "ablation": inputs, **measures}

    def draw(self, results: Results, docs: Path) -> None:
        """Write the page of all runs and ablations."""
        draw_page(docs)


@locks_run
def ablation_measures(
    run: Run, name: str, search: ControllerStageConfig, context: Context
) -> Result:
    """Search for C from weights of zero, with V and M of `run`; return measures of the search."""
    label, inputs = INPUTS[name]
    fork = fork_run(run, run.folder / "ablation" / name)
    if name == "untrained":
        reset_recurrent_weights(fork, run.settings.seed)
    result = train_controller(fork, replace(search, inputs=inputs), **context.resources)
    return {
        "label": label,
        "parameters": result["parameters"],
        "score": result["real_score"],
        "std": result["real_std"],
        "episodes": result["selection_episodes"],
        "evaluations": evaluations_in(result),
    }


def evaluations_in(result: Result) -> list[Result]:
    """Return the time, steps and score of each evaluation that monitored a search."""
    return [
        {key: round(entry[key], 1) for key in ("seconds", "steps", "real_score")}
        for entry in result["history"]
        if "real_score" in entry
    ]


def reset_recurrent_weights(run: Run, seed: int) -> None:
    """Replace the recurrent weights of the run's M by random weights that depend only on `seed`."""
    path = run.weights("memory")
    checkpoint = load_checkpoint(path, hint="train M first")
    config = restore_memory(checkpoint, path).config
    with global_seed(seed):
        fresh = make_memory(config)
    assert not isinstance(fresh, MemoryEnsemble), "the study's M is not an ensemble"
    recurrent = with_prefix("memory.lstm", fresh.lstm.state_dict())
    save_checkpoint(path, {**checkpoint.tensors, **recurrent}, checkpoint.metadata)
