"""Pictures of V's results: reconstructions, code maps and interpolations."""

from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from worldmodels.vision import VQVAE, Vision
from worldmodels.vision.batched import decode_frames, encode_frames
from worldmodels.vision.networks import FRAME_SIZE, Frames

NUM_FRAMES = 16
NUM_PATHS = 6
PATH_POINTS = 11

Rows = Mapping[str, UInt8[np.ndarray, "frame 64 64 3"]]


def reconstructions(vision: Vision, frames: Frames) -> Rows:
    """Return a row of frames, a row of reconstructions, and a third row.

    For a quantized V, the third row holds code maps. For a VAE, the third row holds decoded samples
    from N(0, 1).
    """
    latent = vision.mode(encode_frames(vision, frames.numpy()))
    rows = {"frame": frames.numpy(), "decoded": decode_frames(vision, latent)}
    if isinstance(vision, VQVAE):
        rows["codes"] = code_maps(latent, vision.code_vectors.detach().cpu())
    else:
        generator = torch.Generator().manual_seed(0)
        z = torch.randn(len(frames), vision.num_features, generator=generator)
        rows["drawn from N(0, 1)"] = decode_frames(vision, z)
    return rows


def interpolations(vision: Vision, frames: Frames) -> Rows:
    """Decode straight lines in latent space; each row leads from one frame to another.

    The first and the last column hold the original frames.
    """
    fraction = torch.linspace(0, 1, PATH_POINTS)[:, None]
    rows = {}
    half = len(frames) // 2
    pairs = zip(frames[:half], frames[half:], strict=False)
    for number, (start, end) in enumerate(pairs, start=1):
        ends = vision.mode(encode_frames(vision, torch.stack([start, end]).numpy()))
        drawn = decode_frames(vision, torch.lerp(ends[:1], ends[1:], fraction))
        rows[f"path {number}"] = np.concatenate([start[None], drawn, end[None]])
    return rows


def code_maps(
    codes: Int[Tensor, "frame code"], code_vectors: Float[Tensor, "value vector"]
) -> UInt8[np.ndarray, "frame 64 64 3"]:
    """Draw the grid of codes as colored squares; codes with similar vectors have similar colors.

    The three color channels of a square are the positions of the code vector along the three
    directions in which code vectors differ most.
    """
    centred = code_vectors.double() - code_vectors.double().mean(0)
    directions = torch.linalg.svd(centred, full_matrices=False)[2][:3]
    place = torch.zeros(len(centred), 3, dtype=torch.double)
    place[:, : len(directions)] = centred @ directions.T
    lowest = place.amin(0)
    colors = 255 * (place - lowest) / (place - lowest).max().clamp(min=1e-9)
    grid = round(codes.shape[1] ** 0.5)
    squares = colors.round().to(torch.uint8)[codes].unflatten(1, (grid, grid))
    size = FRAME_SIZE // grid
    result: np.ndarray = squares.repeat_interleave(size, 1).repeat_interleave(size, 2).numpy()
    return result
