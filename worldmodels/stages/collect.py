"""Collect: play a policy and store its episodes."""

import functools
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from agents.collecting import play_episodes
from agents.exploration import ExploringPolicy, NoisyPolicy
from agents.policy import BrownianPolicy, ConstantPolicy, Policy, RandomPolicy
from agents.seeds import seeds
from agents.workers import CHUNK, Workers
from envs.tasks import task_for
from worldmodels.agent import AgentFactory, space_of
from worldmodels.errors import UserError
from worldmodels.pictures import save_grid
from worldmodels.report import Report, tensorboard
from worldmodels.run import Run, versions

POLICIES = ("exploring", "random", "brownian", "agent")
# Each run seed draws its tracks from a stretch of its own of the training seeds.
SEEDS_A_RUN = 20_000
# Measured: a 64 x 64 frame of CarRacing takes 1.6 kB after compression; some room beside it.
BYTES_A_FRAME = 1_700
SHEET_ROWS, SHEET_COLUMNS = 8, 12


@dataclass(frozen=True)
class CollectConfig:
    """What to collect.

    Attributes:
        episodes: how many the run shall hold in all; what is there already counts.
        max_episode_steps: env steps after which an episode is cut; None keeps the env's limit.
        policy: "exploring" (correlated noise in the task's styles), "random", "brownian", or
            "agent" (the run's own, with noise).
        action_repeat: env steps a decision is held; None takes the task's. The agent keeps it.
    """

    episodes: int = 10_000
    max_episode_steps: int | None = None
    policy: str = "exploring"
    action_repeat: int | None = None

    def __post_init__(self) -> None:
        if self.episodes < 1:
            raise UserError(f"expected 1 episode or more, got {self.episodes}")
        if self.max_episode_steps is not None and self.max_episode_steps < 1:
            raise UserError(f"expected 1 step or more an episode, got {self.max_episode_steps}")
        if self.action_repeat is not None and self.action_repeat < 1:
            raise UserError(f"expected an action repeat of 1 or more, got {self.action_repeat}")
        if self.policy not in POLICIES:
            raise UserError(f'expected a policy among {", ".join(POLICIES)}, got "{self.policy}"')


def make_policy(
    name: str, env_id: str, agent_file: Path, action_repeat: int | None = None
) -> Policy:
    """The named policy, made in the process that plays it.

    Besides those of `POLICIES`, the task's constant actions go by their names.
    """
    task = task_for(env_id)
    space = space_of(task.action_map)
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


def collect(
    run: Run, config: CollectConfig, *, workers: Workers, report: Report, round_: int = 1
) -> dict[str, Any]:
    """Bring the run's store to `config.episodes` episodes; those there are left as they are.

    Episodes are played in chunks counted from the first one of the round, so a collection that
    was cut off goes on with the episodes it would have had.
    """
    settings = run.settings
    store = run.store
    store.refresh()
    there = {episode.index for episode in store}
    missing = [index for index in range(config.episodes) if index not in there]
    if not missing:
        report.line(f"collect: done, {len(store)} episodes in {store.folder}")
        return _summary(run)
    agent_file = run.weights("controller")
    if config.policy == "agent" and not agent_file.is_file():
        raise UserError(
            f'no agent in {run}: run "wm train-controller --run {run}" first, '
            "or collect with another policy"
        )
    steps = config.max_episode_steps or 1000
    report.plan(
        f"collect: {len(missing)} episodes of {settings.env_id}, {config.policy} policy, "
        f"up to {steps:,} steps each",
        disk_bytes=len(missing) * steps * BYTES_A_FRAME,
        folder=store.folder,
    )
    run.create()
    first_of_round = sum(episode.meta.get("round", 1) < round_ for episode in store)
    indices = _whole_chunks(missing, first_of_round, config.episodes)
    factory = functools.partial(
        make_policy, config.policy, settings.env_id, agent_file, config.action_repeat
    )
    base = settings.seed * SEEDS_A_RUN % 1_000_000
    rollouts = play_episodes(
        settings.env_id,
        factory,
        [seeds("training", 1, (base + index) % 1_000_000)[0] for index in indices],
        workers=workers,
        max_steps=config.max_episode_steps,
    )
    returns: list[float] = []
    started = time.monotonic()
    with (
        tensorboard(run.folder / "collect" / "events") as events,
        report.progress("collect", total=len(missing)) as meter,
    ):
        for index, rollout in zip(indices, rollouts, strict=True):
            if index in there:
                continue
            store.add(index, rollout, round=round_)
            returns.append(rollout.episode_return)
            meter.advance()
            meter.show({"mean return": float(np.mean(returns))})
            events.add_scalar("collect/return", returns[-1], index)
    result = _summary(run)
    save_grid(run.folder / "collect" / "collect.png", _contact_sheet(run))
    run.write_json("collect/result.json", result)
    manifest = {
        "stage": "collect",
        "round": round_,
        "config": asdict(config),
        "seed": settings.seed,
        "output": store.digest,
        "seconds": round(time.monotonic() - started, 2),
        "versions": versions(),
    }
    run.write_json("collect/manifest.json", manifest)
    return result


def _whole_chunks(missing: list[int], first: int, end: int) -> list[int]:
    """Indices of every chunk with a missing episode: a chunk is always played as one."""
    chunks = sorted({(index - first) // CHUNK for index in missing})
    return [
        index
        for chunk in chunks
        for index in range(first + chunk * CHUNK, first + (chunk + 1) * CHUNK)
        if 0 <= index < end
    ]


def _contact_sheet(run: Run) -> dict[str, np.ndarray]:
    """Frames of the newest episodes: a row each, evenly spread over its steps."""
    rows = {}
    for episode in run.store.episodes[-SHEET_ROWS:]:
        frames = episode.load().frames
        picks = np.linspace(0, len(frames) - 1, SHEET_COLUMNS).astype(int)
        rows[f"{episode.index}: {episode.meta['episode_return']:.0f}"] = frames[picks]
    return rows


def _summary(run: Run) -> dict[str, Any]:
    run.store.refresh()
    episodes = list(run.store)
    returns = [episode.meta["episode_return"] for episode in episodes]
    return {
        "episodes": len(episodes),
        "held_out": len(run.store.split(held_out=True)),
        "env_steps": sum(episode.num_steps for episode in episodes),
        "mean_return": float(np.mean(returns)),
        "best_return": float(np.max(returns)),
        "bytes": sum(episode.path.stat().st_size for episode in episodes),
    }
