"""Search C: by CMA-ES in the dream or in the real game, or by gradients in the dream."""

import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from agents.controller import ControllerConfig
from agents.workers import Workers
from worldmodels.agent import Agent, load_agent, save_agent
from worldmodels.best_agent import keep_best
from worldmodels.checkpoint import load_checkpoint
from worldmodels.data.batches import SequenceBatch
from worldmodels.dream import DreamModel, KnownRegion
from worldmodels.dream_starts import DreamStarts
from worldmodels.errors import UserError
from worldmodels.pathwise import PathwiseConfig, has_slope
from worldmodels.provenance import file_digest
from worldmodels.proximal import ProximalConfig
from worldmodels.report import PROCESS_BYTES, Report
from worldmodels.run import Run, agent_file
from worldmodels.stages.evolution import search_by_evolution
from worldmodels.stages.fitness import (
    DreamFitness,
    EvolutionConfig,
    Fitness,
    PartFitness,
    RealFitness,
    RealReturns,
)
from worldmodels.stages.gradient import GradientConfig, search_by_gradient
from worldmodels.stages.new_agent import check_inputs, new_agent
from worldmodels.training import FitConfig
from worldmodels.world_model import encode_newest, load_world_model, start_bytes

SEARCHES = ("evolution", "gradient")
BODY = "body.safetensors"

_PATHWISE_FIT = FitConfig(
    900, 128, learning_rate=1e-3, final_learning_rate=1e-4, validate_every=300
)
PATHWISE = GradientConfig(fit=_PATHWISE_FIT, later=_PATHWISE_FIT, learner=PathwiseConfig())
_PROXIMAL_FIT = FitConfig(
    2_400, 512, learning_rate=1e-3, final_learning_rate=1e-4, validate_every=400
)
PROXIMAL = GradientConfig(fit=_PROXIMAL_FIT, later=_PROXIMAL_FIT, learner=ProximalConfig())


