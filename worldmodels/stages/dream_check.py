"""Compare the returns of agents in dreams with the returns of the same agents in the game."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from scipy.stats import rankdata
from torch import Tensor

from agents.collecting import play_episodes
from agents.controller import choose_actions
from agents.seeds import SEED_RANGES, seeds
from agents.workers import Workers
from worldmodels.controller.agent import Agent, AgentFactory, load_agent
from worldmodels.controller.agent_file import agent_file
from worldmodels.data.sequences import SequenceBatch
from worldmodels.dream.load import encode_recent
from worldmodels.dream.model import DreamModel, check_temperature
from worldmodels.dream.rollout import dreamed_returns
from worldmodels.dream.starts import evenly_spread, real_states
from worldmodels.dream.support import Support
from worldmodels.errors import UserError, check_at_least
from worldmodels.memory.encoding import encode_rollouts
from worldmodels.plotting import save_scatter
from worldmodels.progress import Report
from worldmodels.runs.env_steps import record_env_steps
from worldmodels.runs.provenance import file_digest
from worldmodels.runs.run import Run
from worldmodels.runs.run_lock import locks_run
from worldmodels.training.device import device_of
from worldmodels.training.fit import step_generator

HORIZONS = (10, 20, 50, 100, 200)  # env steps
LEAST_NOISE, MOST_NOISE = 0.1, 5.0  # noise on C's weights, relative to the rms of the weights


@dataclass(frozen=True)
class DreamCheckConfig:
    """Settings of the comparison: the agents, the episodes and the dreams.

    Attributes:
        agents: number of agents. The first agent is the run's own agent. The other agents are
            copies of the first agent, with random noise on C's weights. Each copy has more noise
            than the copy before.
        episodes: number of real episodes per agent, which are played on validation tracks.
        starts: number of start states per agent, which are states of the agent's real episodes.
        samples: number of dreams per start state.
        temperature: temperature of the dreams.
        good: the lowest real score of a good agent. Good agents are also compared among themselves.
            None stands for half of the best score.
    """

    agents: int = 12
    episodes: int = 4
    starts: int = 256
    samples: int = 8
    temperature: float = 1.0
    good: float | None = None

    def __post_init__(self) -> None:
        check_at_least(2, self, "agents")
        check_at_least(1, self, "episodes", "starts", "samples")
        most = len(SEED_RANGES["validation"])
        if self.episodes > most:
            raise UserError(f"expected at most {most:,} episodes, got {self.episodes:,}")
        check_temperature(self.temperature)


# Maps each kind of return ("real", "dreamed" and "unconstrained") to the sums of rewards from the
# start states up to each agent step. All kinds have the same start states.
Returns = dict[str, Float[Tensor, "start agent_step"]]


@locks_run
def dream_check(
    run: Run, config: DreamCheckConfig, *, workers: Workers, report: Report, device: str = "cpu"
) -> dict[str, Any]:
    """Compare the dreamed returns and the real returns of agents from the same start states.

    Every agent plays real episodes, and the agent's dreams begin at states of these episodes.
    `dreamed` returns come from dreams that end when they leave the `Support`. `unconstrained`
    returns come from dreams without a `Support`.

    Returns: a dict. The entry `horizons` maps each horizon in env steps to the metrics of `dreamed`
    and of `unconstrained` returns. `bias` is the mean dreamed return minus the mean real return.
    `correlation` is computed over start states. `rank_correlation` is computed over the mean
    returns of all agents. `good_rank_correlation` is computed over the mean returns of the good
    agents.
    """
    agent = load_agent(run.folder)
    agent.vision.to(device)
    agent.memory.to(device)
    noise, candidates = _noisy_candidates(agent.parameters[0].numpy(), config.agents)
    recent = encode_recent(run, agent.vision, report, most=64)
    support = Support.fit(agent.vision, agent.memory, recent).to(device)
    file, tracks = agent_file(run.folder), seeds("validation", config.episodes)
    each, scores, env_steps = [], [], 0
    for candidate in report.track("dream check", candidates):
        factory = AgentFactory(file, candidate[None].astype(np.float32))
        rollouts = list(play_episodes(agent.spec.env, factory, tracks, workers=workers))
        scores.append(float(np.mean([rollout.rewards.sum() for rollout in rollouts])))
        lengths = [rollout.num_steps for rollout in rollouts]
        env_steps += sum(lengths)
        sequences = encode_rollouts(agent.vision, rollouts, lengths, agent.action_repeat)
        each.append(_returns(agent, candidate, sequences, support, config))
    threshold = max(scores) / 2 if config.good is None else config.good
    good = [number for number, score in enumerate(scores) if score >= threshold]
    horizons = {count * agent.action_repeat: count for count in _agent_steps(agent.action_repeat)}
    digest = file_digest(file)
    result: dict[str, Any] = {
        "scores": scores,
        "noise": noise,
        "good": {"from": threshold, "agents": len(good)},
        "horizons": {str(steps): _compare(each, count, good) for steps, count in horizons.items()},
        "temperature": config.temperature,
        "digests": {"controller": digest},
    }
    record_env_steps(run, f"dream check/{digest[:16]}/{config}", {"reported": env_steps})
    run.write_json("evaluation/dream-check.json", result)
    _draw(run.folder / "evaluation" / "dream-check.png", each, scores, max(horizons))
    return result


def _noisy_candidates(own: np.ndarray, count: int) -> tuple[list[float], list[np.ndarray]]:
    """Return the noise levels, which begin with 0, and C's noisy weights (D,) for each level."""
    rng = np.random.default_rng(0)
    rms = np.sqrt(np.mean(own**2))
    noise = [0.0, *np.geomspace(LEAST_NOISE, MOST_NOISE, count - 1).round(3).tolist()]
    return noise, [own + level * rms * rng.standard_normal(own.shape) for level in noise]


