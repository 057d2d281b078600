"""`wm play` turns pressed keys into actions; the tests use a window of SDL's dummy driver."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pygame
import pytest

from envs.tasks import task_for
from tests.fixtures.command import wm, wm_json
from worldmodels.stages import play


@pytest.fixture(autouse=True)
def _dummy_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")


def press(*keys: int, kind: int = pygame.KEYDOWN) -> None:
    for key in keys:
        pygame.event.post(pygame.event.Event(kind, key=key))


@pytest.fixture
def keyboard() -> Iterator[play.Keyboard]:
    task = task_for("CarRacing-v3")
    keyboard = play.Keyboard("test", task)
    yield keyboard
    keyboard.close()


def test_keys_held_together_add_up_until_released(keyboard: play.Keyboard) -> None:
    np.testing.assert_array_equal(keyboard.action(), [0, 0, 0])
    press(pygame.K_LEFT, pygame.K_UP)
    np.testing.assert_array_equal(keyboard.action(), [-1, 1, 0])
    np.testing.assert_array_equal(keyboard.action(), [-1, 1, 0])
    press(pygame.K_UP, kind=pygame.KEYUP)
    press(pygame.K_DOWN, pygame.K_SPACE)
    np.testing.assert_array_equal(keyboard.action(), np.array([-1, 0, 0.8], np.float32))


@pytest.mark.parametrize("event", ["escape", "quit"])
def test_escape_or_closing_the_window_ends(keyboard: play.Keyboard, event: str) -> None:
    if event == "escape":
        press(pygame.K_ESCAPE)
    else:
        pygame.event.post(pygame.event.Event(pygame.QUIT))
    keyboard.action()
    assert keyboard.closed


def hold(monkeypatch: pytest.MonkeyPatch, name: str, steps: int) -> None:
    """Simulate a player who holds one key for a number of steps and then leaves."""
    taken = []

    def action(self: play.Keyboard) -> np.ndarray:
        taken.append(name)
        self.closed = len(taken) >= steps
        return np.array(self._keys[name], np.float32)

    monkeypatch.setattr(play.Keyboard, "action", action)
    monkeypatch.setattr(play.Keyboard, "show", lambda self, frame, fps: None)


def test_the_game_is_played_for_its_score(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hold(monkeypatch, "up", 30)
    done = wm("play", "--run", tmp_path / "none", "--seed", 3)
    assert done.code == 0
    # Full gas passes some tiles at about 3.5 each in 30 steps of -0.1; standing pays -3.
    assert float(done.output.removeprefix("return ")) > 3
    assert not (tmp_path / "none").exists()


def test_a_dream_is_played_at_the_keyboard(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    run = ("--run", tmp_path / "run")
    wm_json("collect", *run, "--preset", "tiny", "--episodes", 4, "--max-steps", 40)
    wm_json("train-vision", *run, "--train-steps", 3, "--quantized")
    wm_json("train-memory", *run, "--train-steps", 3)
    wm_json("train-controller", *run, "--dream", "--train-steps", 2)
    hold(monkeypatch, "left", 5)
    done = wm("play", *run, "--dream")
    assert done.code == 0
    assert np.isfinite(float(done.output.removeprefix("return ")))


def test_no_screen_and_a_validation_seed_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    done = wm("play", "--seed", 1_000_000)
    assert done.code == 2
    assert "not a training seed" in done.error
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER"):
        monkeypatch.delenv(name, raising=False)
    done = wm("play")
    assert done.code == 2
    assert done.error.strip().endswith("this machine has no screen: use wm record")
