import torch
from torch import nn

from worldmodels.activations import activation_bytes


def test_the_outputs_of_all_layers_are_counted_and_running_averages_stay():
    model = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.Sequential(nn.Linear(5, 2)))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    counted = activation_bytes(model, lambda: model(torch.ones(7, 3)))
    assert counted == 4 * 7 * (5 + 5 + 2)
    assert model.training
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert not model[0]._forward_hooks
