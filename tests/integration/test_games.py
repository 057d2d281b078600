"""Games of other packages (the extra `games`) run from `wm collect` to `wm record`."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from envs.config import EnvConfig
from envs.make import make_env
from tests.fixtures.whole_pipeline import whole_pipeline

pytestmark = pytest.mark.slow


def test_atari_is_observed_as_it_is_with_arguments_of_its_constructor(tmp_path: Path) -> None:
    pytest.importorskip("ale_py")
    kwargs = {"frameskip": 2, "obs_type": "grayscale", "max_num_frames_per_episode": 200}
    given = [word for name in kwargs for word in ("--env-arg", f"{name}={kwargs[name]}")]
    run = whole_pipeline(tmp_path / "run", "ALE/Pong-v5", *given, "--max-steps", 40)
    assert run.settings.env.kwargs == kwargs
    rollout = run.store.episodes[0].load()
    assert rollout.frames.shape == (41, 64, 64, 3) and rollout.actions.shape == (40, 6)
    assert np.ptp(rollout.frames, axis=3).max() == 0  # gray
    assert rollout.frames.std() > 5


def test_atari_gets_the_usual_preprocessing() -> None:
    pytest.importorskip("ale_py")
    env = make_env("ALE/Freeway-v5", max_episode_steps=30)
    game: Any = env.unwrapped
    first: dict[int, np.ndarray] = {}
    starts = set()
    for seed in (0, 1, 2, 0):
        frame, _ = env.reset(seed=seed)
        starts.add(game.ale.getEpisodeFrameNumber())
        assert frame.shape == (64, 64, 3) and np.array_equal(first.setdefault(seed, frame), frame)
    assert len(starts) > 1 and max(starts) <= 30  # frames without action
    before = game.ale.getEpisodeFrameNumber()
    ends = [env.step(1)[2:4] for _ in range(30)]
    assert game.ale.getEpisodeFrameNumber() - before == 4 * 30
    assert ends[-1] == (False, True) and set(ends[:-1]) == {(False, False)}
    raw = make_env(EnvConfig("ALE/Freeway-v5", {"frameskip": 1}))
    raw.reset(seed=0)
    unskipped: Any = raw.unwrapped
    raw.step(1)
    assert unskipped.ale.getEpisodeFrameNumber() == 1


def test_minigrid_is_drawn_as_its_image_is_no_picture(tmp_path: Path) -> None:
    pytest.importorskip("minigrid")
    run = whole_pipeline(tmp_path / "run", "MiniGrid-DoorKey-5x5-v0", "--max-steps", 30)
    rollout = run.store.episodes[0].load()
    assert rollout.frames.shape == (31, 64, 64, 3) and rollout.actions.shape == (30, 7)
    assert rollout.frames.std() > 5
