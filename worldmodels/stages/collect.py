"""Collect: play a policy and store its episodes."""

import functools
import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from agents.collecting import play_episodes
from agents.exploration import ExploringPolicy, NoisyPolicy
from agents.policy import BrownianPolicy, ConstantPolicy, Policy, RandomPolicy
from agents.rollout import Rollout
from agents.seeds import seeds
from agents.workers import CHUNK, Workers
from envs.tasks import task_for
from worldmodels.agent import AgentFactory, space_of
from worldmodels.data.episode import PackedEpisode, pack_episode
from worldmodels.errors import UserError
from worldmodels.pictures import save_grid
from worldmodels.report import Report, tensorboard
from worldmodels.run import Run, file_digest, versions
from worldmodels.stages.surprising import CANDIDATES, Choice, PackWithSurprise
from worldmodels.surprise import load_surprise

POLICIES = ("exploring", "random", "brownian", "agent")
# Each run seed draws its tracks from a stretch of its own of the training seeds.
SEEDS_A_RUN = 20_000
# Measured: a 64 x 64 frame of CarRacing, well driven, takes 1,071 bytes; some room beside it.
BYTES_A_FRAME = 1_200
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
        prefer_surprising: play several candidates for each episode and keep the one whose frames
            the run's V and prior find least likely.
    """

    episodes: int = 10_000
    max_episode_steps: int | None = None
    policy: str = "exploring"
    action_repeat: int | None = None
    prefer_surprising: bool = False

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
    was cut off goes on with the episodes it would have had. Damaged files are set aside first,
    and their episodes played again.
    """
    settings = run.settings
    store = run.store
    store.mend(report.line)
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
    if config.prefer_surprising:
        load_surprise(run)  # refuse before anything is played
    steps = config.max_episode_steps or 1000
    report.plan(
        f"collect: {len(missing)} episodes of {settings.env_id}, {config.policy} policy, "
        f"up to {steps:,} steps each",
        disk_bytes=len(missing) * steps * BYTES_A_FRAME,
        folder=store.folder,
    )
    run.create()
    earlier = [episode.index for episode in store if episode.round < round_]
    first_of_round = 1 + max(earlier, default=-1)
    indices = _whole_chunks(missing, first_of_round, config.episodes)
    factory = functools.partial(
        make_policy, config.policy, settings.env_id, agent_file, config.action_repeat
    )
    choice = Choice()
    episodes = _played(run, config, factory, indices, round_, choice, workers=workers)
    returns: list[float] = []
    started = time.monotonic()
    with (
        tensorboard(run.folder / "collect" / "events") as events,
        report.progress("collect", total=len(missing)) as meter,
    ):
        for index, episode in zip(indices, episodes, strict=True):
            if index in there:
                continue
            store.put(index, episode)
            returns.append(episode.episode_return)
            meter.advance()
            meter.show({"mean return": float(np.mean(returns))})
            events.add_scalar("collect/return", returns[-1], index)
    result = {**_summary(run), **(choice.summary() if config.prefer_surprising else {})}
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


def _played(
    run: Run,
    config: CollectConfig,
    factory: Callable[[], Policy],
    indices: list[int],
    round_: int,
    choice: Choice,
    *,
    workers: Workers,
) -> Iterator[PackedEpisode]:
    """The episode of each index, one after the other; where asked, chosen among candidates."""
    settings = run.settings
    base = settings.seed * SEEDS_A_RUN
    candidates = CANDIDATES if config.prefer_surprising else 1
    # Candidates beside each other, from equal parts of the run's stretch.
    numbers = [
        base + index + candidate * SEEDS_A_RUN // candidates
        for index in indices
        for candidate in range(candidates)
    ]
    finish: Callable[[Rollout], Any] = functools.partial(pack_episode, round=round_)
    if config.prefer_surprising:
        repeat = config.action_repeat or task_for(settings.env_id).action_repeat
        prior = file_digest(run.weights("prior"))
        finish = PackWithSurprise(run.folder, round_, repeat, prior)
    played = play_episodes(
        settings.env_id,
        factory,
        [seeds("training", 1, number % 1_000_000)[0] for number in numbers],
        workers=workers,
        max_steps=config.max_episode_steps,
        finish=finish,
    )
    if not config.prefer_surprising:
        yield from played
        return
    for _ in indices:
        yield choice(list(itertools.islice(played, candidates)))


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
        "bytes": sum(episode.num_bytes for episode in episodes),
    }
