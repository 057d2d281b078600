"""Play: a person at the keyboard, in the game or in a run's dream."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import torch

from agents.seeds import check_training_seed
from envs.actions import decode_actions
from envs.config import EnvConfig
from envs.make import make_env
from envs.tasks import DEFAULT_ENV_ID, task_for
from worldmodels.controller.agent import load_agent
from worldmodels.controller.dream_video import dream_start
from worldmodels.dream.model import DreamModel
from worldmodels.errors import UserError
from worldmodels.runs.run import Run
from worldmodels.training.fit import step_generator

WINDOW = (800, 640)


class Keyboard:
    """A window, and the action that the keys held down in it mean.

    Args:
        keys: pygame's name of a key -> encoded action; keys held together add up.
        idle: the encoded action while no key is held.
    """

    def __init__(self, title: str, keys: Mapping[str, Any], idle: np.ndarray) -> None:
        _require_screen()
        import pygame

        self._pygame = pygame
        pygame.init()
        self._surface = pygame.display.set_mode(WINDOW)
        pygame.display.set_caption(title)
        self._clock = pygame.time.Clock()
        self._keys = keys
        self._idle = idle
        self._held: set[str] = set()
        self.closed = False

    def show(self, frame: np.ndarray, frames_per_second: float) -> None:
        """Draw a frame over the whole window and wait until it is due."""
        pygame = self._pygame
        large = cv2.resize(frame, WINDOW, interpolation=cv2.INTER_NEAREST)
        surface = pygame.surfarray.make_surface(large.swapaxes(0, 1))
        self._surface.blit(surface, (0, 0))
        pygame.display.flip()
        self._clock.tick(frames_per_second)

    def action(self) -> np.ndarray:
        """The encoded action of the keys held now; Escape or closing the window sets `closed`."""
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
        if not held:
            return self._idle
        result: np.ndarray = np.sum(np.array(held, dtype=np.float32), axis=0)
        return result

    def close(self) -> None:
        """Close the window."""
        self._pygame.display.quit()


def chosen_env(
    run: Run, env_id: str | None, env_kwargs: Mapping[str, Any] | None, key: str | None
) -> EnvConfig:
    """The run's env, unless another is named; arguments and an observation key replace its own."""
    chosen = EnvConfig(DEFAULT_ENV_ID)
    if env_id is not None:
        chosen = EnvConfig(env_id)
    elif run.exists:
        chosen = run.settings.env
    if env_kwargs is not None:
        chosen = replace(chosen, kwargs=env_kwargs)
    return chosen if key is None else replace(chosen, observation_key=key)


def play_game(env: EnvConfig, seed: int) -> float:
    """One episode at the keyboard; its score."""
    _check_seed(seed)
    task = task_for(env)
    keyboard = Keyboard(f"{env} ({_legend(task.keys)})", task.keys, task.noop_action)
    made = make_env(env, render_mode="rgb_array")
    episode_return = 0.0
    try:
        made.reset(seed=seed)
        over = False
        while not over and not keyboard.closed:
            keyboard.show(np.asarray(made.render()), task.steps_per_second)
            native = decode_actions(made.action_space, keyboard.action()[None])[0]
            _, reward, terminated, truncated, _ = made.step(native)
            episode_return += float(reward)
            over = terminated or truncated
    finally:
        made.close()
        keyboard.close()
    return episode_return


def play_dream(run: Run, seed: int) -> float:
    """A run's dream at the keyboard, from a real first frame; the reward it expected in all."""
    _check_seed(seed)
    agent = load_agent(run.folder)
    task = task_for(agent.spec.env)
    keyboard = Keyboard(f"dream ({_legend(task.keys)})", task.keys, task.noop_action)
    dream = DreamModel(agent.vision, agent.memory)
    generator = step_generator(seed, 0)
    per_second = task.steps_per_second / agent.action_repeat
    episode_return = 0.0
    try:
        with torch.no_grad():
            state = dream_start(dream, agent.spec.env, seed)
            while not keyboard.closed and float(state.weight) > 0.5:
                keyboard.show(agent.vision.decode(state.latent)[0].numpy(), per_second)
                action = torch.from_numpy(keyboard.action())[None].float()
                state, reward = dream.step(state, action, generator)
                episode_return += float(reward)
    finally:
        keyboard.close()
    return episode_return


def _check_seed(seed: int) -> None:
    try:
        check_training_seed(seed)
    except ValueError as error:
        raise UserError(str(error)) from error


def _legend(keys: Mapping[str, Any]) -> str:
    return ", ".join(keys) + "; escape ends"


def _require_screen() -> None:
    """Raise UserError where a window would open nowhere."""
    screens = ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER")
    if sys.platform.startswith("linux") and not any(name in os.environ for name in screens):
        raise UserError("wm play opens a window, and this machine has no screen: use wm record")
