"""A perturbation looks as if CarRacing itself drew it, and changes nothing but the picture."""

import functools
import re
import warnings
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pygame
import pytest
from gymnasium.envs.box2d.car_racing import WINDOW_H, WINDOW_W, CarRacing
from gymnasium.utils.env_checker import check_env

import envs  # noqa: F401  registers the id
from envs.car_racing import FastCarRacing
from envs.perturbations import (
    PERTURBATIONS,
    BarsPerturbation,
    BlobPerturbation,
    ColorPerturbation,
    perturb,
)
from envs.views import PAPER_VIEW, View, ViewObservation

MAKERS: dict[str, Callable[..., gym.Env]] = {
    "stock": CarRacing,
    "fast, paper": functools.partial(FastCarRacing, view="paper"),
    "fast, stock": functools.partial(FastCarRacing, view="stock"),
}


def turning(step: int) -> np.ndarray:
    """Return gas and steering, first to one side, then to the other, so that the car slides."""
    return np.array([0.5 if step < 45 else -0.9, 0.5, 0.0], np.float32)


# --- against a window in which the environment draws it ---


class DrawingCarRacing(CarRacing):
    """A CarRacing that draws the perturbation `drawn` into the 1000x800 window after the road."""

    drawn: str | None = None

    def _render_road(self, zoom: float, translation: tuple[float, float], angle: float) -> None:
        super()._render_road(zoom, translation, angle)  # type: ignore[no-untyped-call]
        assert self.surf is not None and self.car is not None
        if self.drawn == "bars":  # the window is drawn upside down here
            self.surf.fill((0, 0, 0), (0, 100, 75, 700))
            self.surf.fill((0, 0, 0), (925, 100, 75, 700))
        elif self.drawn == "blob":
            hull = self.car.hull
            x, y = hull.fixtures[3].shape.vertices[0]
            corners = [(x + 20, y + 10), (x + 28, y + 10), (x + 28, y + 18), (x + 20, y + 18)]
            turned = [pygame.Vector2(*(hull.transform * at)).rotate_rad(angle) for at in corners]
            pixels = np.array(turned) * zoom + translation
            (left, near), (right, far) = pixels.min(axis=0), pixels.max(axis=0)
            _fill_smoothly(self.surf, left, near, right, far, (204, 0, 0))


def _fill_smoothly(
    surface: pygame.Surface,
    left: float,
    top: float,
    right: float,
    bottom: float,
    color: tuple[int, int, int],
) -> None:
    """Fill a rectangle with smooth edges. Pygame's own edges are wrong by up to a window pixel."""
    columns, rows = np.arange(WINDOW_W)[:, None], np.arange(WINDOW_H)[None]
    across = np.clip(np.minimum(columns + 1, right) - np.maximum(columns, left), 0, 1)
    down = np.clip(np.minimum(rows + 1, bottom) - np.maximum(rows, top), 0, 1)
    cover = (across * down)[..., None]
    pixels = pygame.surfarray.pixels3d(surface)
    pixels[...] = np.rint(pixels * (1 - cover) + np.array(color) * cover)


@pytest.mark.parametrize("name", ["bars", "blob"])
def test_the_overlay_looks_as_if_the_window_had_it(name: str) -> None:
    env = DrawingCarRacing(render_mode="rgb_array")
    perturbed = perturb(env, name)
    observation, _ = perturbed.reset(seed=3)
    for step in range(80):
        if step in (0, 1, 5, 20, 35, 52, 79):  # from the zoom of the first second on
            plain = env.state
            picture = perturbed.render()
            env.drawn = name
            expected = env._render("state_pixels"), env.render()  # type: ignore[no-untyped-call]
            env.drawn = None
            for ours, theirs in zip((observation, picture), expected, strict=True):
                difference = np.abs(ours.astype(int) - theirs)
                assert difference.mean() < 0.02, f"step {step}"
                # Some pixel on the rectangle's edge has another color in its uncovered part.
                assert (difference > 3).mean() < 1e-3 and difference.max() < 40, f"step {step}"
            changed = np.abs(plain.astype(int) - expected[0])
            assert changed.max() > 50, "nothing was drawn to compare with"
            np.testing.assert_array_equal(observation[84:], plain[84:])  # the indicators
        observation, *_ = perturbed.step(turning(step))


