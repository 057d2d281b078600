"""Load the agent that a search begins with, and check that it fits the run and the options."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from envs.tasks import task_for
from worldmodels.controller.agent import Agent, load_agent
from worldmodels.errors import UserError
from worldmodels.runs.run import Run

_OPTIONS = {"hidden": "--hidden", "inputs": "--controller-inputs"}


def start_agent(run: Run, place: Path, requested: Mapping[str, Any]) -> Agent:
    """The agent at `place`, whose V, M and C a search begins with.

    Args:
        requested: the settings of C in `ControllerStageConfig` that the user gave explicitly.

    Raises: UserError for an agent of another env or action repeat, for several controllers, and
        for an agent whose C differs from the requested settings, because a search continues with
        the C of the agent.
    """
    agent = load_agent(place)
    spec = agent.spec
    if spec.env != run.settings.env:
        raise UserError(
            f"{place} is an agent for {spec.env}, but {run} is for "
            f"{run.settings.env}: name an agent of the same env with --init-from"
        )
    if len(agent.parameters) != 1:
        raise UserError(
            f"{place} holds {len(agent.parameters)} controllers, expected one: "
            "name a single agent's file with --init-from"
        )
    if len(run.store) and run.action_repeat != spec.action_repeat:
        raise UserError(
            f"{place} holds each action for {spec.action_repeat} env steps, but the episodes in "
            f"{run} for {run.action_repeat}: name an agent with the same action repeat with "
            "--init-from"
        )
    _check_requested(agent, place, requested)
    return agent


def _check_requested(agent: Agent, place: Path, requested: Mapping[str, Any]) -> None:
    spec = agent.spec
    maps = task_for(spec.env).action_maps
    names = [name for name, action_map in maps.items() if action_map == spec.action_map]
    found = {
        "hidden": agent.controller.hidden,
        "inputs": spec.inputs,
        "action_map": names[0] if names else "another",
        "sample_latent": spec.sample_latent,
    }
    for name, value in requested.items():
        if found[name] != value:
            option = _OPTIONS.get(name, name)
            without = _OPTIONS.get(name, "--paper")
            raise UserError(
                f"expected {option} {found[name]}, as in {place}, whose C the search continues, "
                f"got {value}: leave out {without}, or leave out --init-from"
            )
