"""Make an agent from the V and M of a run and from an untrained C."""

from dataclasses import replace

import torch

from agents.controller import ControllerConfig
from envs.make import view_of
from envs.tasks import task_for
from worldmodels.controller.agent import Agent, AgentSpec
from worldmodels.errors import UserError
from worldmodels.memory import Memory
from worldmodels.runs.run import Run
from worldmodels.vision import Vision

INPUTS = ("zh", "z")


def new_agent(
    run: Run,
    vision: Vision,
    memory: Memory,
    *,
    inputs: str = "zh",
    hidden: int = 0,
    action_map: str | None = None,
    sample_latent: bool = False,
) -> Agent:
    """An agent for the run's env; all parameters of the agent's C are zero.

    Args:
        action_map: name of one of the task's action maps; None selects the task's default action
            map.
        inputs, hidden, sample_latent: see `AgentSpec` and `ControllerConfig`.

    Raises: UserError if the task has no action map with this name.
    """
    env = run.settings.env
    task = task_for(env)
    if action_map is not None and action_map not in task.action_maps:
        raise UserError(
            f"{env.env_id} has no action map named {action_map}, expected one of "
            f"{', '.join(task.action_maps)}: leave out --paper, or use a preset other than paper"
        )
    chosen = task.action_maps[action_map or task.default_action_map]
    features = vision.num_features + (memory.config.num_hidden if inputs == "zh" else 0)
    controller = ControllerConfig(features, chosen.num_outputs, hidden)
    repeat = run.action_repeat
    spec = AgentSpec(env.env_id, view_of(env), chosen, repeat, inputs, sample_latent)
    spec = replace(spec, env_kwargs=env.kwargs, observation_key=env.observation_key)
    return Agent(vision, memory, controller, torch.zeros(1, controller.num_parameters), spec)


def check_inputs(inputs: str) -> None:
    """Raise UserError unless `inputs` is "zh" or "z"."""
    if inputs not in INPUTS:
        raise UserError(f'inputs must be "zh" or "z", got "{inputs}"')
