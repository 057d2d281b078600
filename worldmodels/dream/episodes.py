"""Dreams of a run side by side: each begins at a real state, and ends on its own."""

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
from worldmodels.errors import UserError
from worldmodels.hardware import choose_device
from worldmodels.memory import LSTMState, Memory
from worldmodels.progress import Report
from worldmodels.runs.run import Run
from worldmodels.vision import Vision

STARTS = ("real", "reset")
FRAME_SHAPE = (64, 64, 3)


@dataclass(frozen=True, kw_only=True)
class DreamSettings:
    """How dreams begin, go on and end, and what is observed; see `make_dream`."""

    temperature: float = 1.0
    start: str = "real"
    horizon: int = 250
    render_frames: bool = False
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.start not in STARTS:
            raise UserError(f'expected a start among {", ".join(STARTS)}, got "{self.start}"')
        if self.horizon < 1:
            raise UserError(f"expected a horizon of 1 agent step or more, got {self.horizon}")
        check_temperature(self.temperature)


@dataclass(frozen=True)
class DreamWorld:
    """What all dreams of a run share; nothing in it ever changes.

    Attributes:
        support: where dreams may go.
        states: all the real states that dreams may begin at, (states, ...).
        first: which of them are the first of their episode, int64 (episodes,), on the CPU.
    """

    vision: Vision
    memory: Memory
    support: Support
    states: DreamState
    first: Int[Tensor, "episode"]

    @property
    def feature_bounds(
        self,
    ) -> tuple[Float32[np.ndarray, "feature"], Float32[np.ndarray, "feature"]]:
        """Between which numbers every feature lies: z as far as dreams may go, h within 1."""
        low, high = self.vision.feature_bounds() or (self.support.low, self.support.high)
        assert low is not None and high is not None, "only codes have no range"
        one = torch.ones(self.memory.config.num_hidden)
        return torch.cat([low.cpu(), -one]).numpy(), torch.cat([high.cpu(), one]).numpy()


def load_dream_world(run: Run, device: str) -> DreamWorld:
    """V, M and the newest episodes of a run, ready to dream on.

    Envs of one run share one world: Stable-Baselines3 makes eight at once, and encoding the
    episodes takes longer than everything else.

    Raises: UserError for a run without V, M or episodes, or with an M for another V.
    """
    run.store.refresh()
    inputs = {**run.inputs("memory"), **run.inputs("controller")}
    return _load_world(run.folder.resolve(), choose_device(device), tuple(inputs.values()))


@functools.lru_cache(maxsize=1)
def _load_world(folder: Path, device: str, _inputs: tuple[str, ...]) -> DreamWorld:
    """The newest world is kept, until another is needed or its files change."""
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
    """B dreams of one run, each at its own place.

    Args:
        count: B.

    Attributes:
        action_space: the env's, float32 where it is a Box.
        observation_space: of what `observe` gives of each dream.
        frames_per_second: agent steps per second of the real env.

    Raises: UserError as `load_dream_world`.
    """

    def __init__(self, run: str | Path | Run, count: int, settings: DreamSettings) -> None:
        run = run if isinstance(run, Run) else Run(run)
        task = task_for(run.settings.env)
        self.action_space = task.action_map.space
        self.settings = settings
        self.world = world = load_dream_world(run, settings.device)
        self.model = DreamModel(world.vision, world.memory, settings.temperature, world.support)
        self._device = self.model.device
        self.frames_per_second = task.steps_per_second / run.action_repeat
        self.observation_space: spaces.Box
        if settings.render_frames:
            self.observation_space = spaces.Box(0, 255, FRAME_SHAPE, np.uint8)
        else:
            self.observation_space = spaces.Box(*world.feature_bounds, dtype=np.float32)
        everywhere = torch.arange(len(world.states.weight))
        self._starts = world.first if settings.start == "reset" else everywhere
        self._state = world.states.rows(self._starts[:1].expand(count).to(self._device))
        self._age = np.zeros(count, dtype=np.int64)

    @property
    def state(self) -> DreamState:
        """Where the dreams stand."""
        return self._state

    def begin(self, rows: Int[np.ndarray, "chosen"], rng: np.random.Generator) -> None:
        """Start the chosen dreams at states drawn anew."""
        picks = torch.from_numpy(rng.integers(len(self._starts), size=len(rows)))
        self._put(rows, self.world.states.rows(self._starts[picks].to(self._device)))
        self._age[rows] = 0

    @torch.no_grad()
    def step(
        self, rows: Int[np.ndarray, "chosen"], actions: np.ndarray, rng: np.random.Generator
    ) -> tuple[
        Float64[np.ndarray, "chosen"], Bool[np.ndarray, "chosen"], Bool[np.ndarray, "chosen"]
    ]:
        """One agent step in the chosen dreams; all their noise comes from `rng`.

        Args:
            actions: native ones of the chosen dreams, (chosen, ...).

        Returns: rewards expected, which dreams ended, and which others are at the horizon.

        Raises: UserError for actions that are none.
        """
        encoded = torch.from_numpy(self.encode(rows, actions))
        generator = torch.Generator(self._device).manual_seed(int(rng.integers(2**62)))
        before = self._state.rows(torch.from_numpy(rows).to(self._device))
        state, reward = self.model.step(before, encoded.to(self._device), generator)
        ended = ~(rng.random(len(rows)) < state.weight.cpu().numpy())
        # That it goes on has just been drawn: from here on it is certain.
        self._put(rows, state._replace(weight=torch.ones_like(state.weight)))
        self._age[rows] += 1
        return (
            reward.cpu().numpy().astype(np.float64),
            ended,
            (self._age[rows] >= self.settings.horizon) & ~ended,
        )

    def encode(
        self, rows: Int[np.ndarray, "chosen"], actions: np.ndarray
    ) -> Float32[np.ndarray, "chosen action"]:
        """Native actions of the chosen dreams for M: clipped to a Box, the range M was trained on.

        Raises: UserError for actions that are none.
        """
        space = self.action_space
        try:
            encoded = encode_actions(space, actions)
        except ValueError as error:
            raise UserError(str(error)) from error
        wrong = np.isnan(encoded).any(1)
        if wrong.any():
            raise UserError(
                f"expected actions that are numbers, got {actions[wrong][0].tolist()} for dream "
                f"{rows[wrong][0]}"
            )
        if isinstance(space, spaces.Discrete):
            return encoded
        # Bounds may be integers.
        result: np.ndarray = np.clip(encoded, space.low, space.high).astype(np.float32)
        return result

    @torch.no_grad()
    def observe(self) -> np.ndarray:
        """The observation of each dream: features float32 (B, F), or its frames."""
        if self.settings.render_frames:
            return self.frames()
        return self.model.features(self._state).cpu().numpy()

    @torch.no_grad()
    def frames(self) -> np.ndarray:
        """The present latents as V draws them, uint8 (B, 64, 64, 3)."""
        return self.model.vision.decode(self._state.latent).cpu().numpy()

    def _put(self, rows: np.ndarray, new: DreamState) -> None:
        """The chosen dreams are now at other places."""
        old, index = self._state, torch.from_numpy(rows).to(self._device)
        self._state = DreamState(
            old.latent.index_copy(0, index, new.latent),
            LSTMState(
                old.memory.h.index_copy(0, index, new.memory.h),
                old.memory.c.index_copy(0, index, new.memory.c),
            ),
            old.weight.index_copy(0, index, new.weight),
        )
