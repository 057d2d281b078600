"""How unusual frames are to V and its prior: nats per frame, -log p(codes).

Few nats: a frame of the kind that was collected often. Codes alone do not show whether they
describe the frame at all: one unlike all of V's training frames may be drawn as something ordinary.
The squared error of its reconstruction shows that, so both are given. On CarRacing, after 54
episodes of exploration:

    frames                             nats   squared error
    standing at the start                 4               5
    held-out exploration                 31              14
    a driver who stays on the road       34              20
    a black picture                      36             123
    top and bottom of two frames         51              21
    with a red blob                      61              82
    in other colors                     82             179
    noise                               150           1,160
"""

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from worldmodels.errors import UserError
from worldmodels.prior.pixelcnn import CodePrior, restore_prior
from worldmodels.runs.checkpoint import load_checkpoint
from worldmodels.runs.provenance import file_digest
from worldmodels.runs.run import Run
from worldmodels.runs.stage_folder import read_file
from worldmodels.training.device import device_of
from worldmodels.vision import VQVAE, load_vision
from worldmodels.vision.batched import ENCODE_BATCH, decode_frames, encode_frames


class Surprise:
    """The surprise of frames, by a V with codes and the prior over them."""

    def __init__(self, vision: VQVAE, prior: CodePrior) -> None:
        self.vision = vision.eval()
        self.prior = prior.eval()
        self.device = device_of(prior)

    def surprise(self, frames: UInt8[np.ndarray, "batch 64 64 3"]) -> Float[Tensor, "batch"]:
        """Nats per frame, on the CPU."""
        return self.of_codes(encode_frames(self.vision, frames))

    def surprise_and_error(
        self, frames: UInt8[np.ndarray, "batch 64 64 3"]
    ) -> tuple[Float[Tensor, "batch"], Float[Tensor, "batch"]]:
        """Nats per frame, and the squared error of V's reconstruction, as in `wm train-vision`.

        The error is in units of full scale, summed over a frame.
        """
        codes = encode_frames(self.vision, frames)
        decoded = torch.from_numpy(decode_frames(self.vision, codes))
        difference = (decoded.float() - torch.from_numpy(frames).float()) / 255.0
        return self.of_codes(codes), difference.square().sum((1, 2, 3))

    @torch.no_grad()
    def of_codes(self, codes: Int[Tensor, "batch code"]) -> Float[Tensor, "batch"]:
        """Nats per frame of these codes, on the CPU."""
        parts = (self.prior.log_prob(part.to(self.device)) for part in codes.split(ENCODE_BATCH))
        return torch.cat([-part.sum(1).cpu() for part in parts])


def load_surprise(run: Run, device: str = "cpu") -> Surprise:
    """Load V and prior of a run.

    Raises: UserError if the run's V is continuous, has no prior, or was trained after its prior.
    """
    vision_path, prior_path = run.weights("vision"), run.weights("prior")
    vision = load_vision_with_codes(run, device)
    hint = f'run "wm train-prior --run {run}" first'
    checkpoint = load_checkpoint(prior_path, hint=hint)
    if checkpoint.metadata.get("vision_digest") != read_file(vision_path, file_digest):
        raise UserError(
            f"the prior in {prior_path.parent} is for an earlier V, whose codes meant something "
            f'else: run "wm train-prior --run {run}" again'
        )
    return Surprise(vision, restore_prior(checkpoint, prior_path, device))


def load_vision_with_codes(run: Run, device: str = "cpu") -> VQVAE:
    """The run's V; raises UserError where there is none, or a continuous one."""
    vision = load_vision(run, device, " --quantized")
    if not isinstance(vision, VQVAE):
        raise UserError(
            f"{run} holds a continuous V, a prior needs codes: train one with --quantized, "
            "into another folder"
        )
    return vision


def episode_surprise(
    surprise: Surprise, frames: UInt8[np.ndarray, "frames 64 64 3"], stride: int = 1
) -> float:
    """Surprise of an episode in nats per frame: the mean over every stride-th of its frames."""
    return float(surprise.surprise(frames[::stride]).mean())
