"""Record a dream whose actions come from an agent, from a policy or from a file."""

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from agents.seeds import SEED_RANGES
from envs.actions import encode_actions
from envs.config import EnvConfig
from envs.tasks import task_for
from worldmodels.controller.agent import load_agent
from worldmodels.controller.dream_video import ActedDream, Actor, check_video, write_dream_video
from worldmodels.controller.elite_agents import ELITES_NAME
from worldmodels.controller.policies import POLICIES, make_policy
from worldmodels.dream.load import load_world_model
from worldmodels.dream.model import DreamModel, DreamState, check_temperature
from worldmodels.errors import UserError, check_at_least
from worldmodels.progress import Report
from worldmodels.runs.run import Run
from worldmodels.vision import Vision


@dataclass(frozen=True)
class DreamVideoConfig:
    """Settings of the video of a dream.

    Attributes:
        horizon: largest number of agent steps; the dream ends earlier if M predicts the end of the
            episode.
        episode: number of a validation episode; the dream begins at the first frame of this
            episode.
        temperature: temperature of the dream.
        agent: file of an agent, or folder of a run. The dream uses the V and the M of this agent.
            None stands for the run's own agent.
        policy: name of a policy that acts instead of an agent: "exploring", "random", "brownian",
            or a constant action of the task.
        actions: .npy file of encoded actions, float (agent steps, A), which are used instead of the
            actions of an agent.
    """

    horizon: int = 250
    episode: int = 0
    temperature: float = 1.0
    agent: Path | None = None
    policy: str | None = None
    actions: Path | None = None

    def __post_init__(self) -> None:
        given = [name for name in ("agent", "policy", "actions") if getattr(self, name) is not None]
        if len(given) > 1:
            raise UserError(f"expected at most one of --agent, --policy and --actions, got {given}")
        check_at_least(1, self, "horizon")
        if not 0 <= self.episode < len(SEED_RANGES["validation"]):
            raise UserError(f"expected the number of a validation episode, got {self.episode}")
        check_temperature(self.temperature)


def record_dream(
    run: Run, out: Path, config: DreamVideoConfig, *, report: Report
) -> dict[str, Any]:
    """Write a video of one dream; the same run and config always give the same video.

    Raises: UserError if the run has no V or no M, if the actions do not fit the env, or if no video
    can be written under the name `out`.
    """
    check_video(out)
    if config.agent is None:
        _ = run.settings  # raises the right error if there is no run at all
    horizon = config.horizon
    if config.policy is None and config.actions is None:
        dream = ActedDream.of_agent(load_agent(config.agent or run.folder), config.temperature)
    else:
        env, model = run.settings.env, DreamModel(*load_world_model(run), config.temperature)
        if config.actions is None:
            act = _policy_actor(env, model.vision, config)
        else:
            actions = _read_actions(config.actions, model.memory.num_actions)
            horizon = min(horizon, len(actions))
            act = functools.partial(_recorded, actions)
        dream = ActedDream(model, act, env, run.action_repeat)
    return write_dream_video(out, dream, horizon=horizon, episode=config.episode, report=report)


def _policy_actor(env: EnvConfig, vision: Vision, config: DreamVideoConfig) -> Actor:
    task, name = task_for(env), config.policy
    known = [
        *(other for other in POLICIES if other not in ("agent", ELITES_NAME)),
        *task.constant_actions,
    ]
    if name not in known:
        raise UserError(f'expected a policy among {", ".join(known)}, got "{name}"')
    policy = make_policy(name, env, Path(), action_repeat=1)
    policy.reset(1, config.episode)

    def act(state: DreamState, agent_step: int) -> Tensor:
        native = policy.act(vision.decode(state.latent).numpy())
        return torch.from_numpy(encode_actions(task.action_map.space, native))

    return act


def _read_actions(path: Path, size: int) -> Float32[Tensor, "agent_step action"]:
    try:
        actions = np.lib.format.read_array(path.open("rb"), allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path} is not a readable .npy file of actions: {error}") from error
    fits = actions.ndim == 2 and actions.shape[1] == size and len(actions) > 0
    if not fits or actions.dtype.kind not in "biuf" or not np.isfinite(actions).all():
        raise UserError(
            f"{path}: expected finite actions of shape (agent steps, {size}), got {actions.dtype} "
            f"of shape {actions.shape}"
        )
    return torch.from_numpy(actions.astype(np.float32))


def _recorded(actions: Tensor, state: DreamState, agent_step: int) -> Tensor:
    return actions[[agent_step]]
