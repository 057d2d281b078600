"""A scripted driver that reads the track. Only tests, benchmarks and experiments use this driver.

No agent is ever trained on the scripted driver's frames or actions. Agents learn only from frames,
actions, rewards and ends of episodes. The scripted driver's actions depend on the whole track, and
would therefore give an agent additional information.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.box2d.car_racing import CarRacing
from jaxtyping import Float32

_LOOK_AHEAD = 5.0  # units, at a standstill


class ScriptedDriver:
    """A driver that steers towards a point on the centre line ahead, and slows down for curves.

    The steering method is called pure pursuit. Each driver belongs to one environment. `act()`
    reads the car's state and returns the next action, float32 (3,). Distances are in world units: a
    tile is 3.5 units long, and the road is 13.3 units wide. Speeds are in units/s.
    """

    def __init__(
        self, env: gym.Env[Any, Any], *, top_speed: float = 80.0, cornering: float = 120.0
    ) -> None:
        """Make a driver of `env`.

        `top_speed` is the greatest speed in units/s. `cornering` is the greatest lateral
        acceleration in units/s^2.

        Raises:
            TypeError: `env` is not CarRacing with continuous actions.
        """
        car_racing = env.unwrapped
        if not isinstance(car_racing, CarRacing) or not car_racing.continuous:
            raise TypeError(f"expected CarRacing with continuous actions, got {car_racing}")
        self.env = car_racing
        self.top_speed = top_speed
        self.cornering = cornering
        self._track: Any = None

    def act(self) -> Float32[np.ndarray, "3"]:
        """Return the action (steer, gas, brake) for the car's current state."""
        if self.env.track is not self._track:
            self._read_track()
        assert self.env.car is not None  # reset() made it, along with the track
        hull = self.env.car.hull
        position = np.array(hull.position)
        speed = float(np.hypot(*hull.linearVelocity))
        here = int(((self._centres - position) ** 2).sum(axis=1).argmin())

        tiles_ahead = 2 + int((_LOOK_AHEAD + 0.25 * speed) / 3.5)
        target = self._centres[(here + tiles_ahead) % len(self._centres)] - position
        forward = np.array(hull.GetWorldVector((0.0, 1.0)))
        right = np.array(hull.GetWorldVector((1.0, 0.0)))
        steer = np.clip(2.0 * np.arctan2(target @ right, target @ forward), -1.0, 1.0)

        # From the allowed speed, braking still reaches the speed of a curve that is `distance`
        # away.
        ahead = (here + np.arange(16)) % len(self._centres)
        distance = 3.5 * np.arange(16)
        allowed = np.sqrt(self.cornering / (self._curvature[ahead] + 1e-3) + 60.0 * distance)
        wanted = min(self.top_speed, float(allowed.min()))
        # The car has rear-wheel drive, so gas while the wheels are turned far makes it spin.
        gas = np.clip(0.1 * (wanted - speed), 0.0, 1.0) * (1.0 - 0.7 * abs(steer))
        brake = np.clip(0.05 * (speed - wanted), 0.0, 0.5)
        return np.array([steer, gas, brake], dtype=np.float32)

    def _read_track(self) -> None:
        self._track = self.env.track
        self._centres = np.array([(x, y) for _, _, x, y in self._track])
        heading = np.unwrap([beta for _, beta, _, _ in self._track])
        turn = np.abs(np.diff(heading, append=heading[-1:]))
        # Curvature is the mean of three tiles, as a single tile's bend says little about the curve.
        self._curvature = np.convolve(turn, np.full(3, 1 / 3), mode="same") / 3.5
