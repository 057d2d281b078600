"""A dream on film: an agent's, a policy's, or under actions from a file."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agents.seeds import SEED_RANGES
from envs.actions import encode_actions
from envs.config import EnvConfig
from envs.tasks import task_for
from worldmodels.controller.agent import load_agent
from worldmodels.controller.dream_video import Actor, agent_actor, check_video, write_dream_video
from worldmodels.controller.elite_agents import ELITES_NAME
from worldmodels.controller.policies import POLICIES, make_policy
from worldmodels.dream.load import load_world_model
from worldmodels.dream.model import DreamModel, DreamState, check_temperature
from worldmodels.errors import UserError
from worldmodels.progress import Report
from worldmodels.runs.run import Run


@dataclass(frozen=True)
class DreamVideoConfig:
    """What to record.

    Attributes:
        horizon: agent steps at most; the dream ends earlier where M predicts an end.
        episode: of the validation split, whose first frame the dream begins at.
        temperature: of the dream.
        agent: an agent's file or run, which dreams with the V and M it was made with; None takes
            the run's own.
        policy: a policy to act instead of an agent: "exploring", "random", "brownian", or one of
            the task's constant actions by its name.
        actions: a file of encoded actions to take instead, .npy, float (agent steps, A).
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
            raise UserError(f"expected one of --agent, --policy and --actions, got {given}")
        if self.horizon < 1:
            raise UserError(f"expected 1 agent step or more, got {self.horizon}")
        if not 0 <= self.episode < len(SEED_RANGES["validation"]):
            raise UserError(f"expected an episode among the validation seeds, got {self.episode}")
        check_temperature(self.temperature)


def record_dream(
    run: Run, out: Path, config: DreamVideoConfig, *, report: Report
) -> dict[str, Any]:
    """Write a video of one dream; the same one every time.

    Raises: UserError for a run without V and M, actions that do not fit the env, a video's name
    or folder that cannot be written.
    """
    check_video(out)
    if config.agent is None:
        _ = run.settings  # where there is no run at all, that is what to say
    if config.policy is None and config.actions is None:
        agent = load_agent(config.agent or run.folder)
        env, repeat = agent.spec.env, agent.action_repeat
        dream = DreamModel(agent.vision, agent.memory, config.temperature)
        act = agent_actor(agent, dream)
    else:
        env, repeat = run.settings.env, run.action_repeat
        dream = DreamModel(*load_world_model(run), config.temperature)
        act = _policy_actor(env, dream, config) if config.policy else _from_file(dream, config)
    return write_dream_video(
        out,
        dream,
        act,
        env,
        repeat,
        horizon=config.horizon,
        episode=config.episode,
        report=report,
    )


def _policy_actor(env: EnvConfig, dream: DreamModel, config: DreamVideoConfig) -> Actor:
    task, name = task_for(env), config.policy
    known = [
        *(other for other in POLICIES if other not in ("agent", ELITES_NAME)),
        *task.constant_actions,
    ]
    if name not in known:
        raise UserError(f'expected a policy among {", ".join(known)}, got "{name}"')
    space = task.action_map.space
    policy = make_policy(name, env, Path(), action_repeat=1)
    policy.reset(1, config.episode)

    def act(state: DreamState, agent_step: int) -> Tensor:
        native = policy.act(dream.vision.decode(state.latent).numpy())
        return torch.from_numpy(encode_actions(space, native))

    return act


def _from_file(dream: DreamModel, config: DreamVideoConfig) -> Actor:
    path = config.actions
    assert path is not None, "asked for by the caller"
    size = dream.memory.num_actions
    try:
        actions = np.lib.format.read_array(path.open("rb"), allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path} is no readable .npy of actions: {error}") from error
    fits = actions.ndim == 2 and actions.shape[1] == size and len(actions) > 0
    if not fits or actions.dtype.kind not in "biuf" or not np.isfinite(actions).all():
        raise UserError(
            f"{path}: expected finite actions of shape (agent steps, {size}), got {actions.dtype} "
            f"of shape {actions.shape}"
        )

    def act(state: DreamState, agent_step: int) -> Tensor | None:
        if agent_step >= len(actions):
            return None
        return torch.from_numpy(actions[agent_step : agent_step + 1].astype(np.float32))

    return act
