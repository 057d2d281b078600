"""Compare kinds of V on the same frames, by the held-out error and by the use of codes.

Every V is trained on frames of the exploring policy. Every V is evaluated on frames of the scripted
driver on validation tracks. The last three kinds of V have a higher weight for the error on the
curbs and the car, and are trained for longer. The experiment writes docs/vision.md and
docs/vision.png, and takes about an hour on one core.
"""

import functools
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from agents.collecting import play_episodes
from agents.scripted_episodes import drive
from agents.seeds import seeds
from agents.workers import Workers
from envs.config import EnvConfig
from envs.tasks import DEFAULT_ENV_ID
from scripts.experiments.driving import REPEAT
from scripts.experiments.experiment import Context, Experiment, Result, Results
from scripts.experiments.markdown import write_page
from worldmodels.controller.policies import make_policy
from worldmodels.plotting import save_grid
from worldmodels.presets import DEMO, override
from worldmodels.training.fit import FitConfig, fit
from worldmodels.vision import (
    VQVAE,
    CategoricalVAEConfig,
    VAEConfig,
    Vision,
    VisionConfig,
    VQVAEConfig,
    make_vision,
)
from worldmodels.vision.batched import encode_frames
from worldmodels.vision.metrics import code_usage, mean_frame, score_vision
from worldmodels.vision.pixel_error import common_colors

BATCH_SIZE = 64
SHOWN = 10  # frames in the picture, half of them in the sharpest turns
FSQ = VQVAEConfig(quantizer="fsq")
RARE_VQ = VQVAEConfig(decoder_channels=64, background_weight=0.3, rare_weight=4.0)
RARE_VAE = override(DEMO.vae.model, rare_weight=4.0)


@dataclass(frozen=True)
class Kind:
    """A kind of V, and the factor by which its number of epochs is multiplied."""

    label: str
    config: VisionConfig
    times_epochs: float = 1.0


KINDS = {
    "vae-paper": Kind("VAE, paper's network", VAEConfig()),
    "vae": Kind("VAE, lean", VAEConfig(network="lean")),
    "vq": Kind("VQ 4x4", VQVAEConfig()),
    "fsq": Kind("FSQ 4x4", FSQ),
    "fsq-background": Kind("FSQ 4x4, grass at 0.3", replace(FSQ, background_weight=0.3)),
    "vq-8x8": Kind("VQ 8x8", VQVAEConfig(grid=8)),
    "fsq-8x8": Kind("FSQ 8x8", replace(FSQ, grid=8)),
    "fsq-8x8-rare": Kind("FSQ 8x8, curbs and car x 8", replace(FSQ, grid=8, rare_weight=8.0)),
    "categorical": Kind("categorical 4x4, score", CategoricalVAEConfig()),
    "categorical-straight-through": Kind(
        "categorical 4x4, straight-through", CategoricalVAEConfig(estimator="straight-through")
    ),
    "vae-rare": Kind("VAE, curbs and car x 4, longer", RARE_VAE, 2.4),
    "vq-rare": Kind("VQ 4x4, curbs and car x 4, longer", RARE_VQ, 2.4),
    "fsq-rare": Kind("FSQ 4x4, curbs and car x 4, longer", replace(RARE_VQ, quantizer="fsq"), 2.4),
}

Frames = UInt8[Tensor, "frame height width 3"]


@dataclass(frozen=True)
class VisionKinds(Experiment):
    """Compare kinds of V.

    Attributes:
        episodes: number of episodes of training frames.
        drives: number of drives of held-out frames.
        epochs: number of epochs over the training frames.
    """

    name = "vision"
    table = KINDS
    episodes: int = 96
    drives: int = 16
    epochs: int = 5

    def run(self, name: str, spec: Kind, context: Context) -> Result:
        """Train one V, save a picture with its reconstructions, and return its metrics."""
        frames = exploring_frames(self.episodes, context.workers)
        held_out, shown = driven_frames(self.drives)
        vision, usage = trained(spec, frames, self.epochs)
        with torch.no_grad():
            decoded = vision.decode(vision.mode(vision.encode(shown))).numpy()
        folder = context.docs / self.folder
        # Frames are saved side by side, so that the picture of all kinds can be drawn again.
        for strip, pictures in (("frames", shown.numpy()), (name, decoded)):
            iio.imwrite(folder / f"{strip}.png", np.concatenate(pictures, axis=1))
        return {
            "label": spec.label,
            "episodes": self.episodes,
            "frames": len(frames),
            "held_out_frames": len(held_out),
            "epochs": self.epochs,
            **score_vision(vision, held_out, mean_frame(frames[::5])),
            "parameters": sum(p.numel() for p in vision.parameters()),
            "usage_per_epoch": usage,
        }

    def draw(self, results: Results, docs: Path) -> None:
        """Write the page, and draw frames with their reconstructions by all kinds of V."""
        folder = docs / self.folder
        strips = {"frame": strip_frames(folder / "frames.png")}
        strips |= {KINDS[name].label: strip_frames(folder / f"{name}.png") for name in results}
        save_grid(docs / "vision.png", strips, label_width=260)
        rows = [{**row, "last": (row["usage_per_epoch"] or [{}])[-1]} for row in results.values()]
        write_page(docs / "vision.md", table=rows, **rows[0])


