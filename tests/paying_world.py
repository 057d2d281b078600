"""A dream that pays actions which suit what is seen, and what a controller earns in it."""

import functools

import torch
from gymnasium import spaces

from agents.controller import ControllerConfig, choose_actions
from envs.actions import ActionMap
from tests.tiny_models import ACTION_MAP, world
from worldmodels.dream import DreamModel, DreamState, dreamed_returns

MAPS = {"continuous": ACTION_MAP, "discrete": ActionMap.for_space(spaces.Discrete(3))}
BEST, IDLE = 0.95, 0.47  # paid at most, and for doing nothing; what does not suit earns nothing


def paying_world(kind):
    """Pays the first action where the first feature is above 0, and the second where it is below.

    M forgets at once, so that pay depends on the present alone. No dream ends.
    """
    vision, memory = world(kind)
    lstm, outcome = memory.lstm, memory.outcome
    nothing, something = len(outcome.units) // 2, int(torch.searchsorted(outcome.units, 0.9))
    with torch.no_grad():
        lets_in, forgets, brings, lets_out = range(4)
        weight, bias = lstm.weight_input.view(4, 5, -1), lstm.bias.view(4, 5)
        lstm.weight_hidden.zero_()
        weight[:, :2] = 0.0
        for unit, sign in enumerate((1.0, -1.0)):
            weight[lets_in, unit, 0] = 8.0 * sign
            weight[brings, unit, -3:] = 2.0 * sign * torch.tensor([1.0, -1.0, 0.0])
        bias[forgets], bias[lets_out, :2] = -20.0, 5.0
        outcome.linear.weight.zero_()
        outcome.linear.weight[something, :2] = 6.0
        outcome.linear.bias.fill_(-100.0)
        outcome.linear.bias[[nothing, something]] = 0.0
    return DreamModel(vision, memory)


def controller(dream, action_map, hidden=0):
    """Of [z, h]."""
    return ControllerConfig(dream.num_features, action_map.num_outputs, hidden)


def starts(dream, count, seed=0):
    """Moments that may be anywhere."""
    random = torch.Generator().manual_seed(seed)
    if dream.vision.discrete:
        values = len(dream.vision.code_vectors)
        latent = torch.randint(values, (count, 16), generator=random)
    else:
        latent = torch.randn(count, 3, generator=random)
    return DreamState(latent, dream.memory.initial(count), torch.ones(count))


def pay(dream, config, action_map, parameters, num_decisions=5):
    """Mean reward of a decision in many dreams, the same ones whatever the controller."""
    act = functools.partial(choose_actions, config, action_map, parameters)
    luck = torch.Generator().manual_seed(1)
    returns = dreamed_returns(dream, starts(dream, 300, seed=2), act, num_decisions, luck)
    return float(returns.mean()) / num_decisions
