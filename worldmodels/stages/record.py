"""Record a video of the agent in the game, in the dream, or in both side by side."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from agents.seeds import SEED_RANGES, seeds
from agents.video import caption, side_by_side, write_video
from envs.make import make_env
from envs.tasks import task_for
from worldmodels.controller.agent import Agent, load_agent
from worldmodels.controller.dream_video import ActedDream, check_video, write_dream_video
from worldmodels.dream.model import DreamModel, DreamState, check_temperature
from worldmodels.errors import UserError, check_at_least
from worldmodels.progress import Report
from worldmodels.runs.run import Run
from worldmodels.training.fit import step_generator

RESYNC = 15  # agent steps after which a side-by-side dream is reset to the real state


@dataclass(frozen=True)
class RecordConfig:
    """Settings of the video.

    Attributes:
        dream: whether to record the agent in a dream that begins at a real first frame.
        side_by_side: whether each picture of the video shows the real frame, V's reconstruction of
            this frame, and the dreamed frame.
        max_steps: largest number of env steps in the video; None stands for 1,000 env steps.
        episode: number of the validation episode that is recorded.
        temperature: temperature of the dream, which is only used with `dream` or `side_by_side`.
    """

    dream: bool = False
    side_by_side: bool = False
    max_steps: int | None = None
    episode: int = 0
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if self.dream and self.side_by_side:
            raise UserError("expected at most one of --dream and --side-by-side, got both")
        check_at_least(1, self, "max_steps")
        if not 0 <= self.episode < len(SEED_RANGES["validation"]):
            raise UserError(f"expected the number of a validation episode, got {self.episode}")
        if self.temperature != 1.0 and not (self.dream or self.side_by_side):
            raise UserError("--temperature is an option of dreams: add --dream or --side-by-side")
        check_temperature(self.temperature)


def record(
    run: Run, out: Path, config: RecordConfig, *, report: Report, agent: Path | None = None
) -> dict[str, Any]:
    """Write a video of a validation episode; the same agent and config always give the same video.

    Args:
        agent: file of an agent, or folder of a run; None stands for the agent of `run`.
    """
    if agent is None:
        _ = run.settings  # raises the right error if there is no run at all
    player = load_agent(agent or run.folder)
    steps = config.max_steps or 1000
    if config.dream:
        return write_dream_video(
            out,
            ActedDream.of_agent(player, config.temperature),
            horizon=max(1, steps // player.action_repeat),
            episode=config.episode,
            report=report,
        )
    check_video(out)
    with report.progress(f"record {out.name}", total=steps) as meter:
        frames = meter.counted(_real(player, config, steps))
        write_video(out, frames, task_for(player.spec.env).steps_per_second)
    report.log(f"recorded {meter.done} frames to {out}")
    return {"video": str(out), "frames": meter.done}


def _real(agent: Agent, config: RecordConfig, max_steps: int) -> Iterator[np.ndarray]:
    """Play a real episode, and yield one picture per env step."""
    seed = seeds("validation", 1, start=config.episode)[0]
    follower = _Follower(agent, config.temperature)
    episode_return, reward = 0.0, 0.0
    with closing(make_env(agent.spec.env, render_mode="rgb_array")) as env:
        frame, _ = env.reset(seed=seed)
        agent.reset(num_envs=1, seed=seed)
        for step in range(max_steps):
            action = agent.act(frame[None])[0]
            picture = np.asarray(env.render())
            lines = [f"step {step}   reward {reward:+.1f}   score {episode_return:.1f}"]
            if config.side_by_side:
                follower.take_step(step)
                lines.append(f"{follower.age} agent steps since the dream was set to a real state")
                pictures = [picture, follower.reconstruction, follower.dreamed]
                picture = side_by_side(pictures, ["real", "reconstruction", "dream"])
            yield caption(picture, lines)
            frame, rewards, terminated, truncated, _ = env.step(action)
            reward = float(rewards)
            episode_return += reward
            if terminated or truncated:
                break


class _Follower:
    """A dream that uses the actions of a real episode.

    Every `RESYNC` agent steps the dream is reset to the state of the real episode.
    """

    def __init__(self, agent: Agent, temperature: float) -> None:
        self.agent = agent
        self.dream = DreamModel(agent.vision, agent.memory, temperature)
        self.generator = step_generator(0, 0)
        self._action: torch.Tensor

    @torch.no_grad()
    def take_step(self, step: int) -> None:
        """Advance the dream after the agent has chosen its action at env step `step`."""
        if step % self.agent.action_repeat:
            return
        self.age = step // self.agent.action_repeat % RESYNC
        if self.age == 0:
            self._state = DreamState(self.agent.latent, self.agent.memory_state, torch.ones(1))
        else:
            self._state, _ = self.dream.step(self._state, self._action, self.generator)
        self._action = self.agent.last_action
        vision = self.agent.vision
        self.reconstruction = vision.decode(self.agent.latent)[0].numpy()
        self.dreamed = vision.decode(self._state.latent)[0].numpy()
