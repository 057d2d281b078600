"""How far the fast CarRacing's pictures are from Gymnasium's own while the scripted driver drives.

    python scripts/experiments/pictures.py

writes docs/results/pictures.json, mean absolute differences in levels of 255, after the first
second and within it, indicators left out; and docs/car_racing.png: stock, ours and eight times
the difference, for the paper's view and then for the stock one.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

os.environ.setdefault("SDL_VIDEODRIVER", "dummy")

import cv2
import gymnasium as gym
import numpy as np
from gymnasium.envs.box2d.car_racing import CarRacing

from agents.seeds import seeds
from envs.car_racing import FastCarRacing
from envs.renderer import VIEWS
from envs.scripted_driver import ScriptedDriver

DOCS = Path(__file__).parents[2] / "docs"
SHOWN = (10, 50, 125, 250)  # steps of the first episode: in the zoom, and on the road
SIDE = 192  # pixels of a picture in the PNG
AMPLIFIED = 8


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--episodes", type=int, default=20)
    arguments = parser.parse_args()
    command = f"python scripts/experiments/pictures.py --episodes {arguments.episodes}"
    result: dict[str, Any] = {"command": command, "gymnasium": gym.__version__}
    columns: list[np.ndarray] = []
    for view in ("paper", "stock"):
        first_second, later, pictures = compare(view, arguments.episodes)
        columns.append(np.vstack(pictures))
        result[view] = {
            "frames": len(first_second) + len(later),
            "later": round(float(np.mean(later)), 3),
            "first_second": round(float(np.mean(first_second)), 3),
            "worst_frame_later": round(max(later), 3),
            "worst_frame_first_second": round(max(first_second), 3),
        }
        print(view, result[view])
    cv2.imwrite(str(DOCS / "car_racing.png"), cv2.cvtColor(np.hstack(columns), cv2.COLOR_RGB2BGR))
    (DOCS / "results/pictures.json").write_text(json.dumps(result, indent=1) + "\n")


def compare(view: str, episodes: int) -> tuple[list[float], list[float], list[np.ndarray]]:
    """Differences of frames in the first second, of later ones, and rows of pictures."""
    env = FastCarRacing(view=view)
    first_second: list[float] = []
    later: list[float] = []
    rows: list[np.ndarray] = []
    drives = seeds("driving", episodes)
    for seed in drives:
        frame, _ = env.reset(seed=seed)
        driver = ScriptedDriver(env)
        for step in range(1000):
            if env.t < 1 or step % 10 == 0 or (seed == drives[0] and step in SHOWN):
                stock = seen_by_gymnasium(env)
                difference = np.abs(frame.astype(int) - stock)
                playfield = difference[:84] if view == "stock" else difference
                (first_second if env.t < 1 else later).append(float(playfield.mean()))
                if seed == drives[0] and step in SHOWN:
                    shown = np.minimum(difference * AMPLIFIED, 255).astype(np.uint8)
                    rows.append(np.hstack([enlarged(stock), enlarged(frame), enlarged(shown)]))
            frame, _, terminated, _, _ = env.step(driver.act())
            if terminated:
                break
    return first_second, later, rows


def seen_by_gymnasium(env: FastCarRacing) -> np.ndarray:
    frame = CarRacing._render(env, "state_pixels")
    of_stock = VIEWS[env.view].of_stock
    return frame if of_stock is None else of_stock(frame)


def enlarged(picture: np.ndarray) -> np.ndarray:
    return cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_NEAREST)


if __name__ == "__main__":
    main()
