import numpy as np
import pytest
import torch

from agents.controller import ControllerConfig, apply_action_map, control
from envs.actions import ActionMap
from envs.tasks import task_for

PAPER = ControllerConfig(num_features=288, num_outputs=3)
CAR_MAPS = task_for("CarRacing-v3").action_maps
DISCRETE = ActionMap(3, True, (0, 1, 2), (1.0,) * 3, (0.0,) * 3, (0.0,) * 3, (1.0,) * 3)


def test_the_paper_counts_867_parameters() -> None:
    assert PAPER.num_parameters == 867
    assert ControllerConfig(4, 2, hidden=8).num_parameters == 5 * 8 + 9 * 2


def test_a_population_is_each_candidate_on_its_own() -> None:
    parameters, features = torch.randn(5, 867), torch.randn(5, 4, 288)
    outputs = control(PAPER, parameters, features)
    for candidate in range(5):
        weight = parameters[candidate, :864].reshape(288, 3)
        expected = features[candidate] @ weight + parameters[candidate, 864:]
        torch.testing.assert_close(outputs[candidate], expected, rtol=1e-4, atol=1e-4)


def test_hidden_units_are_the_module_with_the_same_weights() -> None:
    config = ControllerConfig(4, 2, hidden=8)
    module = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2))
    first, last = module[0], module[2]
    assert isinstance(first, torch.nn.Linear) and isinstance(last, torch.nn.Linear)
    parameters = torch.cat(
        [first.weight.T.flatten(), first.bias, last.weight.T.flatten(), last.bias]
    )
    features = torch.randn(6, 4)
    outputs = control(config, parameters[None], features[None])[0]
    torch.testing.assert_close(outputs, module(features))


@pytest.mark.parametrize("action_map", [*CAR_MAPS.values(), DISCRETE])
def test_action_maps_give_the_same_numbers_in_torch_and_numpy(action_map: ActionMap) -> None:
    outputs = np.random.default_rng(0).normal(0, 2, (7, 5, action_map.num_outputs))
    outputs = outputs.astype(np.float32)
    actions = apply_action_map(action_map, torch.from_numpy(outputs))
    assert actions.dtype == torch.float32
    np.testing.assert_allclose(actions.numpy(), action_map(outputs), rtol=1e-6, atol=1e-7)


def test_gradients_reach_the_outputs_after_a_first_call_in_inference_mode() -> None:
    action_map = CAR_MAPS["pedal"]
    with torch.inference_mode():
        apply_action_map(action_map, torch.zeros(1, 2, dtype=torch.float64))
    outputs = torch.tensor([[0.5, -0.3]], dtype=torch.float64, requires_grad=True)
    apply_action_map(action_map, outputs).sum().backward()
    tanh = torch.tanh(outputs.detach())
    # Steering rises with tanh; below zero the pedal is the brake alone, which falls with it.
    expected = (1 - tanh**2) * torch.tensor([[1.0, -1.0]])
    torch.testing.assert_close(outputs.grad, expected)


def test_wrong_sizes_are_named() -> None:
    with pytest.raises(ValueError, match=r"parameters of shape \(P, 867\)"):
        control(PAPER, torch.zeros(1, 866), torch.zeros(1, 1, 288))
    with pytest.raises(ValueError, match=r"features of shape \(P, B, 288\)"):
        control(PAPER, torch.zeros(1, 867), torch.zeros(1, 1, 287))
    with pytest.raises(ValueError, match=r"outputs of shape \(\.\.\., 2\)"):
        apply_action_map(CAR_MAPS["pedal"], torch.zeros(4, 3))
    with pytest.raises(ValueError, match="num_features and num_outputs of at least 1"):
        ControllerConfig(0, 1)
