"""Search C: by CMA-ES in the dream or in the real game, or by gradients in the dream."""

import functools
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from agents.controller import ControllerConfig
from agents.protocol import EvaluationProtocol
from agents.workers import Workers
from worldmodels.controller.agent import Agent, save_agent
from worldmodels.controller.agent_file import agent_file
from worldmodels.controller.best_agent import Selection, evaluator, keep_best
from worldmodels.controller.cmaes import CMAESSearch
from worldmodels.controller.fitness import (
    CMAESConfig,
    DreamFitness,
    Fitness,
    PartFitness,
    RealFitness,
    RealScores,
)
from worldmodels.controller.gradient import DreamSource, GradientConfig, GradientSearch
from worldmodels.controller.new_agent import check_inputs, new_agent
from worldmodels.controller.pathwise import PathwiseConfig, is_differentiable
from worldmodels.controller.ppo import PPOConfig
from worldmodels.controller.search_context import SearchContext
from worldmodels.controller.start_agent import start_agent
from worldmodels.data.sequences import SequenceBatch
from worldmodels.dream.load import encode_recent, load_world_model, start_bytes
from worldmodels.dream.model import DreamModel
from worldmodels.dream.starts import StartStates
from worldmodels.dream.support import Support
from worldmodels.errors import UserError, reading
from worldmodels.progress import PROCESS_BYTES, Report
from worldmodels.runs.checkpoint import load_checkpoint
from worldmodels.runs.env_steps import record_env_steps
from worldmodels.runs.provenance import file_digest
from worldmodels.runs.run import WEIGHTS, Run
from worldmodels.runs.run_lock import locks_run
from worldmodels.runs.stage_folder import StageFolder
from worldmodels.training.fit import FitConfig

SEARCHES = ("cmaes", "gradient")
WORLD_MODEL_FILE = "world_model.safetensors"

# Both are evaluated three times, so that both select the best of three.
_PATHWISE_FIT = FitConfig(
    900, 128, learning_rate=1e-3, final_learning_rate=1e-4, validate_every=300
)
PATHWISE = GradientConfig(fit=_PATHWISE_FIT, later=_PATHWISE_FIT, learner=PathwiseConfig())
_PPO_FIT = FitConfig(2_400, 512, learning_rate=1e-3, final_learning_rate=1e-4, validate_every=800)
PPO = GradientConfig(fit=_PPO_FIT, later=_PPO_FIT, learner=PPOConfig())


