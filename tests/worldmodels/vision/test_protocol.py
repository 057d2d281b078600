import pytest
import torch

from tests.fixtures.tiny_models import frames, vae, vqvae
from worldmodels.vision import Vision

FRAMES = torch.from_numpy(frames(20))


@pytest.mark.parametrize("kind", ["vae", "vq", "fsq"])
def test_every_v_keeps_the_contract(kind: str) -> None:
    vision = vae() if kind == "vae" else vqvae(kind)
    assert isinstance(vision, Vision)
    assert vision.discrete == (kind != "vae")
    if kind == "vq":
        vision.loss(FRAMES)  # takes the codebook from the data
    with torch.no_grad():
        posterior = vision.eval().encode(FRAMES)
        features = vision.features(vision.mode(posterior))
    assert posterior.shape == (20, vision.posterior_size)
    stored = posterior.numpy().astype(vision.posterior_type)
    assert torch.equal(torch.from_numpy(stored).to(posterior.dtype), posterior)
    assert stored.itemsize == (4 if kind == "vae" else 1)
    assert features.shape == (20, vision.num_features)
    bounds = vision.feature_bounds()
    assert (bounds is None) == (kind == "vae")
    if bounds is not None:
        assert (features >= bounds[0]).all() and (features <= bounds[1]).all()
        assert (features.amax() == bounds[1].amax()) and (bounds[0] < bounds[1]).all()
