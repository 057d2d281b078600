"""Observations and drawn pictures become frames, and unsuitable ones are refused."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from envs.config import EnvConfig
from envs.errors import EnvError
from envs.make import check_env, make_env, view_of
from tests.fixtures.odd_envs import BLIND_ID, DRAWN, HIGH, ODD_ID, STUBBORN_ID, WIDE


def odd(observation_key: str | None = None, env_id: str = ODD_ID, **kwargs: Any) -> EnvConfig:
    return EnvConfig(env_id, kwargs, observation_key)


def rendered(env: gym.Env[Any, Any]) -> np.ndarray:
    picture = env.render()
    assert isinstance(picture, np.ndarray)
    return picture


def shown(config: EnvConfig, steps: int = 2, **options: Any) -> int:
    """Return the gray level of the frame after some steps. All pixels have the same gray level."""
    env = make_env(config, **options)
    frame, _ = env.reset(seed=3)
    for _ in range(steps):
        frame, *_ = env.step(env.action_space.sample())
    env.close()
    assert frame.shape == (64, 64, 3) and frame.dtype == np.uint8 and np.ptp(frame) == 0
    return int(frame.flat[0])


@pytest.mark.parametrize(
    "kind",
    ["rgb", "rgba", "gray", "gray channel", "first", "first alpha", "floats", "doubles first"],
)
def test_pictures_of_every_format_are_observed(kind: str) -> None:
    config = odd(observation=kind, drawing=None)  # what it draws would be refused
    assert shown(config) == 2
    assert view_of(config).source == (HIGH, WIDE)


def test_channels_and_levels_keep_their_places() -> None:
    from envs.pictures import PictureFormat

    color = np.arange(16 * 17 * 4, dtype=np.uint32).reshape(16, 17, 4).astype(np.uint8)
    for array in (color, color.transpose(2, 0, 1)):
        found = PictureFormat.of(array)
        assert found is not None
        np.testing.assert_array_equal(found.rgb(array), color[:, :, :3])
    levels = np.linspace(0, 1, 16 * 16).reshape(16, 16)
    found = PictureFormat.of(levels)
    assert found is not None
    np.testing.assert_array_equal(found.rgb(levels)[:, :, 2], np.rint(levels * 255))
    assert PictureFormat.of(np.zeros((15, 16, 3), np.uint8)) is None
    assert PictureFormat.of(np.zeros((16, 16, 2), np.uint8)) is None
    assert PictureFormat.of(np.zeros((16, 16, 3), np.int64)) is None


@pytest.mark.parametrize(
    ("declared", "returned"),
    [("rgb", "rgba"), ("rgb", "gray"), ("floats", "rgb"), ("unbounded", "rgb"), ("vector", "rgb")],
)
def test_what_comes_counts_and_not_what_was_declared(declared: str, returned: str) -> None:
    assert shown(odd(observation=returned, declares=declared, drawing=None)) == 2


@pytest.mark.parametrize(
    ("observation", "declared"),
    [
        *(("small", None), ("vector", None), ("number", None), ("no picture", None)),
        *(("unbounded", None), ("vector", "rgb"), ("floats", "rgb"), ("small", "dict")),
    ],
)
@pytest.mark.parametrize("drawing", ["rgb", "rgba", "gray", "floats", "list"])
def test_anything_else_is_drawn(observation: str, declared: str | None, drawing: str) -> None:
    config = odd(observation=observation, declares=declared, drawing=drawing)
    assert shown(config) == 2 + DRAWN
    assert view_of(config).source == (HIGH, WIDE)


def test_the_entry_of_a_dict_that_is_a_picture_is_found_or_named() -> None:
    assert shown(odd(observation="dict", drawing=None)) == 2
    assert shown(odd(observation="text", drawing=None)) == 2
    assert shown(odd("right", observation="dicts", drawing=None)) == 2
    assert shown(odd("render", observation="dicts")) == 2 + DRAWN
    assert shown(odd("render", observation="rgb", drawing="gray")) == 2 + DRAWN
    refusals = {
        None: r"several pictures, left, right: select one of them with --obs",
        "middle": "an entry middle in the observations of .*, got left, .*: choose another key",
        "map": r"picture .* as map of .*, got uint8 of shape \(7, 7, 3\)",
    }
    for key, message in refusals.items():
        with pytest.raises(EnvError, match=message):
            check_env(odd(key, observation="dicts"))
    with pytest.raises(EnvError, match="got no Dict: choose another key"):
        check_env(odd("picture", observation="rgb"))


@pytest.mark.parametrize(
    ("observation", "change", "words"),
    [
        ("rgb", "size", r"uint8 of shape \(20, 24, 3\), as before, got uint8 of shape \(21, 24"),
        ("rgb", "channels", r"got uint8 of shape \(20, 24, 4\)"),
        ("rgb", "type", r"got float32 of shape \(20, 24, 3\)"),
        ("floats", "range", r"floats in \[0, 1\], got 1\.02 to 1\.02"),
        ("floats", "nan", r"floats in \[0, 1\], got nan to nan"),
        ("vector", "drawing", r"render\(\): .* as before, got uint8 of shape \(7, 7, 3\)"),
    ],
)
def test_a_frame_unlike_the_first_is_refused_at_its_step(
    observation: str, change: str, words: str
) -> None:
    env = make_env(odd(observation=observation, change=change, bad_step=5))
    env.reset(seed=8)
    for _ in range(4):
        env.step(0)
    with pytest.raises(EnvError, match=rf"Odd-v0 .*episode of seed 8, step 5, .*{words}"):
        env.step(0)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (
            odd(observation="vector", drawing=None),
            r"step 0, render\(\): expected a picture .* None",
        ),
        (odd(observation="vector", drawing="small"), r"got uint8 of shape \(7, 7, 3\)"),
        (odd(observation="vector", drawing="number"), "got int"),
        (odd(env_id=BLIND_ID, observation="vector"), "expected pictures .*float32 of shape"),
        (odd("render", env_id=BLIND_ID), r"or the render mode rgb_array, .* the render modes \["),
        (odd("render", env_id=STUBBORN_ID), "because its constructor takes no render_mode"),
    ],
)
def test_what_can_be_neither_observed_nor_drawn_is_refused(config: EnvConfig, words: str) -> None:
    with pytest.raises(EnvError, match=words):
        check_env(config)


def test_a_constructor_without_render_mode_serves_where_pictures_are_observed() -> None:
    for env_id in (BLIND_ID, STUBBORN_ID):
        assert shown(odd(env_id=env_id)) == 2
        env = make_env(odd(env_id=env_id), render_mode="rgb_array")
        env.reset(seed=0)
        env.step(0)
        assert rendered(env).shape == (HIGH, WIDE, 3)  # the observation: there is nothing else
        assert (rendered(env) == 1).all()


def test_the_large_picture_is_rgb_too_and_keeps_its_size() -> None:
    env = make_env(
        odd(observation="gray", drawing="rgba", change="drawing", bad_step=2),
        render_mode="rgb_array",
    )
    env.reset(seed=0)
    assert rendered(env).shape == (HIGH, WIDE, 3)
    env.step(0)
    assert (rendered(env) == 1 + DRAWN).all()
    env.step(0)
    with pytest.raises(EnvError, match=r"render\(\): .*as before"):
        env.render()