@dataclass(frozen=True, kw_only=True)
class ControllerStageConfig:
    """What C is and how it is searched.

    Attributes:
        search: "cmaes" or "gradient", which needs the dream.
        dream: search in M's dream instead of the real game.
        temperature: of the dream.
        far_from_reward_fraction: part of the dreams that begin far from any reward, where C learns
            to come back. None weighs all start states alike.
        inputs, hidden: C receives "zh" or "z"; hidden tanh units, 0 for the paper's linear C.
        action_map: one of the task's; None takes its default.
        sample_latent: C receives a sample of V's posterior, as in the paper, instead of its mean.
        eval_episodes: episodes of each evaluation during a search.
        selection_episodes: episodes by which the run's best agent is selected.
        start: digest of the agent file that the search began with; None is the run's own.
        cmaes: the settings of CMA-ES, which continues from the C of the round before.
        pathwise, ppo: the settings of the gradient, for a dream that is differentiable and for
            one that is not; it begins with a new C in every round.
    """

    search: str = "cmaes"
    dream: bool = False
    temperature: float = 1.0
    far_from_reward_fraction: float | None = None
    inputs: str = "zh"
    hidden: int = 0
    action_map: str | None = None
    sample_latent: bool = False
    eval_episodes: int = 8
    selection_episodes: int = 20
    start: str | None = None
    cmaes: CMAESConfig = field(default_factory=CMAESConfig)
    pathwise: GradientConfig = PATHWISE
    ppo: GradientConfig = PPO

    def __post_init__(self) -> None:
        if self.search not in SEARCHES:
            raise UserError(f'search must be among {", ".join(SEARCHES)}, got "{self.search}"')
        if self.search == "gradient" and not self.dream:
            raise UserError("the real game has no gradient: add --dream to --search gradient")
        check_inputs(self.inputs)
        if (
            self.far_from_reward_fraction is not None
            and not 0 <= self.far_from_reward_fraction <= 1
        ):
            raise UserError(
                f"far_from_reward_fraction must be within 0..1, got {self.far_from_reward_fraction}"
            )
        if self.hidden < 0:
            raise UserError(f"hidden must be 0 or more, got {self.hidden}")
        for name in ("eval_episodes", "selection_episodes"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, got {getattr(self, name)}")


# Long: the steps of the search, one after the other; the parameters are those of a training
# stage, the workers, and where the search begins.
@locks_run
def train_controller(
    run: Run,
    config: ControllerStageConfig,
    *,
    workers: Workers,
    report: Report,
    device: str = "cpu",
    round_: int = 1,
    start_from: Path | None = None,
    requested: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Search C and write the whole agent, its figures and its curve to the run's folder.

    The result of CMA-ES is a mean of the search distribution, never the best sample. The result of
    gradients is the running average of C that scored best on the monitoring episodes. This agent is
    scored on the selection episodes. If it is better than all earlier agents of the run, it becomes
    the run's best agent.

    Args:
        start_from: an agent file, or a run's folder, whose V, M and C the search begins with;
            None takes the run's V and M.
        requested: see `start_agent`.
    """
    settings = run.settings
    run.store.refresh()
    agent, start = _first_agent(run, config, round_, start_from, requested)
    if start_from is not None:
        config = replace(config, start=file_digest(agent_file(start_from)))
    work = run.begin("controller", config, settings.seed, round_, report.log)
    evaluate_file = evaluator(workers)
    if run.has("controller"):
        # A kill may have come before the newest agent was compared, and now it will be replaced.
        keep_best(run, evaluate_file)
    if work is None:
        report.log(f"controller: done, {run.folder / 'controller'}")
        return run.result("controller") or {}
    seed = settings.seed + 1_000 * round_ + 2
    _estimate(run, agent, config, report)
    started = time.monotonic()
    world_model_file = work.partial / WORLD_MODEL_FILE
    real = RealScores(agent, workers, world_model_file)
    monitoring = EvaluationProtocol.of(agent.spec.env, "monitoring", config.eval_episodes)
    monitor = functools.partial(real, protocol=monitoring)
    context = SearchContext(work, seed, round_, monitor, report)
    dream = _dream_source(run, agent, config, device, report) if config.dream else None
    if config.search == "gradient":
        assert dream is not None, "the config allows gradients in the dream only"
        parameters, result = _search_by_gradient(agent, start, config, dream, context)
    elif dream is not None:
        fitness = DreamFitness(config.cmaes, agent, dream.model, dream.starts, seed)
        parameters, result = _search_by_cmaes(agent, start, config.cmaes, fitness, context)
    else:
        played = RealFitness(config.cmaes, agent, workers, seed, world_model_file)
        parameters, result = _search_by_cmaes(agent, start, config.cmaes, played, context)
        result["env_steps"]["searched"] = int(result["history"][-1]["steps"])
    agent.parameters = torch.from_numpy(parameters).float()[None]
    result = _score(run, config, agent, real, result, work)
    world_model_file.unlink()
    work.commit(result, time.monotonic() - started)
    best = keep_best(run, evaluate_file)
    report.log(
        f"controller: {result['real_score']:.0f} on {config.selection_episodes} selection "
        f"episodes; the run's best agent: {best.selection}, of round {best.round}"
    )
    return result


def _estimate(run: Run, agent: Agent, config: ControllerStageConfig, report: Report) -> None:
    """Log what the search will take."""
    report.estimate(
        f"controller: {agent.controller.num_parameters} parameters, {config.search} in "
        f"{'the dream' if config.dream else run.settings.env}",
        disk_bytes=20e6,
        # The search itself adds little beside the start states.
        memory_bytes=PROCESS_BYTES + start_bytes(run, agent.vision, agent.memory)
        if config.dream
        else None,
        folder=run.folder,
    )


def _dream_source(
    run: Run, agent: Agent, config: ControllerStageConfig, device: str, report: Report
) -> DreamSource:
    sequences = encode_recent(run, agent.vision, report)
    starts = StartStates.of_episodes(
        agent.vision,
        agent.memory,
        sequences,
        far_from_reward_fraction=config.far_from_reward_fraction,
    )
    scale = max(float(sequences.rewards[sequences.mask].std()), 1e-6)
    return DreamSource(_dream_of(agent, config, sequences, device), starts, scale)


def _search_by_gradient(
    agent: Agent,
    start: np.ndarray | None,
    config: ControllerStageConfig,
    dream: DreamSource,
    context: SearchContext,
) -> tuple[np.ndarray, dict[str, Any]]:
    """Pathwise where dreams let gradients through to C's outputs, otherwise by PPO."""
    differentiable = is_differentiable(dream.model, agent.spec.action_map)
    settings = config.pathwise if differentiable else config.ppo
    return GradientSearch(agent, start, settings, dream, context).run()


def _search_by_cmaes(
    agent: Agent,
    start: np.ndarray | None,
    config: CMAESConfig,
    fitness: Fitness,
    context: SearchContext,
) -> tuple[np.ndarray, dict[str, Any]]:
    """All of C's parameters, or those of its last layer alone; from zero where there is no C."""
    size = agent.controller.num_parameters
    searched = agent.controller.num_last_parameters if config.last_layer else size
    fixed, first = np.split(np.zeros(size) if start is None else start, [size - searched])
    part = PartFitness(fitness, fixed)
    of_part = replace(context, real_score=lambda last: context.real_score(part.whole(last)))
    found, result = CMAESSearch(first, config, part, of_part, start is not None).run()
    return part.whole(found), result


def _score(
    run: Run,
    config: ControllerStageConfig,
    agent: Agent,
    real: RealScores,
    result: dict[str, Any],
    work: StageFolder,
) -> dict[str, Any]:
    """Score the agent on the selection episodes and write it; the figures of the stage."""
    protocol = EvaluationProtocol.of(agent.spec.env, "selection", config.selection_episodes)
    scores = real(agent.parameters[0].numpy(), protocol)
    selection = Selection.of(protocol, scores)
    file = work.partial / WEIGHTS["controller"]
    save_agent(file, agent, {"made_by": work.work, "selection": selection.to_dict()})
    steps = {**result["env_steps"], "selected": scores.env_steps}
    record_env_steps(run, f"controller/{file_digest(file)[:16]}", steps)
    return {
        "search": config.search,
        "dream": config.dream,
        "parameters": agent.controller.num_parameters,
        "real_score": selection.mean,
        "real_std": selection.std,
        "selection_episodes": protocol.episodes,
        **result,
        "env_steps": steps,
    }


def _first_agent(
    run: Run,
    config: ControllerStageConfig,
    round_: int,
    start_from: Path | None,
    requested: Mapping[str, Any] | None,
) -> tuple[Agent, np.ndarray | None]:
    """The agent to search a C for, and the parameters (D,) to begin at, if there are any."""
    if start_from is not None:
        agent = start_agent(run, start_from, requested or {})
        return agent, agent.parameters[0].double().numpy()
    vision, memory = load_world_model(run)
    agent = new_agent(
        run,
        vision,
        memory,
        inputs=config.inputs,
        hidden=config.hidden,
        action_map=config.action_map,
        sample_latent=config.sample_latent,
    )
    if config.search == "gradient":
        return agent, None
    return agent, _earlier_parameters(run, agent.controller, round_)


def _earlier_parameters(run: Run, controller: ControllerConfig, round_: int) -> np.ndarray | None:
    """The C of the round before, (D,), where it had the same size."""
    manifest = run.manifest("controller")
    if manifest is not None and manifest["round"] < round_:
        path, hint = run.weights("controller"), "delete it to start anew"
        earlier = load_checkpoint(path, hint=hint)
        with reading(path, hint):
            if earlier.metadata["controller"] == asdict(controller):
                return earlier.tensors["controller.parameters"][0].double().numpy()
    return None


def _dream_of(
    agent: Agent, config: ControllerStageConfig, sequences: SequenceBatch, device: str
) -> DreamModel:
    vision, memory = agent.vision, agent.memory
    support = Support.fit(vision, memory, sequences).to(device)
    for weight in (*vision.parameters(), *memory.parameters()):
        weight.requires_grad_(False)  # a third of the time of a gradient through a dream
    return DreamModel(vision.to(device), memory.to(device), config.temperature, support)
