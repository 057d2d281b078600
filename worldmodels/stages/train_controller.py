"""Search for C by CMA-ES in the dream or in the real game, or by gradients in the dream."""

import functools
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from agents.controller import ControllerConfig
from agents.evaluation import Scores
from agents.protocol import EvaluationProtocol
from agents.workers import Workers
from worldmodels.controller.actor_critic import DreamTask
from worldmodels.controller.agent import Agent, save_agent
from worldmodels.controller.agent_file import agent_file
from worldmodels.controller.best_agent import Selection, evaluator, keep_best
from worldmodels.controller.cmaes import CMAESSearch
from worldmodels.controller.fitness import CMAESConfig, DreamFitness, Fitness, RealFitness
from worldmodels.controller.gradient import GradientConfig, GradientSearch
from worldmodels.controller.new_agent import check_inputs, new_agent
from worldmodels.controller.pathwise import PathwiseConfig, is_differentiable
from worldmodels.controller.ppo import PPOConfig
from worldmodels.controller.real_episodes import real_scores
from worldmodels.controller.rewards import RewardScale
from worldmodels.controller.search_context import SearchContext
from worldmodels.controller.start_agent import start_agent
from worldmodels.data.sequences import SequenceBatch
from worldmodels.dream.load import encode_recent, load_world_model, start_bytes
from worldmodels.dream.model import DreamModel
from worldmodels.dream.starts import StartStates
from worldmodels.dream.support import Support
from worldmodels.errors import UserError, check_at_least, check_choice, check_fraction, reading
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

# Both searches by gradients evaluate C three times, so that both select the best of three.
_PATHWISE_FIT = FitConfig(
    900, 128, learning_rate=1e-3, final_learning_rate=1e-4, validate_every=300
)
PATHWISE = GradientConfig(fit=_PATHWISE_FIT, later=_PATHWISE_FIT, learner=PathwiseConfig())
_PPO_FIT = FitConfig(2_400, 512, learning_rate=1e-3, final_learning_rate=1e-4, validate_every=800)
PPO = GradientConfig(fit=_PPO_FIT, later=_PPO_FIT, learner=PPOConfig())