def exploring_frames(num_episodes: int, workers: Workers) -> Frames:
    """Return training frames of the exploring policy, one per agent step."""
    env = EnvConfig(DEFAULT_ENV_ID)
    policy = functools.partial(make_policy, "exploring", env, Path())
    episodes = play_episodes(env, policy, seeds("training", num_episodes), workers=workers)
    return torch.from_numpy(np.concatenate([rollout.frames[::REPEAT] for rollout in episodes]))


def driven_frames(num_drives: int) -> tuple[Frames, Frames]:
    """Return held-out frames of the scripted driver, one per agent step, and the shown frames."""
    drives = [drive(seed) for seed in seeds("validation", num_drives)]
    held_out = np.concatenate([rollout.frames[::REPEAT] for rollout in drives])
    # The sharpness of a turn is the mean absolute steering in the env steps around the frame.
    steering = [np.abs(rollout.actions[:, 0]) for rollout in drives]
    smooth = [np.convolve(np.append(s, 0), np.full(9, 1 / 9), "same")[::REPEAT] for s in steering]
    sharpest = largest_apart(np.concatenate(smooth), SHOWN // 2)
    ordinary = np.linspace(40, len(held_out) - 40, SHOWN - len(sharpest)).astype(int)
    shown = held_out[np.concatenate([ordinary, sharpest])]
    return torch.from_numpy(held_out), torch.from_numpy(shown)


def strip_frames(path: Path) -> UInt8[np.ndarray, "frame height width 3"]:
    """Return the frames that lie side by side in a picture."""
    return np.stack(np.split(iio.imread(path), SHOWN, axis=1))


def largest_apart(values: Float[np.ndarray, "frame"], count: int, apart: int = 60) -> np.ndarray:
    """Return the indices of the `count` largest values that are at least `apart` frames apart."""
    values, places = values.copy(), []
    for _ in range(count):
        place = int(values.argmax())
        places.append(place)
        values[max(0, place - apart) : place + apart] = -1
    return np.array(places)


def trained(kind: Kind, frames: Frames, epochs: int) -> tuple[Vision, list[dict[str, float]]]:
    """Train a V from random weights; return V, and the use of V's codes after each epoch."""
    torch.manual_seed(0)
    colors = common_colors(frames[::5].numpy())
    vision = make_vision(replace(kind.config, common_colors=colors))
    vision.init_from_data(frames[::50])
    vision.pixel_error.fit(frames[::5])
    steps_per_epoch = len(frames) // BATCH_SIZE
    usage: list[dict[str, float]] = []

    def batch_at(step: int, generator: torch.Generator) -> Tensor:
        epoch, place = divmod(step, steps_per_epoch)
        order = np.random.default_rng([0, epoch]).permutation(len(frames))
        return frames[order[place * BATCH_SIZE : (place + 1) * BATCH_SIZE]]

    def on_step(step: int, metrics: dict[str, float]) -> None:
        if step % steps_per_epoch == 0 and "loss" in metrics and isinstance(vision, VQVAE):
            vision.eval()
            codes = encode_frames(vision, frames.numpy())
            usage.append(code_usage(codes, vision.config.num_values))
            vision.train()

    num_steps = round(kind.times_epochs * epochs) * steps_per_epoch
    # The constant validation loss means that held-out frames select nothing.
    config = FitConfig(
        num_steps, BATCH_SIZE, 1e-3, final_learning_rate=1e-4, validate_every=num_steps
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fit(vision, batch_at, lambda: {"loss": 0.0}, config, seed=0, folder=folder, on_step=on_step)
    return vision, usage
