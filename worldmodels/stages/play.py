"""Let a person play at the keyboard, in the game or in a run's dream."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import torch

from agents.seeds import check_training_seed
from envs.actions import decode_actions
from envs.config import EnvConfig
from envs.make import make_env
from envs.tasks import DEFAULT_ENV_ID, Task, task_for
from worldmodels.controller.agent import load_agent
from worldmodels.controller.dream_video import dream_start
from worldmodels.dream.model import DreamModel
from worldmodels.errors import UserError
from worldmodels.runs.run import Run
from worldmodels.training.fit import step_generator

WINDOW = (800, 640)


class Keyboard:
    """A window that shows frames and reads keys.

    If several keys are held down, their actions are added.

    Raises: UserError if there is no screen for the window.
    """

    def __init__(self, title: str, task: Task) -> None:
        screens = ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER")
        if sys.platform.startswith("linux") and not any(name in os.environ for name in screens):
            raise UserError("wm play opens a window, but this machine has no screen: use wm record")
        import pygame

        self._pygame = pygame
        pygame.init()
        self._surface = pygame.display.set_mode(WINDOW)
        pygame.display.set_caption(f"{title} ({', '.join(task.keys)}; escape ends)")
        self._clock = pygame.time.Clock()
        self._keys = task.keys
        self._idle = task.noop_action
        self._held: set[str] = set()
        self.closed = False

    def show(self, frame: np.ndarray, frames_per_second: float) -> None:
        """Draw a frame over the whole window, and wait until the next frame is due."""
        pygame = self._pygame
        large = cv2.resize(frame, WINDOW, interpolation=cv2.INTER_NEAREST)
        surface = pygame.surfarray.make_surface(large.swapaxes(0, 1))
        self._surface.blit(surface, (0, 0))
        pygame.display.flip()
        self._clock.tick(frames_per_second)

    def action(self) -> np.ndarray:
        """Return the encoded action of all keys that are held down.

        If Escape was pressed or the window was closed, `closed` becomes True.
        """
        pygame = self._pygame
        for event in pygame.event.get():
            if event.type == pygame.QUIT:
                self.closed = True
            elif event.type in (pygame.KEYDOWN, pygame.KEYUP):
                name = pygame.key.name(event.key)
                if name == "escape":
                    self.closed = True
                (self._held.add if event.type == pygame.KEYDOWN else self._held.discard)(name)
        held = [self._keys[name] for name in sorted(self._held) if name in self._keys]
        action: np.ndarray = np.sum(np.array(held, np.float32), axis=0) if held else self._idle
        return action

    def close(self) -> None:
        """Close the window."""
        self._pygame.display.quit()


def chosen_env(
    run: Run, env_id: str | None, env_kwargs: Mapping[str, Any] | None, key: str | None
) -> EnvConfig:
    """Return the env `env_id`, or the run's env if `env_id` is None.

    If `env_id` is None and the run does not exist, the default env is returned. If `env_kwargs` or
    `key` is given, it replaces the corresponding setting of the env.
    """
    if env_id is None and run.exists:
        chosen = run.settings.env
    else:
        chosen = EnvConfig(DEFAULT_ENV_ID if env_id is None else env_id)
    given: dict[str, Any] = {"kwargs": env_kwargs, "observation_key": key}
    return replace(chosen, **{name: value for name, value in given.items() if value is not None})


def play_game(env: EnvConfig, seed: int) -> float:
    """Play one episode at the keyboard, and return the sum of its rewards."""
    _check_seed(seed)
    task = task_for(env)
    episode_return = 0.0
    over = False
    with (
        closing(Keyboard(str(env), task)) as keyboard,
        closing(make_env(env, render_mode="rgb_array")) as made,
    ):
        made.reset(seed=seed)
        while not over and not keyboard.closed:
            keyboard.show(np.asarray(made.render()), task.steps_per_second)
            native = decode_actions(made.action_space, keyboard.action()[None])[0]
            _, reward, terminated, truncated, _ = made.step(native)
            episode_return += float(reward)
            over = terminated or truncated
    return episode_return


@torch.no_grad()
def play_dream(run: Run, seed: int) -> float:
    """Play in a dream that begins at a real first frame; return the sum of the expected rewards."""
    _check_seed(seed)
    agent = load_agent(run.folder)
    task = task_for(agent.spec.env)
    dream = DreamModel(agent.vision, agent.memory)
    generator = step_generator(seed, 0)
    per_second = task.steps_per_second / agent.action_repeat
    episode_return = 0.0
    with closing(Keyboard("dream", task)) as keyboard:
        state = dream_start(dream, agent.spec.env, seed)
        while not keyboard.closed and float(state.weight) > 0.5:
            keyboard.show(agent.vision.decode(state.latent)[0].numpy(), per_second)
            action = torch.from_numpy(keyboard.action())[None].float()
            state, reward = dream.step(state, action, generator)
            episode_return += float(reward)
    return episode_return


def _check_seed(seed: int) -> None:
    try:
        check_training_seed(seed)
    except ValueError as error:
        raise UserError(str(error)) from error