# --- the fast environment against Gymnasium's ---


@pytest.mark.parametrize("view", ["paper", "stock"])
@pytest.mark.parametrize("name", PERTURBATIONS)
def test_the_fast_environment_is_perturbed_like_gymnasiums(name: str, view: str) -> None:
    fast = perturb(FastCarRacing(view=view), name)
    stock = perturb(CarRacing(), name)
    frame, info = fast.reset(seed=11)
    stock_frame, stock_info = stock.reset(seed=11)
    assert info == stock_info
    seen = PAPER_VIEW if view == "paper" else View(size=96)
    differences = []
    for step in range(75):
        if step % 8 == 0:
            differences.append(np.abs(frame.astype(int) - seen(stock_frame)).mean())
        frame, *ours = fast.step(turning(step))
        stock_frame, *theirs = stock.step(turning(step))
        assert ours == theirs
    # As far from it as without a perturbation, 0.4; twice that where the shifted field stands
    # out from the lighter squares.
    assert np.mean(differences) < (0.9 if name == "color" else 0.6)
    assert max(differences) < (1.3 if name == "color" else 1.0)


@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.parametrize("name", PERTURBATIONS)
def test_nothing_but_the_picture_changes(name: str, maker: str) -> None:
    plain, inner = MAKERS[maker](), MAKERS[maker]()
    wrapped: Any = inner.unwrapped
    alone: Any = plain.unwrapped
    perturbed = perturb(inner, name)
    assert perturbed.observation_space == plain.observation_space
    for seed in (1, None):  # without a seed, the environment's own generator goes on
        frame, _ = perturbed.reset(seed=seed)
        plain_frame, _ = plain.reset(seed=seed)
        assert wrapped.track == alone.track
        for step in range(8):
            frame, *ours = perturbed.step(turning(step))
            plain_frame, *theirs = plain.step(turning(step))
            assert ours == theirs
        assert frame.shape == plain_frame.shape and frame.dtype == np.uint8
        assert np.abs(frame.astype(int) - plain_frame).max() > 3
    assert inner.np_random.bit_generator.state == plain.np_random.bit_generator.state


# --- colors ---


def test_lane_and_field_are_shifted_and_the_squares_stay() -> None:
    env = FastCarRacing()
    perturbed = ColorPerturbation(env)
    shifts = []
    for seed in (5, *[None] * 7):
        _, info = perturbed.reset(seed=seed)
        lane, grass = info["color_shift"]
        shifts.append((lane, grass))
        # From the usual colors each time: shifts do not add up.
        np.testing.assert_array_equal(env.road_color, [round(102 + 255 * lane)] * 3)
        field = [round(102 + 255 * grass), round(204 + 255 * grass), round(102 + 255 * grass)]
        np.testing.assert_array_equal(env.bg_color, field)
        np.testing.assert_array_equal(env.grass_color, [102, 230, 102])
        road: Any = env.road
        tile = road[50]
        np.testing.assert_array_equal(tile.color, env.road_color + 0.01 * (50 % 3) * 255)
    drawn = np.array(shifts)
    assert (np.abs(drawn) <= 0.2).all() and (drawn.max(axis=0) > 0.05).all()
    assert (drawn.min(axis=0) < -0.05).all() and len(np.unique(drawn)) == drawn.size


def test_colors_come_from_the_seed_and_go_on_without_one() -> None:
    def shifts(*seeds: int | None) -> list[tuple[float, float]]:
        return [env.reset(seed=seed)[1]["color_shift"] for seed in seeds]

    env = ColorPerturbation(FastCarRacing())
    first = shifts(8, None, None)
    env = ColorPerturbation(FastCarRacing())
    env.reset()
    assert shifts(8, None, None) == first
    assert shifts(9) != first[:1] and len(set(first)) == 3
    # Not the numbers that the track of the seed is made from.
    own = gym.utils.seeding.np_random(8)[0].uniform(-0.2, 0.2, size=2)
    assert not np.isclose(first[0], own).any()


def test_a_touched_tile_takes_the_perturbed_lane_color() -> None:
    env = FastCarRacing()
    perturbed = ColorPerturbation(env)
    _, info = perturbed.reset(seed=4)
    for step in range(60):
        perturbed.step(turning(step) * (0.0, 1.0, 0.0))
    road: Any = env.road
    touched = [tile for tile in road if tile.road_visited and tile.idx % 3]
    lane = round(102 + 255 * info["color_shift"][0])
    assert touched and all((tile.color == lane).all() for tile in touched)


