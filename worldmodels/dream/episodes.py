"""A batch of dreams of one run: each begins at a real state and ends independently."""

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
    """Settings of dreams: how they begin, continue and end, and what is observed.

    Attributes:
        temperature: uncertainty of the dream; at 1, latents are sampled as M predicts them.
        start: "real" starts at any agent step of the newest training episodes, with M's state
            after the real past; "reset" starts at the first frame of one of these episodes.
        horizon: agent steps after which a dream is truncated.
        render_frames: observe decoded frames, uint8 (64, 64, 3), instead of features.
        device: where V and M compute: cpu, cuda, mps or auto.
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
        support: the latents and predictions that dreams are limited to.
        states: all real states at which dreams may begin, (states, ...).
        first: indices of those states that begin an episode, int64 (episodes,), on the CPU.
    """

    vision: Vision
    memory: Memory
    support: Support
    states: DreamState
    first: Int[Tensor, "episode"]

    @property
    def feature_space(self) -> spaces.Box:
        """The range of the features: z within the bounds of V or the support, h within [-1, 1]."""
        low, high = self.vision.feature_bounds() or (self.support.low, self.support.high)
        assert low is not None and high is not None, "only codes have no range"
        one = torch.ones(self.memory.config.num_hidden)
        lowest, highest = torch.cat([low.cpu(), -one]), torch.cat([high.cpu(), one])
        return spaces.Box(lowest.numpy(), highest.numpy())


@functools.lru_cache(maxsize=1)
def _load_world(folder: Path, device: str, _inputs: tuple[str, ...]) -> DreamWorld:
    """Load V and M of a run, and compute the start states from its newest episodes.

    The last world is cached until another one is loaded or its files change. Stable-Baselines3
    makes eight environments of one run at once, and encoding the episodes takes most of the time.
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
        state: the present state of all dreams.
        action_space: the env's action space, float32 if it is a Box.
        observation_space: the space of one dream's observation.
        frames_per_second: agent steps per second of the real env.

    Raises: UserError for a run without V, M or episodes, or if M was trained on another V.
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
        """Take one agent step in the chosen dreams; all their noise comes from `rng`.

        Args:
            encoded: actions of all dreams, see `encode`.

        Returns: the expected rewards, which dreams ended, and which others reached the horizon.
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
        """Encode actions of the env for M, those of a Box clipped to the range of M's training.

        Only the actions of the chosen dreams are read. The others are zeros in the result.

        Raises: UserError for invalid actions.
        """
        try:
            chosen = encode_actions(self.action_space, actions[rows])
        except ValueError as error:
            raise UserError(str(error)) from error
        wrong = np.isnan(chosen).any(1)
        if wrong.any():
            raise UserError(
                f"expected actions that are numbers, got {actions[rows][wrong][0].tolist()} for "
                f"dream {rows[wrong][0]}"
            )
        encoded = np.zeros((len(actions), chosen.shape[1]), np.float32)
        encoded[rows] = chosen if self._action_map.discrete else self._action_map.within(chosen)
        return encoded

    @torch.no_grad()
    def observe(self) -> np.ndarray:
        """Return the observation of each dream: its features, float32 (B, F), or its frame."""
        if self.settings.render_frames:
            return self.frames()
        return self.model.features(self.state).cpu().numpy()

    @torch.no_grad()
    def frames(self) -> np.ndarray:
        """Decode the present latents to frames, uint8 (B, 64, 64, 3)."""
        return self.model.vision.decode(self.state.latent).cpu().numpy()
