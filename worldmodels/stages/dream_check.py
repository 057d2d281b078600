"""Dream check: what agents earn in the dream beside what they earn in the game."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
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
from worldmodels.dream.starts import real_states
from worldmodels.dream.support import Support
from worldmodels.errors import UserError
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
LEAST_NOISE, MOST_NOISE = 0.1, 5.0  # on the run's C, in its weights' rms


@dataclass(frozen=True)
class DreamCheckConfig:
    """What is compared.

    Attributes:
        agents: how many; the run's own, and copies of it with ever more noise on C's weights,
            each in a direction of its own.
        episodes: real ones an agent, on validation tracks.
        starts: moments of those episodes, for each agent, that it dreams on from.
        samples: dreams from each moment.
        temperature: of the dreams.
        good: real score from which on an agent is a good one, whose ranks are told apart; None
            takes half of the best.
    """

    agents: int = 12
    episodes: int = 4
    starts: int = 256
    samples: int = 8
    temperature: float = 1.0
    good: float | None = None

    def __post_init__(self) -> None:
        if self.agents < 2:
            raise UserError(f"expected 2 agents or more, got {self.agents}")
        for name in ("episodes", "starts", "samples"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.episodes > len(SEED_RANGES["validation"]):
            most = len(SEED_RANGES["validation"])
            raise UserError(f"expected at most {most:,} episodes, got {self.episodes:,}")
        check_temperature(self.temperature)


@dataclass(frozen=True)
class Returns:
    """Sums of rewards from the same moments, by agent steps since: (moments, agent steps)."""

    real: Float[Tensor, "moment decision"]
    dreamed: Float[Tensor, "moment decision"]
    unconstrained: Float[Tensor, "moment decision"]


# Long: the steps of the stage, one after the other.
@locks_run
def dream_check(
    run: Run,
    config: DreamCheckConfig,
    *,
    workers: Workers,
    report: Report,
    device: str = "cpu",
) -> dict[str, Any]:
    """Compare predicted and real return of the same agents from the same moments.

    Every agent plays, and dreams on from moments of its own episodes. Dreams end where they leave
    what M knows (`Support`); `unconstrained` are those that may go anywhere.

    Returns: for each horizon in env steps: `bias`, dreamed minus real return; `correlation` over
    moments; `rank_correlation` over the agents' means, of all and of the good ones alone; the
    same of `unconstrained` dreams.
    """
    agent = load_agent(run.folder)
    agent.vision.to(device)
    agent.memory.to(device)
    rng = np.random.default_rng(0)
    own = agent.parameters[0].numpy()
    rms = np.sqrt(np.mean(own**2))
    noise = [0.0, *np.geomspace(LEAST_NOISE, MOST_NOISE, config.agents - 1).round(3).tolist()]
    candidates = [own + level * rms * rng.standard_normal(own.shape) for level in noise]
    support = Support.fit(
        agent.vision, agent.memory, encode_recent(run, agent.vision, report, most=64)
    ).to(device)
    tracks = seeds("validation", config.episodes)
    each, scores, steps = [], [], 0
    with report.progress("dream check", total=len(candidates)) as meter:
        for candidate in candidates:
            factory = AgentFactory(agent_file(run.folder), candidate[None].astype(np.float32))
            rollouts = list(play_episodes(agent.spec.env, factory, tracks, workers=workers))
            scores.append(float(np.mean([rollout.rewards.sum() for rollout in rollouts])))
            lengths = [rollout.num_steps for rollout in rollouts]
            steps += sum(lengths)
            sequences = encode_rollouts(agent.vision, rollouts, lengths, agent.action_repeat)
            each.append(_returns(agent, candidate, sequences, support, config))
            meter.advance()
    threshold = max(scores) / 2 if config.good is None else config.good
    good = [number for number, score in enumerate(scores) if score >= threshold]
    result: dict[str, Any] = {
        "scores": scores,
        "noise": noise,
        "good": {"from": threshold, "agents": len(good)},
        "horizons": {
            str(agent_steps * agent.action_repeat): _compare(each, agent_steps, good)
            for agent_steps in _agent_steps(agent.action_repeat)
        },
        "temperature": config.temperature,
        "digests": {"controller": file_digest(agent_file(run.folder))},
    }
    work = f"dream check/{result['digests']['controller'][:16]}/{config}"
    record_env_steps(run, work, {"reported": steps})
    run.write_json("evaluation/dream-check.json", result)
    last = _agent_steps(agent.action_repeat)[-1]
    save_scatter(
        run.folder / "evaluation" / "dream-check.png",
        {
            f"agent {number} (scores {score:.0f})": (
                returns.real[:, last - 1].numpy(),
                returns.dreamed[:, last - 1].numpy(),
            )
            for number, (returns, score) in enumerate(zip(each, scores, strict=True))
        },
        x_label=f"real return of {last * agent.action_repeat} steps",
        y_label="dreamed return",
    )
    return result


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
    """Real and dreamed returns of one agent from moments of its own episodes."""
    horizon = _agent_steps(agent.action_repeat)[-1]
    rows, steps = sequences.mask.nonzero(as_tuple=True)
    # What comes after an end pays nothing; what comes after time ran out is not known.
    known = sequences.terminated.any(1)[rows] | (steps + horizon <= sequences.mask.sum(1)[rows])
    room = known.nonzero()[:, 0]
    if len(room) == 0:
        raise UserError(
            f"all of an agent's episodes are cut off within {horizon * agent.action_repeat} steps: "
            "ask for more with --episodes"
        )
    chosen = room[torch.linspace(0, len(room) - 1, min(config.starts, len(room))).long()]
    rewards = torch.nn.functional.pad(sequences.rewards, (0, horizon))
    rewards = torch.stack([rewards[rows[chosen], steps[chosen] + i] for i in range(horizon)])
    starts = real_states(agent.vision, agent.memory, sequences).rows(
        chosen.repeat_interleave(config.samples)
    )
    device = device_of(agent.memory)
    parameters = torch.from_numpy(candidate).float()[None].to(device)
    act = functools.partial(choose_actions, agent.controller, agent.spec.action_map, parameters)
    dreamed = []
    for limits in (support, None):
        dream = DreamModel(agent.vision, agent.memory, config.temperature, limits)
        state, generator, totals = starts.to(device), step_generator(0, 0, device), []
        total = torch.zeros_like(state.weight)
        for _ in range(horizon):
            weight = state.weight
            state, reward = dream.step(state, act(dream.features(state)), generator)
            total = total + weight * reward
            totals.append(total.view(len(chosen), config.samples).mean(1))
        dreamed.append(torch.stack(totals, 1).cpu())
    return Returns(rewards.cumsum(0).T, *dreamed)


def _compare(each: list[Returns], agent_steps: int, good: list[int]) -> dict[str, Any]:
    """Figures of one horizon over all agents' moments, and over the good agents' ranks."""
    real = [returns.real[:, agent_steps - 1].double().numpy() for returns in each]
    kinds = {
        "dreamed": [returns.dreamed[:, agent_steps - 1].double().numpy() for returns in each],
        "unconstrained": [
            returns.unconstrained[:, agent_steps - 1].double().numpy() for returns in each
        ],
    }
    figures: dict[str, Any] = {"start_states": sum(len(r) for r in real)}
    figures["real_mean"] = float(np.concatenate(real).mean())
    for kind, values in kinds.items():
        together, truth = np.concatenate(values), np.concatenate(real)
        figures[kind] = {
            "mean": float(together.mean()),
            "bias": float((together - truth).mean()),
            "correlation": correlation(together, truth),
            "rank_correlation": rank_correlation(values, real, range(len(each))),
            "good_rank_correlation": rank_correlation(values, real, good),
        }
    return figures


def rank_correlation(
    dreamed: list[np.ndarray], real: list[np.ndarray], chosen: Sequence[int]
) -> float | None:
    """Spearman's, of the chosen agents' mean returns; None for fewer than two."""
    if len(chosen) < 2:
        return None
    return correlation(
        rankdata([dreamed[i].mean() for i in chosen]), rankdata([real[i].mean() for i in chosen])
    )


def correlation(a: np.ndarray, b: np.ndarray) -> float | None:
    """Pearson's; None where one of them does not vary."""
    if a.std() < 1e-12 or b.std() < 1e-12:
        return None
    return float(np.corrcoef(a, b)[0, 1])
