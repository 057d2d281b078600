"""Frames of the fast renderer, compared with Gymnasium's own frames of the same state."""

from typing import Any

import numpy as np
import pytest
from gymnasium.envs.box2d.car_racing import CarRacing

from envs.camera import STOCK_CAMERA, after_smoothscale
from envs.car_racing import FastCarRacing
from envs.scripted_driver import ScriptedDriver
from envs.views import PAPER_VIEW


def seen_by_stock(env: FastCarRacing) -> np.ndarray:
    """Render the present state of `env` with Gymnasium's renderer, in the view of `env`."""
    frame = CarRacing._render(env, "state_pixels")
    return frame if env.view == "stock" else PAPER_VIEW(frame)


def difference_from_stock(frame: np.ndarray, env: FastCarRacing) -> np.ndarray:
    """Return the absolute differences of color levels, without the rows of the indicators."""
    rows = slice(0, 84) if env.view == "stock" else slice(None)
    difference: np.ndarray = np.abs(frame.astype(int) - seen_by_stock(env))[rows]
    return difference


@pytest.mark.parametrize(
    ("view", "options", "largest_first", "largest_later"),
    [
        ("paper", {}, 0.5, 0.4),  # measured 0.39 and 0.31 over 20 episodes
        ("stock", {}, 0.35, 0.3),  # measured 0.23 and 0.20
        ("paper", {"domain_randomize": True}, 0.8, 0.7),  # colors differ more
        ("stock", {"domain_randomize": True}, 0.6, 0.5),
    ],
)
def test_the_picture_is_within_half_a_level_of_the_stock_one(
    view: str, options: dict[str, Any], largest_first: float, largest_later: float
) -> None:
    first_second: list[float] = []
    later: list[float] = []
    env = FastCarRacing(view=view, **options)
    for seed in (7, 8):
        frame, _ = env.reset(seed=seed)
        driver = ScriptedDriver(env)
        for step in range(240):
            if step % 6 == 0:
                difference = difference_from_stock(frame, env).mean()
                (first_second if env.t < 1 else later).append(difference)
            frame, *_ = env.step(driver.act())
    assert np.mean(first_second) < largest_first
    assert np.mean(later) < largest_later
    assert max(later) < 3 * largest_later


@pytest.mark.parametrize("view", ["paper", "stock"])
def test_a_curb_without_width_does_no_harm(view: str) -> None:
    env = FastCarRacing(view=view)
    frame, _ = env.reset(seed=298)
    curbs = [np.array(at) for at, color in env.road_poly if isinstance(color, tuple)]
    assert any((at[0] == at[1]).all() for at in curbs), "this track has none"
    assert difference_from_stock(frame, env).mean() < 1


def test_the_indicators_are_the_stock_ones() -> None:
    env = FastCarRacing(view="stock")
    frame, _ = env.reset(seed=5)
    rng = np.random.default_rng(0)
    driver = ScriptedDriver(env)
    for step in range(200):
        action = driver.act() + rng.normal(size=3) * (1.0, 0.2, 0.2)
        frame, *_ = env.step(np.clip(action, [-1, 0, 0], 1))
        if step % 20 == 0:
            strip, expected = frame[84:].astype(int), seen_by_stock(env)[84:]
            assert np.abs(strip - expected).mean() < 0.6
            assert np.abs(strip - expected)[:, 12:].max() < 60  # not a bar too many or too few
    assert strip[:, 12:16].max() > 200, "no speed shown"


def test_the_car_is_drawn_where_the_stock_one_is() -> None:
    env = FastCarRacing()
    env.reset(seed=4)
    for _ in range(60):  # past the zoom, with wheels turned and turning
        frame, *_ = env.step(np.array([-0.8, 0.3, 0], np.float32))
    around = np.s_[48:61, 28:36]
    assert difference_from_stock(frame, env)[around].mean() < 2.5
    assert (frame[around][..., 0].astype(int) - frame[around][..., 1]).max() > 100, "no red hull"


def test_a_touched_tile_takes_the_road_color() -> None:
    env = FastCarRacing()
    env.reset(seed=0)
    for _ in range(50):  # stand until the zoom is over
        env.step(np.zeros(3, np.float32))
    assert env.car is not None
    here = np.argmin(
        [
            np.hypot(x - env.car.hull.position[0], y - env.car.hull.position[1])
            for _, _, x, y in env.track
        ]
    )
    road: Any = env.road
    tile = next(t for t in (road[(here + k) % len(road)] for k in range(3, 8)) if t.idx % 3 == 2)
    before = _color_at(env, tile)
    assert before == after_smoothscale(env.road_color + 5.1), "tiles of the third kind are lighter"
    env._listener.new_tiles.append(tile.idx)  # type: ignore[union-attr]
    env.step(np.zeros(3, np.float32))
    assert _color_at(env, tile) == after_smoothscale(env.road_color)


def test_driving_touches_the_tiles_that_gymnasium_repaints() -> None:
    env = FastCarRacing()
    env.reset(seed=3)
    driver = ScriptedDriver(env)
    for _ in range(150):
        env.step(driver.act())
    road: Any = env.road
    plain = [t.idx for t in road if (t.color == env.road_color).all() and t.idx % 3]
    assert len(plain) > 15
    for tile in road:
        if tile.idx % 3:
            worn = _color_at(env, tile) == after_smoothscale(env.road_color)
            assert worn == (tile.idx in plain), f"tile {tile.idx}"


def _color_at(env: FastCarRacing, tile: object) -> tuple[int, ...]:
    """Return the color of the track texture at the middle of a tile, from an enlarged crop."""
    corners = np.array(tile.fixtures[0].shape.vertices)  # type: ignore[attr-defined]
    x, y = corners.mean(axis=0)
    close_up = env._renderer._track.crop(STOCK_CAMERA, (x, y), 0.0, 160.0)
    return tuple(int(level) for level in close_up[72, 48, :3])
