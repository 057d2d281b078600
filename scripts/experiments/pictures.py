"""Compare frames of the fast CarRacing with Gymnasium's frames of the same drives.

The scripted driver drives. The result holds mean absolute differences between pixel values, which
range from 0 to 255. Pixels of the indicators are left out. The first second of an episode, during
which the camera zooms in, has a separate mean. The experiment draws docs/car_racing.png. For the
paper's view and for the stock view, this picture shows Gymnasium's frame, the fast renderer's frame
and eight times the difference of the two frames.
"""

from dataclasses import dataclass
from pathlib import Path

import gymnasium as gym
import imageio.v3 as iio
import numpy as np
from gymnasium.envs.box2d.car_racing import CarRacing
from jaxtyping import UInt8

from agents.seeds import seeds
from envs.car_racing import FastCarRacing
from envs.renderer import VIEWS
from envs.scripted_driver import ScriptedDriver
from scripts.experiments.experiment import Context, Experiment, Result, Results

SHOWN = (10, 50, 125, 250)  # env steps of the first episode: during the zoom, and on the road
SIDE = 192  # side of a picture in the PNG, in pixels
AMPLIFIED = 8

TABLE = {"pictures": ("paper", "stock")}  # one run over two views

Picture = UInt8[np.ndarray, "height width 3"]


@dataclass(frozen=True)
class Pictures(Experiment):
    """Compare the frames of two renderers in one run, for two views.

    Attributes:
        episodes: number of episodes per view.
    """

    name = "pictures"
    folder = "results"
    table = TABLE
    episodes: int = 20

    def run(self, name: str, spec: tuple[str, ...], context: Context) -> Result:
        """Measure the differences for each view, and draw the picture of both views."""
        result: Result = {"gymnasium": gym.__version__}
        columns = []
        for view in spec:
            first_second, later, pictures = compare(view, self.episodes)
            columns.append(np.vstack(pictures))
            result[view] = {
                "frames": len(first_second) + len(later),
                "later": round(float(np.mean(later)), 3),
                "first_second": round(float(np.mean(first_second)), 3),
                "worst_frame_later": round(max(later), 3),
                "worst_frame_first_second": round(max(first_second), 3),
            }
        iio.imwrite(context.docs / "car_racing.png", np.hstack(columns))
        return result

    def draw(self, results: Results, docs: Path) -> None:
        """Draw nothing. The method `run` draws the picture, because the result holds no frames."""


def compare(view: str, episodes: int) -> tuple[list[float], list[float], list[Picture]]:
    """Play episodes, and compare frames of the two renderers.

    Returns: the mean absolute difference of each compared frame in the first second of an episode,
    the same for later frames, and the rows of docs/car_racing.png.
    """
    env = FastCarRacing(view=view)
    first_second: list[float] = []
    later: list[float] = []
    rows = []
    for number, seed in enumerate(seeds("driving", episodes)):
        frame, _ = env.reset(seed=seed)
        driver = ScriptedDriver(env)
        for step in range(1000):
            shown = number == 0 and step in SHOWN
            if env.t < 1 or step % 10 == 0 or shown:
                reference = reference_frame(env)
                difference = np.abs(frame.astype(int) - reference)
                playfield = difference[:84] if view == "stock" else difference
                (first_second if env.t < 1 else later).append(float(playfield.mean()))
                if shown:
                    amplified = np.minimum(difference * AMPLIFIED, 255).astype(np.uint8)
                    rows.append(np.hstack([*map(enlarged, (reference, frame, amplified))]))
            frame, _, terminated, _, _ = env.step(driver.act())
            if terminated:
                break
    return first_second, later, rows


def reference_frame(env: FastCarRacing) -> Picture:
    """Return the frame that Gymnasium renders from the same state."""
    frame: Picture = CarRacing._render(env, "state_pixels")
    of_stock = VIEWS[env.view].of_stock
    return frame if of_stock is None else of_stock(frame)


def enlarged(picture: Picture) -> Picture:
    """Enlarge a picture so that single pixels are visible."""
    return picture.repeat(SIDE // len(picture), axis=0).repeat(SIDE // len(picture), axis=1)
