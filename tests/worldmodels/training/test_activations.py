import torch
from torch import nn

from tests.fixtures.tiny_models import frames, vqvae
from worldmodels.training.activations import activation_bytes


def test_the_outputs_of_all_layers_are_counted() -> None:
    model = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.Sequential(nn.Linear(5, 2)))
    assert activation_bytes(model, lambda copied: copied(torch.ones(7, 3))) == 4 * 7 * (5 + 5 + 2)
    assert model.training and not model[0]._forward_hooks


def test_the_model_and_the_global_generator_stay_as_they_were() -> None:
    """A codebook takes its first vectors from its first batch, which must not happen here."""
    model, frame = vqvae("vq"), torch.from_numpy(frames(1))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    assert activation_bytes(model, lambda copied: copied.decode(copied.encode(frame))) > 0
    assert torch.equal(torch.get_rng_state(), state)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
