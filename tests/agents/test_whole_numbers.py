"""In a Box of integers, policies select whole numbers, so that M gets the executed actions."""

import numpy as np
import pytest
import torch
from gymnasium import spaces

from agents.controller import apply_action_map
from agents.exploration import NoisyPolicy
from agents.policy import BrownianPolicy, ConstantPolicy, RandomPolicy
from envs.actions import ActionMap

SPACE = spaces.Box(0, 10, (2,), np.int64)


@pytest.mark.parametrize(
    "policy",
    [
        RandomPolicy(SPACE),
        BrownianPolicy(SPACE),
        NoisyPolicy(ConstantPolicy(SPACE, [5, 5], "five"), strengths=0.6),
    ],
    ids=lambda policy: policy.name,
)
def test_actions_are_whole_numbers_within_the_box(
    policy: RandomPolicy | BrownianPolicy | NoisyPolicy,
) -> None:
    policy.reset(6, seed=1)
    frames = np.zeros((6, 64, 64, 3), np.uint8)
    selected_actions = np.concatenate(
        [policy.select_actions(frames, np.ones(6, bool)) for _ in range(50)]
    )
    np.testing.assert_array_equal(selected_actions, np.rint(selected_actions))
    assert (
        selected_actions.min() >= 0
        and selected_actions.max() <= 10
        and len(np.unique(selected_actions)) > 2
    )
    assert policy.act(frames).dtype == np.int64


def test_a_random_policy_draws_every_number_equally_often() -> None:
    policy = RandomPolicy(SPACE)
    policy.reset(1, seed=0)
    frames = np.zeros((1, 64, 64, 3), np.uint8)
    counts = np.bincount([policy.act(frames)[0, 0] for _ in range(2200)], minlength=11)
    assert len(counts) == 11 and counts.min() > 140  # 200 each; 0 and 10 halved would be 110


def test_a_controllers_numbers_are_rounded_and_keep_their_gradient() -> None:
    action_map = ActionMap.for_space(SPACE)
    outputs = torch.tensor([[0.3, -0.7]], requires_grad=True)
    actions = apply_action_map(action_map, outputs)
    np.testing.assert_array_equal(actions.detach().numpy(), action_map(outputs.detach().numpy()))
    assert torch.equal(actions, actions.round())
    actions.sum().backward()
    gradient = 5 * (1 - torch.tanh(outputs.detach()) ** 2)
    torch.testing.assert_close(outputs.grad, gradient)
