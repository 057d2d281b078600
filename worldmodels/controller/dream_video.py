"""Record one dream as a video."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agents.seeds import seeds
from agents.video import caption, side_by_side, write_video
from envs.config import EnvConfig
from envs.make import make_env
from envs.tasks import task_for
from worldmodels.controller.agent import Agent
from worldmodels.dream.model import DreamModel, DreamState
from worldmodels.errors import UserError
from worldmodels.progress import Meter, Report
from worldmodels.training.fit import step_generator

# Maps the dream's state and the number of the agent step to an encoded action (1, A).
Actor = Callable[[DreamState, int], Tensor]


@dataclass(frozen=True)
class ActedDream:
    """A dream, the actor that acts in the dream, and the env that the dream imitates."""

    model: DreamModel
    act: Actor
    env: EnvConfig
    action_repeat: int

    @classmethod
    def of_agent(cls, agent: Agent, temperature: float) -> "ActedDream":
        """The dream of an agent's V and M, in which the agent's C acts."""
        model = DreamModel(agent.vision, agent.memory, temperature)
        return cls(
            model,
            lambda state, agent_step: agent.actions_for(model.features(state)),
            agent.spec.env,
            agent.action_repeat,
        )


def write_dream_video(
    out: Path, dream: ActedDream, *, horizon: int, episode: int, report: Report
) -> dict[str, Any]:
    """Write a video of one dream; the same arguments give the same video.

    Args:
        horizon: maximum number of agent steps; the dream ends earlier if M predicts the end of the
            episode.
        episode: number of a validation episode; the dream begins at the first frame of this
            episode.

    Raises: UserError if no video can be written under the name `out`.
    """
    check_video(out)
    totals = {"frames": 0, "dreamed_return": 0.0}

    def frames(meter: Meter) -> Iterator[np.ndarray]:
        for frame, reward in meter.counted(dream_frames(dream, horizon, episode)):
            totals["frames"] += 1
            totals["dreamed_return"] += reward
            yield frame

    with report.progress(f"dream {out.name}", total=horizon) as meter:
        write_video(out, frames(meter), task_for(dream.env).steps_per_second / dream.action_repeat)
    report.log(f"dreamed {totals['frames']} agent steps to {out}")
    return {"video": str(out), **totals}


@torch.no_grad()
def dream_frames(
    dream: ActedDream, horizon: int, episode: int
) -> Iterator[tuple[np.ndarray, float]]:
    """Yield captioned frames of a dream, each with the expected reward of the next agent step."""
    model, generator = dream.model, step_generator(episode, 0)
    state = dream_start(model, dream.env, seeds("validation", 1, start=episode)[0])
    episode_return = reward = 0.0
    for agent_step in range(horizon):
        action = dream.act(state, agent_step)
        frame = model.vision.decode(state.latent)[0].numpy()
        lines = [
            f"dream at temperature {model.temperature:g}   agent step {agent_step}",
            f"reward {reward:+.1f}   score {episode_return:.1f}",
        ]
        state, expected = model.step(state, action, generator)
        reward = float(expected)
        yield caption(side_by_side([frame], ["dream"]), lines), reward
        episode_return += reward
        if float(state.weight) < 0.5:
            break


def check_video(out: Path) -> None:
    """Raise UserError if no video can be written under the name `out`."""
    if out.suffix not in (".mp4", ".gif"):
        raise UserError(f"expected a video name ending in .mp4 or .gif, got {out}")
    if not out.parent.is_dir():
        raise UserError(
            f"no folder {out.parent}: create it first, or name another folder with --out"
        )


@torch.no_grad()
def dream_start(dream: DreamModel, env: EnvConfig, seed: int) -> DreamState:
    """The state of a dream that begins at the first frame of the real episode with this seed."""
    made = make_env(env)
    try:
        frame, _ = made.reset(seed=seed)
    finally:
        made.close()
    posterior = dream.vision.encode(torch.from_numpy(task_for(env).view(frame[None])))
    return DreamState(dream.vision.mode(posterior), dream.memory.initial(1), torch.ones(1))