def _draw(path: Path, each: list[Returns], scores: list[float], env_steps: int) -> None:
    """Plot the dreamed returns against the real returns, both over the longest horizon."""
    groups = {}
    for number, (returns, score) in enumerate(zip(each, scores, strict=True)):
        points = returns["real"][:, -1].numpy(), returns["dreamed"][:, -1].numpy()
        groups[f"agent {number} (scores {score:.0f})"] = points
    x_label = f"real return of {env_steps} steps"
    save_scatter(path, groups, x_label=x_label, y_label="dreamed return")


def _agent_steps(action_repeat: int) -> list[int]:
    return [max(1, round(horizon / action_repeat)) for horizon in HORIZONS]


@torch.no_grad()
def _returns(
    agent: Agent,
    candidate: np.ndarray,
    sequences: SequenceBatch,
    support: Support,
    config: DreamCheckConfig,
) -> Returns:
    """Return the real and the dreamed returns of one agent, from states of the agent's episodes."""
    horizon = _agent_steps(agent.action_repeat)[-1]
    rows, steps = sequences.mask.nonzero(as_tuple=True)
    # After a termination all rewards are 0; after a truncation they are unknown.
    known = sequences.terminated.any(1)[rows] | (steps + horizon <= sequences.mask.sum(1)[rows])
    room = known.nonzero()[:, 0]
    if len(room) == 0:
        raise UserError(
            "every episode of one agent was truncated before env step "
            f"{horizon * agent.action_repeat}: play more episodes with --episodes"
        )
    chosen = evenly_spread(room, config.starts)
    rewards = torch.nn.functional.pad(sequences.rewards, (0, horizon)).unfold(1, horizon, 1)
    device = device_of(agent.memory)
    repeated = chosen.repeat_interleave(config.samples)
    starts = real_states(agent.vision, agent.memory, sequences).rows(repeated).to(device)
    parameters = torch.from_numpy(candidate).float()[None].to(device)
    act = functools.partial(choose_actions, agent.controller, agent.spec.action_map, parameters)
    found = {"real": rewards[rows[chosen], steps[chosen]].cumsum(1)}
    for kind, limits in (("dreamed", support), ("unconstrained", None)):
        dream = DreamModel(agent.vision, agent.memory, config.temperature, limits)
        returns = dreamed_returns(dream, starts, act, horizon, step_generator(0, 0, device))
        found[kind] = returns.unflatten(1, (-1, config.samples)).mean(2).T.cpu()
    return found


def _compare(each: list[Returns], agent_steps: int, good: list[int]) -> dict[str, Any]:
    """Return the metrics of one horizon, which `dream_check` describes."""

    def after_horizon(kind: str) -> list[np.ndarray]:
        return [returns[kind][:, agent_steps - 1].double().numpy() for returns in each]

    real = after_horizon("real")
    all_real = np.concatenate(real)
    figures: dict[str, Any] = {"start_states": len(all_real), "real_mean": float(all_real.mean())}
    for kind in ("dreamed", "unconstrained"):
        values = after_horizon(kind)
        all_values = np.concatenate(values)
        figures[kind] = {
            "mean": float(all_values.mean()),
            "bias": float((all_values - all_real).mean()),
            "correlation": correlation(all_values, all_real),
            "rank_correlation": rank_correlation(values, real, range(len(each))),
            "good_rank_correlation": rank_correlation(values, real, good),
        }
    return figures


def rank_correlation(
    dreamed: list[np.ndarray], real: list[np.ndarray], chosen: Sequence[int]
) -> float | None:
    """Return Spearman's correlation between the dreamed and the real mean returns of agents.

    Only the agents in `chosen` are used. The correlation of fewer than two agents is None.
    """
    if len(chosen) < 2:
        return None
    ranks = [rankdata([returns[i].mean() for i in chosen]) for returns in (dreamed, real)]
    return correlation(*ranks)


def correlation(a: np.ndarray, b: np.ndarray) -> float | None:
    """Return Pearson's correlation of `a` and `b`, or None if `a` or `b` is constant."""
    if a.std() < 1e-12 or b.std() < 1e-12:
        return None
    return float(np.corrcoef(a, b)[0, 1])