@dataclass(frozen=True, kw_only=True)
class ControllerStageConfig:
    """Settings of C and of the search for C.

    Attributes:
        search: "cmaes" or "gradient". A search by gradients is only possible in the dream.
        dream: whether to search in M's dream instead of the real game.
        temperature: temperature of the dream.
        far_from_reward_fraction: fraction of the dreams that begin far from any reward (see
            `near_reward`). Such dreams can teach C to come back to reward, but in many of them all
            controllers get the same return. None stands for uniformly sampled start states.
        inputs: inputs of C. "zh" stands for the latent features and M's hidden state, and "z"
            stands for the latent features alone.
        hidden: number of tanh units of C; 0 stands for the linear C of the paper.
        action_map: name of one of the task's action maps; None stands for the task's default map.
        sample_latent: whether C receives a sample from V's posterior, as in the paper, instead of
            the posterior's mean.
        eval_episodes: number of episodes of each evaluation during a search. With 0 episodes, no C
            is evaluated before the end of the search, and the result is the last C.
        selection_episodes: number of episodes on which the run's best agent is selected.
        start: digest of the agent file with which the search begins. None stands for a search with
            the run's own V and M.
        cmaes: settings of CMA-ES, which continues from the C of the round before.
        pathwise, ppo: settings of the searches by gradients, which begin with a new C in every
            round. Pathwise gradients are used for continuous latents with continuous actions. PPO
            is used for codes or discrete actions.
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
        check_choice("search", self.search, SEARCHES)
        if self.search == "gradient" and not self.dream:
            raise UserError("the real game has no gradient: add --dream to --search gradient")
        check_inputs(self.inputs)
        check_fraction(self, "far_from_reward_fraction")
        check_at_least(0, self, "hidden")
        selects = self.search == "cmaes" and self.cmaes.select_best
        check_at_least(1 if selects else 0, self, "eval_episodes")
        check_at_least(1, self, "selection_episodes")


# Long list of parameters: those of a training stage, the workers, and where the search begins.
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
    """Search for C, and write the agent and the results of the search to the run's folder.

    CMA-ES returns a mean of the search distribution, never the best sample. The search by gradients
    evaluates a moving average of C's parameters several times on the monitoring episodes, and
    returns the moving average with the best score. After the search, the agent is scored on the
    selection episodes. An agent with a higher score than all earlier agents of the run becomes the
    run's best agent.

    Args:
        start_from: file of an agent, or folder of a run, from which the search takes V, M and the
            first C; None stands for the V and M of `run`.
        requested: see `start_agent`.
    """
    run.store.refresh()
    agent, start = _first_agent(run, config, round_, start_from, requested or {})
    if start_from is not None:
        config = replace(config, start=file_digest(agent_file(start_from)))
    work = run.begin("controller", config, run.settings.seed, round_, report.log)
    evaluate_file = evaluator(workers)
    if run.has("controller"):
        # After a kill, the present agent may not be compared yet, and this call will replace it.
        keep_best(run, evaluate_file)
    if work is None:
        return run.result("controller") or {}
    _estimate(run, agent, config, report)
    started = time.monotonic()
    score = functools.partial(real_scores, work.partial / WORLD_MODEL_FILE, workers)
    real_score = None
    if config.eval_episodes:
        monitoring = EvaluationProtocol.of(agent.spec.env, "monitoring", config.eval_episodes)
        real_score = functools.partial(score, monitoring)
    seed = run.settings.seed + 1_000 * round_ + 2
    context = SearchContext(work, seed, round_, real_score, report)
    parameters, figures = _search(run, agent, start, config, context, workers, device)
    agent.parameters = torch.from_numpy(parameters).float()[None]
    protocol = EvaluationProtocol.of(agent.spec.env, "selection", config.selection_episodes)
    scores = score(protocol, agent.parameters[0].numpy())
    result = _write(run, config, agent, protocol, scores, figures, work)
    work.commit(result, time.monotonic() - started)
    best = keep_best(run, evaluate_file)
    report.log(
        f"controller: {result['real_score']:.0f} on {config.selection_episodes} selection "
        f"episodes; the run's best agent: {best.selection}, of round {best.round}"
    )
    return result


def _estimate(run: Run, agent: Agent, config: ControllerStageConfig, report: Report) -> None:
    """Log the disk and the memory that the search needs."""
    memory_bytes = None
    if config.dream:  # the search itself needs little more than the start states
        memory_bytes = PROCESS_BYTES + start_bytes(run, agent.vision, agent.memory)
    report.estimate(
        f"controller: {agent.controller.num_parameters} parameters, {config.search} in "
        f"{'the dream' if config.dream else run.settings.env}",
        disk_bytes=20e6,
        memory_bytes=memory_bytes,
        folder=run.folder,
    )


def _search(
    run: Run,
    agent: Agent,
    start: np.ndarray | None,
    config: ControllerStageConfig,
    context: SearchContext,
    workers: Workers,
    device: str,
) -> tuple[np.ndarray, dict[str, Any]]:
    """Search for C; return C's parameters (D,) and the metrics of the search.

    If `start` is None, CMA-ES begins at zeros.
    """
    world_model_file = context.work.partial / WORLD_MODEL_FILE
    save_agent(world_model_file, agent, {})
    cmaes, size = config.cmaes, agent.controller.num_parameters
    fitness: Fitness
    if config.dream:
        dream, starts, sequences = _dream(run, agent, config, device, context.report)
        if config.search == "gradient":
            first = None if start is None else torch.from_numpy(start).float()[None]
            action_map = agent.spec.action_map
            settings = config.pathwise if is_differentiable(dream, action_map) else config.ppo
            reward_scale = RewardScale.of_episodes(sequences, settings.learner.discount)
            task = DreamTask(agent.controller, action_map, dream, reward_scale, first)
            parameters, figures = GradientSearch(settings, task, starts, context).run()
            return parameters, {**figures, "discount": reward_scale.discount}
        fitness = DreamFitness(cmaes, agent, dream, starts, context.seed)
    else:
        fitness = RealFitness(cmaes, agent, workers, context.seed, world_model_file)
    num_fixed = size - agent.controller.num_last_parameters if cmaes.last_layer else 0
    begin = np.zeros(size) if start is None else start
    search = CMAESSearch(begin, cmaes, fitness, context, start is not None, num_fixed)
    parameters, figures = search.run()
    if not config.dream:
        figures["env_steps"]["searched"] = int(figures["history"][-1]["steps"])
    return parameters, figures


def _dream(
    run: Run, agent: Agent, config: ControllerStageConfig, device: str, report: Report
) -> tuple[DreamModel, StartStates, SequenceBatch]:
    """Move V and M to the device; return the dream model, start states and encoded episodes."""
    vision, memory = agent.vision, agent.memory
    sequences = encode_recent(run, vision, report)
    starts = StartStates.of_episodes(
        vision, memory, sequences, far_from_reward_fraction=config.far_from_reward_fraction
    )
    support = Support.fit(vision, memory, sequences).to(device)
    for weight in (*vision.parameters(), *memory.parameters()):
        weight.requires_grad_(False)  # saves a third of the time of a gradient through a dream
    dream = DreamModel(vision.to(device), memory.to(device), config.temperature, support)
    return dream, starts, sequences


def _write(
    run: Run,
    config: ControllerStageConfig,
    agent: Agent,
    protocol: EvaluationProtocol,
    scores: Scores,
    figures: dict[str, Any],
    work: StageFolder,
) -> dict[str, Any]:
    """Write the agent and its scores on the selection episodes; return the stage's result."""
    selection = Selection(protocol, scores.mean, scores.std)
    file = work.partial / WEIGHTS["controller"]
    save_agent(file, agent, {"made_by": work.work, "selection": selection.to_dict()})
    steps = {**figures["env_steps"], "selected": scores.env_steps}
    record_env_steps(run, f"controller/{file_digest(file)[:16]}", steps)
    (work.partial / WORLD_MODEL_FILE).unlink()
    return {
        "search": config.search,
        "dream": config.dream,
        "parameters": agent.controller.num_parameters,
        "real_score": selection.mean,
        "real_std": selection.std,
        "selection_episodes": protocol.episodes,
        **figures,
        "env_steps": steps,
    }


