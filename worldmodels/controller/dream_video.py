"""One dream as a video: what acts in it, its frames, and the file."""

from collections.abc import Callable, Iterator
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
from worldmodels.progress import Report
from worldmodels.training.fit import step_generator

# What acts: the dream's state and the agent step's number -> an encoded action (1, A), or None
# where there is none left.
Actor = Callable[[DreamState, int], Tensor | None]


# Long list of parameters: what acts where, and what of it is recorded.
def write_dream_video(
    out: Path,
    dream: DreamModel,
    act: Actor,
    env: EnvConfig,
    action_repeat: int,
    *,
    horizon: int,
    episode: int,
    report: Report,
) -> dict[str, Any]:
    """Write a video of one dream; the same one every time.

    Args:
        agent steps: at most; the dream ends earlier where M says so.
        episode: of the validation split, whose first frame the dream begins at.

    Raises: UserError for a video's name or folder that cannot be written.
    """
    check_video(out)
    state = dream_start(dream, env, seeds("validation", 1, start=episode)[0])
    totals = {"frames": 0, "dreamed_return": 0.0}
    with report.progress(f"dream {out.name}", total=horizon) as meter:

        def counted() -> Iterator[np.ndarray]:
            for frame, reward in dream_frames(dream, state, act, horizon, episode):
                totals["frames"] += 1
                totals["dreamed_return"] += reward
                meter.advance()
                yield frame

        write_video(out, counted(), task_for(env).steps_per_second / action_repeat)
    report.log(f"dreamed {totals['frames']} agent steps to {out}")
    return {"video": str(out), **totals}


def dream_frames(
    dream: DreamModel, state: DreamState, act: Actor, horizon: int, seed: int
) -> Iterator[tuple[np.ndarray, float]]:
    """Captioned frames of a dream, and the reward expected of the agent step after each of them."""
    generator = step_generator(seed, 0)
    episode_return = reward = 0.0
    for agent_step in range(horizon):
        action = act(state, agent_step)
        if action is None:
            break
        frame = dream.vision.decode(state.latent)[0].numpy()
        lines = [
            f"dream at temperature {dream.temperature:g}   agent step {agent_step}",
            f"reward {reward:+.1f}   score {episode_return:.1f}",
        ]
        with torch.no_grad():
            state, expected = dream.step(state, action, generator)
        reward = float(expected)
        yield caption(side_by_side([frame], ["M dreams"]), lines), reward
        episode_return += reward
        if float(state.weight) < 0.5:
            break


def check_video(out: Path) -> None:
    """Raise UserError where no video could be written under this name."""
    if out.suffix not in (".mp4", ".gif"):
        raise UserError(f"expected a video name ending in .mp4 or .gif, got {out}")
    if not out.parent.is_dir():
        raise UserError(f"no folder {out.parent}: create it first, or name another with --out")


@torch.no_grad()
def dream_start(dream: DreamModel, env: EnvConfig, seed: int) -> DreamState:
    """A dream's state at the first real frame of the episode with this seed."""
    made = make_env(env)
    try:
        frame, _ = made.reset(seed=seed)
    finally:
        made.close()
    posterior = dream.vision.encode(torch.from_numpy(task_for(env).view(frame[None])))
    return DreamState(dream.vision.mode(posterior), dream.memory.initial(1), torch.ones(1))


def agent_actor(agent: Agent, dream: DreamModel) -> Actor:
    """The agent's C, seeing the dream's [z, h]."""
    return lambda state, agent_step: agent.actions_for(dream.features(state))
