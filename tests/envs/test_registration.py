"""Ids, modules and arguments of environments, and the error line for each wrong one."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest

from envs.config import EnvConfig
from envs.errors import EnvError
from envs.make import make_env, make_envs
from envs.registration import create_env
from tests.fixtures.odd_envs import ODD_ID

MODULE = """
import gymnasium as gym
import numpy as np

class Here(gym.Env):
    observation_space = gym.spaces.Box(0, 255, (20, 20, 3), np.uint8)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, level=7):
        import {name}_levels
        self.level = {name}_levels.LEVEL + level

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.full((20, 20, 3), self.level, np.uint8), {{}}

    def step(self, action):
        return self.reset()[0], 1.0, False, False, {{}}

gym.register("Here-v0", "{name}:Here", max_episode_steps=5)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return the current folder, from which Python does not import; remove its modules later."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place])
    yield tmp_path
    gym.registry.pop("Here-v0", None)
    for name, module in list(sys.modules.items()):
        if str(tmp_path) in str(getattr(module, "__file__", "")):
            del sys.modules[name]


def test_a_module_of_the_current_folder_is_found_here_and_by_workers(folder: Path) -> None:
    (folder / "myenvs_here.py").write_text(MODULE.format(name="myenvs_here"))
    (folder / "myenvs_here_levels.py").write_text("LEVEL = 100")
    before = list(sys.path)
    config = EnvConfig("myenvs_here:Here-v0", {"level": 11})
    for num_workers in (0, 2):
        envs = make_envs(2, num_workers, env_id=config)
        frames, _ = envs.reset(seed=0)
        assert (frames == 111).all()
        envs.close()
    assert sys.path == before


def test_the_current_folder_stands_in_front_of_nothing(folder: Path) -> None:
    (folder / "json.py").write_text("raise RuntimeError")
    (folder / "colorsys.py").write_text("raise RuntimeError")  # nobody has imported it yet
    sys.modules.pop("colorsys", None)
    (folder / "myenvs_front.py").write_text("import colorsys\nassert colorsys.rgb_to_hsv")
    with pytest.raises(gym.error.NameNotFound):
        make_env("myenvs_front:Nowhere-v0")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "no module myenvs_bad for myenvs_bad:X-v0: expected a module that is installed"),
        ("import no_such_library", "myenvs_bad .*imports no_such_library, which is not installed"),
        ("from gymnasium import nothing_such", "importing .*myenvs_bad.* raised ImportError"),
        ("def f(:", r"importing .* raised SyntaxError: .*myenvs_bad.py, line 1"),
        ("x = 1 / 0", "raised ZeroDivisionError: division by zero .*myenvs_bad.py, line 1"),
        ("raise SystemExit(3)", "raised SystemExit: 3"),
    ],
)
def test_a_module_that_cannot_be_imported_is_one_line(
    folder: Path, content: str | None, words: str
) -> None:
    if content is not None:
        (folder / "myenvs_bad.py").write_text(content)
    with pytest.raises(EnvError, match=words) as caught:
        make_env("myenvs_bad:X-v0")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"fails": "constructor"}, r"raised RuntimeError: no license \(.*odd_envs.py, line"),
        ({"color": 1}, "raised TypeError: .*argument 'color'.*: correct --env-arg"),
        ({"observation": "nothing"}, "raised KeyError: 'nothing'"),
    ],
)
def test_a_constructor_that_raises_is_one_line(kwargs: dict[str, Any], words: str) -> None:
    with pytest.raises(EnvError, match=rf"Odd-v0 \(.*\) could not be made, .*{words}"):
        create_env(EnvConfig(ODD_ID, kwargs))


def test_gymnasiums_own_errors_stay_as_they_are() -> None:
    with pytest.raises(gym.error.DependencyNotInstalled, match="pip install gamelib"):
        create_env(EnvConfig(ODD_ID, {"fails": "dependency"}))
    with pytest.raises(gym.error.NameNotFound, match="NoSuch"):
        create_env("tests.fixtures.odd_envs:NoSuch-v0")


def test_an_env_config_survives_a_round_trip_through_json() -> None:
    choice = EnvConfig("X-v0", {"sizes": (1, 2), "name": "a"}, "image")
    assert choice == EnvConfig("X-v0", {"name": "a", "sizes": [1, 2]}, "image")
    assert hash(choice) == hash(EnvConfig("X-v0", {"name": "a", "sizes": [1, 2]}, "image"))
    assert choice != EnvConfig("X-v0", {"name": "a", "sizes": [1, 2]})
    assert str(choice) == 'X-v0 (name="a", sizes=[1, 2], observation key image)'
    assert EnvConfig.of("X-v0") == EnvConfig("X-v0")
    with pytest.raises(EnvError, match="render_mode is not an argument that --env-arg can set"):
        EnvConfig("X-v0", {"render_mode": "human"})
    for value in (float("nan"), {1, 2}):
        with pytest.raises(EnvError, match="expected JSON values as arguments of X-v0"):
            EnvConfig("X-v0", {"value": value})


def test_the_games_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        EnvError, match=r'needs the package ale_py: run "pip install worldmodels-gym\['
    ):
        create_env("ALE/NoSuchGame-v5")
