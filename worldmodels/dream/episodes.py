"""A batch of dreams of one run; the dreams begin at real states, and may end at different times."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from gymnasium import spaces
from jaxtyping import Bool, Float32, Float64, Int
from torch import Tensor

from envs.actions import encode_actions
from envs.tasks import task_for
from worldmodels.dream.load import encode_recent, load_world_model
from worldmodels.dream.model import DreamModel, DreamState, check_temperature
from worldmodels.dream.starts import real_states
from worldmodels.dream.support import Support
from worldmodels.errors import UserError, check_at_least, check_choice
from worldmodels.hardware import choose_device
from worldmodels.memory import Memory
from worldmodels.progress import Report
from worldmodels.runs.run import Run
from worldmodels.vision import Vision

STARTS = ("real", "reset")
FRAME_SHAPE = (64, 64, 3)


@dataclass(frozen=True, kw_only=True)
class DreamSettings:
    """Settings of dreams: their temperature, start, horizon, observations and device.

    Attributes:
        temperature: scale of the dream's uncertainty; at 1, latents are sampled from exactly the
            distribution that M predicts.
        start: "real" starts each dream at a random agent step of the newest training episodes. M's
            state is then computed from the earlier agent steps of the same episode. "reset" starts
            each dream at the first frame of one of the newest training episodes.
        horizon: number of agent steps after which a dream is truncated.
        render_frames: whether observations are decoded frames, uint8 (64, 64, 3), instead of
            features.
        device: the device of V and M, which is "cpu", "cuda", "mps" or "auto".
    """

    temperature: float = 1.0
    start: str = "real"
    horizon: int = 250
    render_frames: bool = False
    device: str = "cpu"

    def __post_init__(self) -> None:
        check_choice("start", self.start, STARTS)
        check_at_least(1, self, "horizon")
        check_temperature(self.temperature)


@dataclass(frozen=True)
class DreamWorld:
    """The models, the support and the start states that all dreams of a run share.

    Attributes:
        support: a dream ends when it leaves this region; see `Support`.
        states: all states of real episodes at which dreams may begin, one per row.
        first: for each episode, the index of its first state in `states`. The indices are int64
            (episodes,), on the CPU.
    """

    vision: Vision
    memory: Memory
    support: Support
    states: DreamState
    first: Int[Tensor, "episode"]

    @property
    def feature_space(self) -> spaces.Box:
        """The space of the features [z, h].

        The bounds of z are the bounds of V's features. If V has no such bounds, the bounds of z are
        the bounds of the support. The bounds of h are -1 and 1.
        """
        low, high = self.vision.feature_bounds() or (self.support.low, self.support.high)
        assert low is not None and high is not None, "only codes have no range"
        one = torch.ones(self.memory.config.num_hidden)
        lowest, highest = torch.cat([low.cpu(), -one]), torch.cat([high.cpu(), one])
        return spaces.Box(lowest.numpy(), highest.numpy())


@functools.lru_cache(maxsize=1)
def _load_world(folder: Path, device: str, _inputs: tuple[str, ...]) -> DreamWorld:
    """Load V and M of a run, and compute the start states from the run's newest episodes.

    The world that was loaded last is cached until another world is loaded or the files of the run
    change. A program that uses Stable-Baselines3 may make eight environments of one run at once.
    Without the cache, each environment would encode the episodes again, and this encoding takes
    most of the time of making an environment.
    """
    run = Run(folder)
    vision, memory = load_world_model(run, device)
    sequences = encode_recent(run, vision, Report(quiet=True))
    first = torch.zeros_like(sequences.mask)
    first[:, 0] = True
    return DreamWorld(
        vision,
        memory,
        Support.fit(vision, memory, sequences).to(device),
        real_states(vision, memory, sequences).to(device),
        first[sequences.mask].nonzero()[:, 0],
    )


class Dreams:
    """B dreams of one run, each in its own state.

    Args:
        count: B, the number of dreams.

    Attributes:
        state: the present states of all dreams.
        action_space: the action space of the real env. If this space is a Box, its type is float32.
        observation_space: the space of one dream's observation.
        frames_per_second: the number of agent steps in one second of the real env.

    Raises: UserError if the run lacks V, M or episodes, or if M was trained on another V.
    """

    def __init__(self, run: str | Path | Run, count: int, settings: DreamSettings) -> None:
        run = run if isinstance(run, Run) else Run(run)
        task = task_for(run.settings.env)
        self.settings = settings
        run.store.refresh()
        inputs = {**run.inputs("memory"), **run.inputs("controller")}
        device = choose_device(settings.device)
        self.world = world = _load_world(run.folder.resolve(), device, tuple(inputs.values()))
        self.model = DreamModel(world.vision, world.memory, settings.temperature, world.support)
        self.frames_per_second = task.steps_per_second / run.action_repeat
        self.action_space = task.action_map.space
        frames = spaces.Box(0, 255, FRAME_SHAPE, np.uint8)
        self.observation_space = frames if settings.render_frames else world.feature_space
        self._device = self.model.device
        self._action_map = task.action_map
        everywhere = torch.arange(len(world.states.weight))
        self._starts = world.first if settings.start == "reset" else everywhere
        self.state = world.states.rows(self._starts[:1].expand(count).to(self._device))
        self._age = np.zeros(count, dtype=np.int64)

    def begin(self, rows: Int[np.ndarray, "chosen"], rng: np.random.Generator) -> None:
        """Start the chosen dreams at newly sampled states."""
        picks = torch.from_numpy(rng.integers(len(self._starts), size=len(rows)))
        starts = self.world.states.rows(self._starts[picks].to(self._device))
        self.state = self.state.put(torch.from_numpy(rows).to(self._device), starts)
        self._age[rows] = 0

    @torch.no_grad()
    def step(
        self,
        rows: Int[np.ndarray, "chosen"],
        encoded: Float32[np.ndarray, "dream action"],
        rng: np.random.Generator,
    ) -> tuple[
        Float64[np.ndarray, "chosen"], Bool[np.ndarray, "chosen"], Bool[np.ndarray, "chosen"]
    ]:
        """Take one agent step in the chosen dreams; all random numbers come from `rng`.

        Args:
            encoded: the actions of all dreams, as `encode` returns them.

        Returns: for each chosen dream, the expected reward, whether the dream ended, and whether
            the dream reached the horizon without ending.
        """
        generator = torch.Generator(self._device).manual_seed(int(rng.integers(2**62)))
        index = torch.from_numpy(rows).to(self._device)
        actions = torch.from_numpy(encoded[rows]).to(self._device)
        state, reward = self.model.step(self.state.rows(index), actions, generator)
        ended = ~(rng.random(len(rows)) < state.weight.cpu().numpy())
        # Whether each dream ends has just been sampled, so the weights are 1 again.
        self.state = self.state.put(index, state._replace(weight=torch.ones_like(state.weight)))
        self._age[rows] += 1
        cut = (self._age[rows] >= self.settings.horizon) & ~ended
        return reward.cpu().numpy().astype(np.float64), ended, cut

    def encode(
        self, rows: Int[np.ndarray, "chosen"], actions: np.ndarray
    ) -> Float32[np.ndarray, "dream action"]:
        """Encode actions of the real env as inputs of M.

        Actions of a Box are clipped to the bounds of `action_space`. Only the actions of the
        chosen dreams are encoded. The result holds zeros for all dreams that are not chosen.

        Raises: UserError for invalid actions.
        """
        try:
            chosen = encode_actions(self.action_space, actions[rows])
        except ValueError as error:
            raise UserError(str(error)) from error
        wrong = np.isnan(chosen).any(1)
        if wrong.any():
            raise UserError(
                f"the action of dream {rows[wrong][0]} must not contain NaN, got "
                f"{actions[rows][wrong][0].tolist()}"
            )
        encoded = np.zeros((len(actions), chosen.shape[1]), np.float32)
        encoded[rows] = chosen if self._action_map.discrete else self._action_map.within(chosen)
        return encoded

    @torch.no_grad()
    def observe(self) -> np.ndarray:
        """Return each dream's observation: the features, float32 (B, F), or the decoded frame."""
        if self.settings.render_frames:
            return self.frames()
        return self.model.features(self.state).cpu().numpy()

    @torch.no_grad()
    def frames(self) -> np.ndarray:
        """Decode the present latents of all dreams to frames, uint8 (B, 64, 64, 3)."""
        return self.model.vision.decode(self.state.latent).cpu().numpy()
