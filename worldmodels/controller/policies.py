"""Make policies from their names, in the process that uses the policies to collect episodes."""

import functools
from pathlib import Path
from typing import Any

from agents.collecting import PolicyFactory
from agents.exploration import ExploringPolicy, NoisyPolicy
from agents.policy import BrownianPolicy, ConstantPolicy, Policy, RandomPolicy
from envs.config import EnvConfig
from envs.tasks import task_for
from worldmodels.controller.agent import AgentFactory
from worldmodels.controller.elite_agents import ELITES_NAME, ElitesFactory
from worldmodels.errors import UserError
from worldmodels.runs.checkpoint import load_checkpoint
from worldmodels.runs.provenance import file_digest
from worldmodels.runs.run import Run

POLICIES = ("exploring", "random", "brownian", "agent", ELITES_NAME)
AGENT_NAME = "noisy agent"  # the policy's name in the metadata of its episodes


def player(
    run: Run, policy: str, action_repeat: int | None
) -> tuple[PolicyFactory, dict[str, Any]]:
    """Return the factory that makes the named policy in workers, and metadata for its episodes."""
    if policy == ELITES_NAME:
        elites = run.weights("elites")
        return ElitesFactory(elites), {"elites": file_digest(elites)}
    agent_file = run.weights("controller")
    env = run.settings.env
    return functools.partial(make_policy, policy, env, agent_file, action_repeat), {}


def check_agents(run: Run, policy: str) -> None:
    """Raise UserError if this policy needs agents that the run lacks or that cannot be read."""
    if policy == "agent" and not run.has("controller"):
        raise UserError(
            f'no agent in {run}: run "wm train-controller --run {run}" first, '
            "or collect with another policy"
        )
    if policy == ELITES_NAME:
        elites = run.weights("elites")
        if not elites.is_file():
            raise UserError(f'no elites in {run}: run "wm elites drive --run {run}" first')
        load_checkpoint(elites, hint=f'run "wm elites drive --run {run}" again')


def make_policy(
    name: str, env: EnvConfig, agent_file: Path, action_repeat: int | None = None
) -> Policy:
    """Make the named policy, in the process that collects episodes with this policy.

    `name` is one of `POLICIES` except "elites", or the name of one of the task's constant actions.
    `ElitesFactory` makes the policy "elites", because each episode determines its elite.
    """
    task = task_for(env)
    space = task.action_map.space
    repeat = action_repeat or task.action_repeat
    if name == "random":
        return RandomPolicy(space, repeat)
    if name == "brownian":
        return BrownianPolicy(space, repeat)
    if name == "exploring":
        return ExploringPolicy(task, space, repeat)
    if name in task.constant_actions:
        return ConstantPolicy(space, task.constant_actions[name], name, repeat)
    return NoisyPolicy(AgentFactory(agent_file)())
