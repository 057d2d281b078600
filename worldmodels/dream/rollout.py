"""Rollouts of dreams: the returns under a controller, and the latents under given actions."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from worldmodels.data.sequences import SequenceBatch
from worldmodels.dream.model import DreamModel, DreamState
from worldmodels.dream.starts import states_at
from worldmodels.training.fit import step_generator


@torch.no_grad()
def dreamed_returns(
    dream: DreamModel,
    starts: DreamState,
    act: Callable[[Float[Tensor, "batch feature"]], Float[Tensor, "batch action"]],
    horizon: int,
    generator: torch.Generator,
    num_candidates: int = 1,
) -> Float[Tensor, "agent_step batch"]:
    """Compute the return that each dream has reached after each agent step.

    The reward of an agent step is weighted by the probability that the dream has not ended before
    this agent step. `DreamModel.step` explains `num_candidates`.
    """
    state, total, returns = starts, torch.zeros_like(starts.weight), []
    for _ in range(horizon):
        weight = state.weight
        state, reward = dream.step(state, act(dream.features(state)), generator, num_candidates)
        total = total + weight * reward
        returns.append(total)
    return torch.stack(returns)


@torch.no_grad()
def roll_out(dream: DreamModel, starts: DreamState, actions: Tensor, seed: int = 0) -> Tensor:
    """Roll out dreams under given actions.

    Starts, actions and latents are on the CPU; the dream runs on the device of V and M.

    Args:
        actions: encoded actions, (batch, agent steps, A).

    Returns: the latents after each agent step, (agent steps, batch, ...).
    """
    generator = step_generator(seed, 0, dream.device)
    state, actions, latents = starts.to(dream.device), actions.to(dream.device), []
    for agent_step in range(actions.shape[1]):
        state, _ = dream.step(state, actions[:, agent_step], generator)
        latents.append(state.latent)
    return torch.stack(latents).cpu()


def replay(
    dream: DreamModel,
    episodes: SequenceBatch,
    rows: Int[Tensor, "start"],
    steps: Int[Tensor, "start"],
    horizon: int,
    *,
    seed: int = 0,
) -> Tensor:
    """Roll out dreams that begin at states of real episodes and follow the actions of the episodes.

    Returns: latents (1 + horizon, starts, ...) on the CPU; the first entry holds the latents of the
        start states.
    """
    states = states_at(dream.vision, dream.memory, episodes, rows, steps)
    actions = episodes.actions[rows[:, None], steps[:, None] + torch.arange(horizon)]
    return torch.cat([states.latent[None], roll_out(dream, states, actions, seed)])
