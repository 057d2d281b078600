"""A small net that drives from pixels, for comparing the fast pictures with the stock ones.

A policy that sees either should drive equally well. This one imitates the scripted driver,
which reads the track; it is a measuring tool and never meets the training of an agent:

    python -m tests.pixel_policy          # about 15 minutes on two cores

trains it on the fast pictures, drives the same 100 tracks on fast and on stock ones, and
writes docs/results/pixel-policy.json.
"""

from __future__ import annotations

import argparse
import functools
import io
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.envs.box2d.car_racing import CarRacing
from torch import Tensor, nn

from agents.evaluation import evaluate, student_t_quantile
from agents.policy import EncodedActions, EnvMask, Frames, RepeatingPolicy
from agents.protocol import EvaluationProtocol
from agents.workers import Workers
from envs.make import make_env
from envs.scripted_driver import ScriptedDriver
from envs.tasks import DEFAULT_ENV_ID

RESULT = Path(__file__).parent.parent / "docs/results/pixel-policy.json"
STOCK_ID = "CarRacing-v3"
AGES = (0, 4)  # env steps: two frames show the speed
ACTION_REPEAT = 2
LOW, HIGH = np.float32([-1, 0, 0]), np.float32([1, 1, 1])


class PixelNet(nn.Sequential):
    """Two stacked frames, uint8 (B, 64, 64, 6) -> steering, gas, brake, float32 (B, 3)."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(3 * len(AGES), 24, 8, stride=4, padding=2),
            nn.ReLU(),
            nn.Conv2d(24, 48, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(48, 48, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(48 * 16, 128),
            nn.ReLU(),
            nn.Linear(128, 3),
        )

    def forward(self, stacked: Tensor) -> Tensor:
        return super().forward(stacked.permute(0, 3, 1, 2).float() / 127.5 - 1)


class PixelPolicy(RepeatingPolicy):
    """Drives by a `PixelNet`, remembering the last few frames of each environment."""

    def __init__(self, net: PixelNet) -> None:
        super().__init__(spaces.Box(LOW, HIGH), "pixels", ACTION_REPEAT)
        self.net = net
        self._history: list[Frames] = []

    def begin(self, starting: EnvMask) -> None:
        if starting.all():
            self._history = []

    def act(self, frames: Frames, reset_mask: EnvMask | None = None) -> np.ndarray:
        if not self._history:
            self._history = [frames.copy() for _ in range(max(AGES) + 1)]
        for past in self._history if reset_mask is not None else ():
            past[reset_mask] = frames[reset_mask]
        self._history = [frames.copy(), *self._history[:-1]]
        return super().act(frames, reset_mask)

    def stacked(self) -> np.ndarray:
        """What the net sees now, uint8 (B, 64, 64, 6)."""
        return np.concatenate([self._history[age] for age in AGES], axis=-1)

    def decide(self, frames: Frames, due: EnvMask) -> EncodedActions:
        with torch.inference_mode():
            actions = self.net(torch.from_numpy(self.stacked())).numpy()
        return np.clip(actions, LOW, HIGH)


def from_bytes(weights: bytes) -> PixelPolicy:
    """A policy with these weights; made in the worker that drives it."""
    net = PixelNet()
    net.load_state_dict(torch.load(io.BytesIO(weights), weights_only=True))
    return PixelPolicy(net.eval())


def to_bytes(net: PixelNet) -> bytes:
    """The weights, for `from_bytes`."""
    buffer = io.BytesIO()
    torch.save(net.state_dict(), buffer)
    return buffer.getvalue()


def drive_and_label(job: tuple[bytes, list[int], float]) -> tuple[np.ndarray, np.ndarray]:
    """Drives tracks with a mixture of net and driver; what was seen, and the driver's actions.

    The net acts with the job's share of the time, half a second at once, with noise on top:
    so that the data show how to come back to the road.
    """
    weights, seeds, share = job
    policy = from_bytes(weights)
    seen, labels = [], []
    envs = [make_env(DEFAULT_ENV_ID) for _ in seeds]
    drivers = [ScriptedDriver(env, top_speed=62.0, cornering=95.0) for env in envs]
    rng = np.random.default_rng(seeds)
    frames = np.stack([env.reset(seed=seed)[0] for env, seed in zip(envs, seeds, strict=True)])
    policy.reset(len(envs))
    net_acts = np.zeros(len(envs), dtype=bool)
    noise = np.zeros((len(envs), 3))
    reset_mask = np.zeros(len(envs), dtype=bool)
    for step in range(900):
        own = policy.act(frames, reset_mask)
        wanted = np.stack([driver.act() for driver in drivers])
        if step % 25 == 0:
            net_acts = rng.random(len(envs)) < share
        noise = 0.9 * noise + 0.1 * rng.normal(size=noise.shape) * (0.8, 0.3, 0.2)
        actions = np.where(net_acts[:, None], own, wanted) + noise
        if step % 3 == 0:
            seen.append(policy.stacked())
            labels.append(wanted)
        reset_mask = np.zeros(len(envs), dtype=bool)
        for i, env in enumerate(envs):
            action = np.clip(actions[i], LOW, HIGH).astype(np.float32)
            frames[i], _, terminated, truncated, _ = env.step(action)
            if terminated or truncated or distance_from_road(env.unwrapped) > 40:
                frames[i], _ = env.reset(seed=int(rng.integers(900_000)))
                reset_mask[i] = True
    for env in envs:
        env.close()
    return np.concatenate(seen), np.concatenate(labels)


def distance_from_road(env: CarRacing) -> float:
    """From the car to the nearest point of the centre line, in world units."""
    centres = np.array([(x, y) for _, _, x, y in env.track])
    return float(np.hypot(*(centres - np.array(env.car.hull.position)).T).min())


def train(rounds: int, report: Callable[[str], object]) -> PixelNet:
    """DAgger (arXiv 1011.0686): the net drives more and more, the driver labels all of it."""
    torch.manual_seed(0)
    net = PixelNet()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    seen, labels = [], []
    with Workers(2) as workers:
        for index in range(rounds):
            share = 0.0 if index == 0 else min(0.5 + 0.1 * index, 0.95)
            first = 500_000 + 16 * index
            jobs = [(to_bytes(net), list(range(at, at + 8)), share) for at in (first, first + 8)]
            for frames, actions in workers.map(drive_and_label, jobs):
                seen.append(torch.from_numpy(frames))
                labels.append(torch.from_numpy(actions))
            x, y = torch.cat(seen), torch.cat(labels)
            last = index == rounds - 1
            steps = 4000 if last else 1000
            for step in range(steps):
                if last:
                    optimizer.param_groups[0]["lr"] = (
                        1e-3 * (1 + math.cos(math.pi * step / steps)) / 2
                    )
                rows = torch.randint(len(x), (128,))
                loss = nn.functional.smooth_l1_loss(net(x[rows]), y[rows], beta=0.2)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            report(f"round {index + 1}: {len(x):,} labels, loss {float(loss.detach()):.4f}")
    return net


def compare(net: PixelNet, episodes: int) -> dict[str, Any]:
    """Scores on the same tracks in both drawings, and the interval of their mean difference."""
    factory = functools.partial(from_bytes, to_bytes(net))
    with Workers(2) as workers:
        fast, stock = (
            evaluate(
                EvaluationProtocol(env_id, "validation", episodes, start=5000), factory, workers
            )
            for env_id in (DEFAULT_ENV_ID, STOCK_ID)
        )
    assert fast.seeds == stock.seeds
    difference = np.array(fast.returns) - np.array(stock.returns)
    half = student_t_quantile(episodes - 1) * difference.std(ddof=1) / math.sqrt(episodes)
    return {
        "gymnasium": gym.__version__,
        "episodes": episodes,
        "first_seed": fast.seeds[0],
        "fast": {"mean": fast.mean, "std": fast.std, "returns": fast.returns},
        "stock": {"mean": stock.mean, "std": stock.std, "returns": stock.returns},
        "mean_difference": float(difference.mean()),
        "interval_95": [float(difference.mean() - half), float(difference.mean() + half)],
    }


def main() -> None:
    """Trains, drives, writes the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--output", type=Path, default=RESULT)
    arguments = parser.parse_args()
    net = train(arguments.rounds, functools.partial(print, flush=True))
    command = f"python -m tests.pixel_policy --rounds {arguments.rounds}"
    command += f" --episodes {arguments.episodes}"
    result = {"command": command, **compare(net, arguments.episodes)}
    arguments.output.write_text(json.dumps(result, indent=1) + "\n")
    fast, stock = result["fast"], result["stock"]
    low, high = result["interval_95"]
    for name, scores in (("fast", fast), ("stock", stock)):
        print(f"{name} {scores['mean']:.1f} ± {scores['std']:.1f}")
    print(f"difference {result['mean_difference']:.1f}, 95 % interval {low:.1f} to {high:.1f}")


if __name__ == "__main__":
    main()