@dataclass(frozen=True, kw_only=True)
class ControllerStageConfig:
    """What C is and how it is searched.

    Attributes:
        search: "evolution" (CMA-ES) or "gradient", which needs the dream.
        dream: search in M's dream instead of the real game.
        temperature: of the dream.
        far_share: of the dreams, that begin far from any reward: there controllers fare alike, but
            there they learn to come back. None takes moments as often as they came.
        inputs, hidden: C sees "zh" or "z"; hidden tanh units, 0 for the paper's linear C.
        action_map: one of the task's; None takes its default.
        sample_latent: C sees a draw from V's posterior, as in the paper, instead of its mean.
        look_episodes: on validation tracks, that tell during a search how well C drives.
        choice_episodes: on validation tracks, by which the run's best agent is chosen.
        start: digest of the agent file that the search began with; None began with the run's.
        evolution: the settings of CMA-ES, which goes on from the C of the round before.
        pathwise, proximal: the settings of the gradient, where the dream has a slope and where it
            has none; it begins with a new C in every round.
    """

    search: str = "evolution"
    dream: bool = False
    temperature: float = 1.0
    far_share: float | None = None
    inputs: str = "zh"
    hidden: int = 0
    action_map: str | None = None
    sample_latent: bool = False
    look_episodes: int = 8
    choice_episodes: int = 20
    start: str | None = None
    evolution: EvolutionConfig = field(default_factory=EvolutionConfig)
    pathwise: GradientConfig = PATHWISE
    proximal: GradientConfig = PROXIMAL

    def __post_init__(self) -> None:
        if self.search not in SEARCHES:
            raise UserError(f'search must be among {", ".join(SEARCHES)}, got "{self.search}"')
        if self.search == "gradient" and not self.dream:
            raise UserError("the real game has no gradient: add --dream to --search gradient")
        check_inputs(self.inputs)
        if self.far_share is not None and not 0 <= self.far_share <= 1:
            raise UserError(f"far_share must be within 0..1, got {self.far_share}")
        if self.hidden < 0:
            raise UserError(f"hidden must be 0 or more, got {self.hidden}")
        for name in ("look_episodes", "choice_episodes"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, got {getattr(self, name)}")


def train_controller(
    run: Run,
    config: ControllerStageConfig,
    *,
    workers: Workers,
    report: Report,
    device: str = "cpu",
    round_: int = 1,
    start_from: Path | None = None,
) -> dict[str, Any]:
    """Search C and write the whole agent, its figures and its curve to the run's folder.

    What evolution leaves is the mean of the search distribution, never the best sample seen; what
    gradients leave is the running average of C that scored best on validation tracks. Where that
    is better than all agents of this run before, it becomes the run's best agent.

    Args:
        start_from: an agent file, or a run's folder, whose V, M and C the search begins with;
            None takes the run's V and M.
    """
    settings = run.settings
    run.store.refresh()
    agent, start = _first_agent(run, config, round_, start_from)
    if start_from is not None:
        config = replace(config, start=file_digest(agent_file(start_from)))
    work = run.begin("controller", config, settings.seed, round_)
    if work is None:
        keep_best(run)  # a kill may have come between
        report.line(f"controller: done, {run.folder / 'controller'}")
        return run.result("controller") or {}
    seed = settings.seed + 1_000 * round_ + 2
    report.plan(
        f"controller: {agent.controller.num_parameters} parameters, {config.search} in "
        f"{'the dream' if config.dream else settings.env_id}",
        disk_bytes=20e6,
        # The search itself adds little beside the start states.
        memory_bytes=PROCESS_BYTES + start_bytes(run, agent.vision, agent.memory)
        if config.dream
        else None,
        folder=run.folder,
    )
    started = time.monotonic()
    body_file = work.partial / BODY
    real = RealReturns(agent, workers, body_file)

    def look(parameters: np.ndarray) -> float:
        return float(real(parameters, config.look_episodes).mean())

    if config.dream:
        sequences = encode_newest(run, agent.vision, report)
        starts = DreamStarts.of_episodes(
            agent.vision, agent.memory, sequences, far_share=config.far_share, device=device
        )
        dream = _dream_of(agent, config, sequences, device)
    parameters: np.ndarray
    if config.search == "gradient":
        sloping = has_slope(dream, agent.body.action_map)
        parameters, result = search_by_gradient(
            agent,
            start,
            config.pathwise if sloping else config.proximal,
            dream,
            starts,
            look,
            reward_scale=max(float(sequences.rewards[sequences.mask].std()), 1e-6),
            work=work,
            seed=seed,
            round_=round_,
            report=report,
        )
    else:
        fitness: Fitness
        if config.dream:
            fitness = DreamFitness(config.evolution, agent, dream, starts, seed)
        else:
            fitness = RealFitness(config.evolution, agent, workers, seed, body_file)
        size = agent.controller.num_parameters
        if start is None:
            start = np.zeros(size)
        searched = agent.controller.num_last_parameters if config.evolution.last_layer else size
        fixed, first = np.split(start, [size - searched])
        part = PartFitness(fitness, fixed)
        found, result = search_by_evolution(
            first,
            config.evolution,
            part,
            lambda last: look(part.whole(last)),
            work=work,
            seed=seed,
            round_=round_,
            report=report,
        )
        parameters = part.whole(found)
    agent.parameters = torch.from_numpy(parameters).float()[None]
    agent.vision.cpu()
    agent.memory.cpu()
    returns = real(parameters, config.choice_episodes)
    judged = {"real_score": float(returns.mean()), "choice_episodes": len(returns)}
    save_agent(work.partial / "agent.safetensors", agent, {"made_by": work.work, **judged})
    body_file.unlink()
    facts = {
        "search": config.search,
        "dream": config.dream,
        "parameters": agent.controller.num_parameters,
        **judged,
        "real_std": float(returns.std()),
    }
    result = work.commit({**facts, **result}, time.monotonic() - started)
    best = keep_best(run)
    report.line(
        f"controller: {returns.mean():.0f} ± {returns.std():.0f} on {len(returns)} validation "
        f"tracks; the run's best agent: {best['real_score']:.0f}, of round {best['round']}"
    )
    return result


def _first_agent(
    run: Run, config: ControllerStageConfig, round_: int, start_from: Path | None
) -> tuple[Agent, np.ndarray | None]:
    """The agent to search a C for, and the parameters (D,) to begin at, if there are any."""
    if start_from is not None:
        agent = load_agent(start_from)
        if agent.body.env_id != run.settings.env_id:
            raise UserError(
                f"{start_from} is an agent for {agent.body.env_id}, {run} is for "
                f"{run.settings.env_id}: name an agent of the same env with --from"
            )
        if len(agent.parameters) != 1:
            raise UserError(
                f"{start_from} holds {len(agent.parameters)} controllers, expected one: "
                "name a single agent's file with --from"
            )
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
        earlier = load_checkpoint(run.weights("controller"), remedy="delete it to start anew")
        if earlier.metadata["controller"] == asdict(controller):
            return earlier.tensors["controller.parameters"][0].double().numpy()
    return None


def _dream_of(
    agent: Agent, config: ControllerStageConfig, sequences: SequenceBatch, device: str
) -> DreamModel:
    vision, memory = agent.vision, agent.memory
    region = KnownRegion.fit(vision, memory, sequences).to(device)
    for weight in (*vision.parameters(), *memory.parameters()):
        weight.requires_grad_(False)  # a third of the time of a gradient through a dream
    return DreamModel(vision.to(device), memory.to(device), config.temperature, region)
