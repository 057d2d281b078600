"""The fast CarRacing: Gymnasium's in everything but the drawing, and close in that."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.box2d.car_racing import CarRacing
from gymnasium.utils.env_checker import check_env

import envs  # noqa: F401  registers the id
from envs.car_racing import FastCarRacing
from envs.renderer import PLAYFIELD_ROWS, arriving
from envs.scripted_driver import ScriptedDriver
from envs.views import View


def state_of(env: CarRacing) -> list[float]:
    """Everything the physics knows about the car and the tiles it touched."""
    assert env.car is not None
    numbers: list[float] = [env.tile_visited_count, env.t, env.reward]
    for body in (env.car.hull, *env.car.wheels):
        numbers += [*body.position, body.angle, *body.linearVelocity, body.angularVelocity]
    for wheel in env.car.wheels:
        numbers += [wheel.omega, wheel.phase, wheel.joint.angle, len(wheel.tiles)]
    return numbers


def seen_by_stock(env: CarRacing) -> np.ndarray:
    """The stock drawing of any CarRacing, as the view shows it."""
    return View(rows=(0, 84))(CarRacing._render(env, "state_pixels"))


@pytest.mark.parametrize("seed", [1, 2])
def test_physics_rewards_and_ends_are_gymnasiums_bit_for_bit(seed: int) -> None:
    stock, fast = CarRacing(), FastCarRacing()
    stock._render = lambda mode: np.zeros((96, 96, 3), np.uint8)  # the slow part, not compared
    # Twice: what the first episode leaves in the world must not differ either.
    for episode in range(2):
        stock.reset(seed=seed + episode)
        fast.reset(seed=seed + episode)
        assert stock.track == fast.track and state_of(stock) == state_of(fast)
        driver, rng = ScriptedDriver(fast), np.random.default_rng(seed)
        for _ in range(300):
            action = driver.act() + rng.normal(size=3).astype(np.float32) * (0.4, 0.1, 0.1)
            action = np.clip(action, [-1, 0, 0], 1)
            ours, theirs = fast.step(action), stock.step(action)
            assert ours[1:] == theirs[1:]
            assert state_of(stock) == state_of(fast)
    assert fast.tile_visited_count > 30, "the comparison never left the start"


def test_leaving_the_playfield_ends_the_episode_as_in_gymnasium() -> None:
    fast = FastCarRacing()
    fast.reset(seed=0)
    assert fast.car is not None
    fast.car.hull.position = (400.0, 0.0)
    _, reward, terminated, truncated, info = fast.step(np.zeros(3, np.float32))
    assert (reward, terminated, truncated, info) == (-100, True, False, {"lap_finished": False})


@pytest.mark.parametrize("options", [{}, {"domain_randomize": True}])
def test_the_picture_is_within_a_level_of_the_stock_one(options: dict[str, bool]) -> None:
    env = FastCarRacing(**options)
    frame, _ = env.reset(seed=7)
    driver = ScriptedDriver(env)
    differences = []
    for step in range(240):
        if step % 6 == 0:  # from the zoom of the first second on
            differences.append(np.abs(frame.astype(int) - seen_by_stock(env)).mean())
        frame, *_ = env.step(driver.act())
    assert np.mean(differences) < 0.6  # 0.4 is usual
    assert max(differences) < 1.0


def test_the_car_is_drawn_where_the_stock_one_is() -> None:
    env = FastCarRacing()
    env.reset(seed=4)
    for _ in range(60):  # past the zoom, with wheels turned and turning
        frame, *_ = env.step(np.array([-0.8, 0.3, 0], np.float32))
    around = np.s_[48:61, 28:36]
    difference = np.abs(frame.astype(int) - seen_by_stock(env))[around]
    assert difference.mean() < 3
    assert (frame[around][..., 0].astype(int) - frame[around][..., 1]).max() > 100, "no red hull"


def test_a_touched_tile_takes_the_road_colour() -> None:
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
    tile = next(
        t for t in (env.road[(here + k) % len(env.road)] for k in range(3, 8)) if t.idx % 3 == 2
    )
    before = _color_at(env, tile)
    assert before == arriving(env.road_color + 5.1), "tiles of the third kind are lighter"
    env._listener.touched.add(tile.idx)  # type: ignore[union-attr]
    env.step(np.zeros(3, np.float32))
    assert _color_at(env, tile) == arriving(env.road_color)


def test_driving_touches_the_tiles_that_gymnasium_repaints() -> None:
    env = FastCarRacing()
    env.reset(seed=3)
    driver = ScriptedDriver(env)
    for _ in range(150):
        env.step(driver.act())
    plain = [t.idx for t in env.road if (t.color == env.road_color).all() and t.idx % 3]
    assert len(plain) > 15
    for tile in env.road:
        if tile.idx % 3:
            worn = _color_at(env, tile) == arriving(env.road_color)
            assert worn == (tile.idx in plain), f"tile {tile.idx}"


def _color_at(env: FastCarRacing, tile: object) -> tuple[int, ...]:
    """The texture's colour at a tile's middle, read through a close-up."""
    corners = np.array(tile.fixtures[0].shape.vertices)  # type: ignore[attr-defined]
    x, y = corners.mean(axis=0)
    close_up = env._picture.crop((x, y), 0.0, 160.0)
    assert close_up.shape == (PLAYFIELD_ROWS, 96, 3)
    return tuple(int(level) for level in close_up[72, 48])


def test_gymnasiums_checker_finds_nothing(
    recwarn: pytest.WarningsRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The checker tries every render mode, a window on the screen included.
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    monkeypatch.setenv("SDL_AUDIODRIVER", "dummy")
    env = gym.make("worldmodels/CarRacing-v3", render_mode="rgb_array")
    assert env.spec is not None
    assert (env.spec.max_episode_steps, env.spec.reward_threshold) == (1000, 900)
    check_env(env.unwrapped)
    complaints = [str(w.message) for w in recwarn if issubclass(w.category, UserWarning)]
    # Gas and brake of 0..1 are the stock action space, which the checker would rather not see.
    complaints = [message for message in complaints if "normalized space" not in message]
    assert complaints == []


def test_discrete_actions_work() -> None:
    env = FastCarRacing(continuous=False)
    env.reset(seed=0)
    for action in (3, 1, 2, 4, 0):
        frame, *_ = env.step(action)
        assert frame in env.observation_space


def test_other_views_are_refused() -> None:
    with pytest.raises(ValueError, match='expected view="paper"'):
        gym.make("worldmodels/CarRacing-v3", view="stock")


def test_the_scripted_driver_drives() -> None:
    returns = []
    for seed in (21, 22):
        env = FastCarRacing()
        env.reset(seed=seed)
        driver = ScriptedDriver(env)
        total, done = 0.0, False
        for _ in range(1000):
            _, reward, done, _, _ = env.step(driver.act())
            total += reward
            if done:
                break
        returns.append(total)
    assert np.mean(returns) > 700


def test_the_scripted_driver_needs_a_track() -> None:
    with pytest.raises(TypeError, match="expected CarRacing with continuous actions"):
        ScriptedDriver(gym.make("CartPole-v1"))