def _first_agent(
    run: Run,
    config: ControllerStageConfig,
    round_: int,
    start_from: Path | None,
    requested: Mapping[str, Any],
) -> tuple[Agent, np.ndarray | None]:
    """Return an agent with V and M, and C's parameters (D,) at which the search begins.

    The parameters are None if the search begins with a new C.
    """
    if start_from is not None:
        agent = start_agent(run, start_from, requested)
        return agent, agent.parameters[0].double().numpy()
    agent = new_agent(
        run,
        *load_world_model(run),
        inputs=config.inputs,
        hidden=config.hidden,
        action_map=config.action_map,
        sample_latent=config.sample_latent,
    )
    if config.search == "gradient":
        return agent, None
    return agent, _earlier_parameters(run, agent.controller, round_)


def _earlier_parameters(run: Run, controller: ControllerConfig, round_: int) -> np.ndarray | None:
    """Return the parameters (D,) of the C of an earlier round.

    The result is None if no earlier round has a C, or if this C is of another kind.
    """
    manifest = run.manifest("controller")
    if manifest is not None and manifest["round"] < round_:
        path, hint = run.weights("controller"), "delete it to start anew"
        earlier = load_checkpoint(path, hint=hint)
        with reading(path, hint):
            if earlier.metadata["controller"] == asdict(controller):
                return earlier.tensors["controller.parameters"][0].double().numpy()
    return None