# --- wrapping ---


@pytest.mark.parametrize("maker", MAKERS)
def test_the_environments_own_frame_is_left_alone(maker: str) -> None:
    env = MAKERS[maker]()
    unwrapped: Any = env.unwrapped
    frame, _ = BarsPerturbation(env).reset(seed=0)
    assert (frame[:64, :4] == 0).all() and (unwrapped.state[:64, :4] != 0).any()


def test_perturbations_nest_and_a_view_goes_around_them() -> None:
    env = BlobPerturbation(BarsPerturbation(ColorPerturbation(CarRacing())))
    seen = ViewObservation(env, PAPER_VIEW)
    frame, info = seen.reset(seed=2)
    assert frame.shape == (64, 64, 3) and "color_shift" in info
    for step in range(51):
        frame, *_ = seen.step(turning(step) * (0.0, 1.0, 0.0))
    assert (frame[:, :4] == 0).all() and (frame[:, 60:] == 0).sum() > 500
    assert tuple(frame[35, 58]) == (202, 0, 0)


@pytest.mark.parametrize("mode", ["state_pixels", "human", None])
def test_other_render_modes_work(mode: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    env = perturb(gym.make("worldmodels/CarRacing-v3", render_mode=mode), "bars")
    frame, _ = env.reset(seed=0)
    if mode == "state_pixels":
        np.testing.assert_array_equal(env.render(), frame)
    elif mode == "human":
        assert env.render() is None  # drawn on the screen
    env.close()


@pytest.mark.parametrize("name", PERTURBATIONS)
@pytest.mark.parametrize("env_id", ["CarRacing-v3", "worldmodels/CarRacing-v3"])
def test_a_spec_makes_the_perturbed_environment_again(env_id: str, name: str) -> None:
    env = perturb(gym.make(env_id), name)
    again = gym.make(env.spec)  # type: ignore[arg-type]
    assert isinstance(again, PERTURBATIONS[name])
    np.testing.assert_array_equal(env.reset(seed=6)[0], again.reset(seed=6)[0])


@pytest.mark.parametrize("name", PERTURBATIONS)
@pytest.mark.parametrize("env_id", ["CarRacing-v3", "worldmodels/CarRacing-v3"])
def test_gymnasiums_checker_finds_no_more_than_in_stock(
    env_id: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The checker tries every render mode, a window on the screen included.
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    monkeypatch.setenv("SDL_AUDIODRIVER", "dummy")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check_env(perturb(gym.make(env_id, render_mode="rgb_array"), name))
    complaints = [str(w.message) for w in caught if issubclass(w.category, UserWarning)]
    # That there is a wrapper at all, and the stock action space, whose pedals are 0..1.
    usual = ("different from the unwrapped version", "normalized space")
    assert [c for c in complaints if not any(part in c for part in usual)] == []


# --- what is refused ---


def test_an_unknown_perturbation_is_refused() -> None:
    expected = re.escape("expected a perturbation among ['bars', 'blob', 'color'], got 'fog'")
    with pytest.raises(ValueError, match=expected):
        perturb(CarRacing(), "fog")


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_environments_that_do_not_fit_are_refused(name: str) -> None:
    with pytest.raises(TypeError, match=r"expected CarRacing as the .*, got .*CartPole"):
        perturb(gym.make("CartPole-v1"), name)
    seen = ViewObservation(CarRacing(), PAPER_VIEW)
    with pytest.raises(TypeError, match=r"\(96, 96, 3\) .* got .* \(64, 64, 3\) .* before ViewObs"):
        perturb(seen, name)
    collecting = gym.make("CarRacing-v3", render_mode="rgb_array_list")
    with pytest.raises(TypeError, match=r"render mode among .* got 'rgb_array_list'"):
        perturb(collecting, name)


def test_colors_for_an_environment_with_its_own_are_refused() -> None:
    with pytest.raises(ValueError, match="expected CarRacing with domain_randomize=False"):
        ColorPerturbation(CarRacing(domain_randomize=True))
    BarsPerturbation(CarRacing(domain_randomize=True))
