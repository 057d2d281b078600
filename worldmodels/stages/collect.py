"""Play episodes with a policy, and store the episodes."""

import functools
import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from agents.collecting import PlayChunk, TransformedPlay
from agents.rollout import Rollout
from agents.workers import CHUNK, Workers
from envs.registration import episode_limit
from envs.tasks import task_for
from worldmodels.controller.elite_agents import ELITES_NAME
from worldmodels.controller.policies import AGENT_NAME, POLICIES, check_agents, player
from worldmodels.data.episode import PackedEpisode, pack_episode
from worldmodels.errors import UserError, check_at_least, check_choice
from worldmodels.prior.selection import CANDIDATES, EpisodeSelection, PackWithSurprise
from worldmodels.prior.surprise import load_surprise
from worldmodels.progress import Report, tensorboard
from worldmodels.runs.collection import figures, is_summarized, write_summary
from worldmodels.runs.env_steps import record_env_steps
from worldmodels.runs.episode_seeds import NUM_SEEDS, check_seeds_suffice, episode_seeds
from worldmodels.runs.new_run import created_run
from worldmodels.runs.provenance import file_digest
from worldmodels.runs.run import Run
from worldmodels.runs.run_lock import locks_run
from worldmodels.runs.step_budget import episodes_wanted

# A 64 x 64 frame of CarRacing, driven well, takes 1,071 bytes (measured); the rest is a margin.
BYTES_A_FRAME = 1_200


@dataclass(frozen=True)
class CollectConfig:
    """Settings of a collection of episodes.

    Attributes:
        episodes: total number of episodes that the run will hold, including the episodes that it
            holds already.
        env_steps: largest total number of env steps of the run. If `env_steps` is given, the limit
            `episodes` is not used.
        max_episode_steps: number of env steps after which an episode is truncated; None stands for
            the env's own limit.
        policy: "exploring" (habits and correlated noise, see `ExploringPolicy`), "random",
            "brownian", "agent" (the run's agent, with noise on its actions), or "elites" (the
            elites of `wm elites drive`, one elite per episode).
        action_repeat: env steps per agent step; None stands for the task's action repeat. The
            policies "agent" and "elites" ignore this setting, because every agent has its own
            action repeat.
        select_by_surprise: whether to play several candidates for each episode, and to store the
            candidate whose frames are the least likely under the run's V and prior.
    """

    episodes: int = 10_000
    env_steps: int | None = None
    max_episode_steps: int | None = None
    policy: str = "exploring"
    action_repeat: int | None = None
    select_by_surprise: bool = False

    def __post_init__(self) -> None:
        check_at_least(1, self, "episodes", "env_steps", "max_episode_steps", "action_repeat")
        if self.episodes > NUM_SEEDS:
            raise UserError(
                f"expected at most {NUM_SEEDS:,} episodes, one per training seed, "
                f"got {self.episodes:,}"
            )
        check_choice("policy", self.policy, POLICIES)

    def limited(self, episodes: int | None, env_steps: int | None) -> "CollectConfig":
        """Return this config with another limit, or this config itself if both arguments are None.

        Raises: UserError if both arguments are given.
        """
        if episodes is not None and env_steps is not None:
            raise UserError(
                "expected a number of episodes or a number of env steps, got both: give only one"
            )
        if episodes is None and env_steps is None:
            return self
        if episodes is None:
            return replace(self, env_steps=env_steps)
        return replace(self, episodes=episodes, env_steps=None)


# Maps a config and a round to the indices of the episodes that are played with them.
Parts = dict[tuple[CollectConfig, int], list[int]]


@locks_run
def collect(
    run: Run, config: CollectConfig, *, workers: Workers, report: Report, round_: int = 1
) -> dict[str, Any]:
    """Play and store episodes until the run has `config.episodes` episodes.

    Stored episodes stay unchanged. New episodes are played in chunks of fixed size, and the first
    chunk begins at the first episode of the round. An interrupted collection therefore continues
    with the same episodes as an uninterrupted collection. Damaged files are quarantined (renamed)
    before new episodes are played. The episode of a damaged file is played again by the same
    policy, if that policy is known and still exists.

    If `config.env_steps` is set, episodes are played in waves, until no further episode fits into
    this number of env steps; see `episodes_wanted`.
    """
    if config.env_steps is None:
        return _collect(run, config, workers, report, round_)
    while True:
        run.store.refresh()
        held = len(run.store)
        episodes = _episodes_for(run, config, config.env_steps, round_)
        wave = replace(config, episodes=episodes, env_steps=None)
        result = _collect(run, wave, workers, report, round_)
        if len(run.store) == held:
            return result


def _episodes_for(run: Run, config: CollectConfig, env_steps: int, round_: int) -> int:
    """Return the total number of episodes that the run must hold at the end of the next wave."""
    earlier = [episode.num_steps for episode in run.store if episode.round < round_]
    present = [episode.num_steps for episode in run.store if episode.round >= round_]
    limit = config.max_episode_steps or episode_limit(run.settings.env)
    left = env_steps - sum(earlier)
    first_wave = CHUNK if limit is None else max(1, min(CHUNK, left // limit))
    wanted = episodes_wanted(left, present, earlier, first_wave)
    return max(1, len(earlier) + wanted)


def _collect(
    run: Run, config: CollectConfig, workers: Workers, report: Report, round_: int
) -> dict[str, Any]:
    """Play episodes until the run has `config.episodes` episodes."""
    store = run.store
    store.repair(report.log)
    parts = replacements(run, config, round_, report.log)
    num_replaced = sum(map(len, parts.values()))
    present = {episode.index for episode in store}.union(*parts.values())
    num_fresh = config.episodes - sum(index < config.episodes for index in present)
    if not num_fresh + num_replaced:
        report.log(f"collect: done, {len(store)} episodes in {store.folder}")
        run.create()  # the file with the run's settings may be missing
        result = figures(store.episodes)
        if not is_summarized(run):  # an earlier call was killed after the last episode
            write_summary(run, asdict(config), round_, result, 0.0)
        return result
    _check_playable(run, config, parts)
    steps = config.max_episode_steps or episode_limit(run.settings.env) or 1000
    report.estimate(
        f"collect: {num_fresh + num_replaced:,} episodes of {run.settings.env}, "
        f"{config.policy} policy, up to {steps:,} steps each",
        disk_bytes=(num_fresh + num_replaced) * steps * BYTES_A_FRAME,
        folder=store.folder,
    )
    if num_fresh:
        fresh = [index for index in range(config.episodes) if index not in present]
        parts[config, round_] = sorted([*parts.get((config, round_), []), *fresh])
    started = time.monotonic()
    with created_run(run):
        selection = _play_and_store(run, parts, workers, report)
    run.store.refresh()
    result = {**figures(store.episodes), **(selection.summary() if selection.kept else {})}
    write_summary(run, asdict(config), round_, result, time.monotonic() - started)
    return result


def _check_playable(run: Run, config: CollectConfig, parts: Parts) -> None:
    """Raise UserError if there are too few seeds, or if a required agent or prior is missing."""
    chosen = [episode.index for episode in run.store if "surprise" in episode.meta]
    for (part, _), missing in parts.items():
        if part.select_by_surprise:
            chosen += missing
    last_chosen = config.episodes - 1 if config.select_by_surprise else max(chosen, default=-1)
    check_seeds_suffice(config.episodes, last_chosen + 1, CANDIDATES)
    check_agents(run, config.policy)
    if config.select_by_surprise or any(part.select_by_surprise for part, _ in parts):
        load_surprise(run)


def _play_and_store(run: Run, parts: Parts, workers: Workers, report: Report) -> EpisodeSelection:
    """Play and store the episodes of all parts; begin with the earliest round.

    Returns: a record of the selection among candidates.
    """
    rounds = {episode.index: episode.round for episode in run.store}
    rounds |= {index: round_ for (_, round_), part in parts.items() for index in part}
    selection = EpisodeSelection()
    returns: list[float] = []
    with (
        tensorboard(run.folder / "collect" / "events") as events,
        report.progress("collect", total=sum(map(len, parts.values()))) as meter,
    ):
        for (config, round_), wanted in sorted(parts.items(), key=lambda item: item[0][1]):
            first = 1 + max((i for i, other in rounds.items() if other < round_), default=-1)
            # If an episode of a chunk is wanted, the chunk is played from its first episode.
            chunks, kept = {(index - first) // CHUNK for index in wanted}, set(wanted)
            indices = [i for i in range(max(wanted) + 1) if (i - first) // CHUNK in chunks]
            played = _played(run, config, round_, indices, workers)
            for index, candidates in zip(indices, played, strict=True):
                surprise = config.select_by_surprise
                episode: PackedEpisode = selection(candidates) if surprise else candidates[0]
                if index not in kept:
                    continue
                if surprise:  # recorded first, because a kill may come before `put`
                    work = f"collect/candidates/{index:06d}"
                    record_env_steps(run, work, {"collected": selection.discarded_steps})
                run.store.put(index, episode)
                returns.append(episode.episode_return)
                meter.advance()
                meter.show({"mean return": float(np.mean(returns))})
                events.add_scalar("collect/return", returns[-1], index)
    return selection


def replacements(run: Run, config: CollectConfig, round_: int, log: Callable[[str], None]) -> Parts:
    """Find missing episodes, and the config and the round with which each is played again.

    Every missing episode is logged. An episode whose metadata cannot be read is played like the
    nearest earlier episode with metadata. If no earlier episode has metadata, the episode is played
    like the nearest later episode with metadata. If no episode has metadata, `config` and `round_`
    are used.
    """
    missing = run.store.missing()
    known = {episode.index: episode.meta for episode in run.store}
    known |= {index: metadata for index, metadata in missing.items() if metadata is not None}
    parts: Parts = {}
    for index in sorted(missing):
        near = min(known, key=lambda other: (other > index, abs(other - index)), default=None)
        like: dict[str, Any] = {"round": round_} if near is None else {"round": 1, **known[near]}
        number = like["round"]
        again, how = _as_before(run, config, like)
        kin = [metadata for metadata in known.values() if metadata.get("round", 1) == number]
        if kin:  # episodes of this round were truncated after as many steps
            cuts = [metadata["num_steps"] for metadata in kin if metadata["truncated"]]
            again = replace(again, max_episode_steps=max(cuts, default=None))
        parts.setdefault((again, number), []).append(index)
        log(f"episode {index}: played again in round {number} {how}")
    return parts


def _as_before(run: Run, config: CollectConfig, like: dict[str, Any]) -> tuple[CollectConfig, str]:
    """Return the config with which an episode is played again, and a log text about this config.

    Args:
        like: metadata of the episode, or of another episode that was probably played in the same
            way.
    """
    name = str(like.get("policy", "unknown"))
    policy = "agent" if name == AGENT_NAME else name
    instead = f"with the {config.policy} policy, because"
    if policy == "agent" and not run.has("controller"):
        return config, f"{instead} the agent of this episode is gone"
    if policy == ELITES_NAME and not run.has("elites"):
        return config, f"{instead} the elites of this episode are gone"
    if policy not in POLICIES:
        return config, f"{instead} the policy of this episode is unknown"
    again = replace(
        config,
        policy=policy,
        action_repeat=like["action_repeat"],
        select_by_surprise="surprise" in like,
    )
    if policy == ELITES_NAME and like.get("elites") != file_digest(run.weights("elites")):
        return again, "with the current elites, because the elites of this episode are gone"
    if policy != "agent":
        return again, f"with the {policy} policy"
    trained = (run.manifest("controller") or {}).get("round")
    if trained == like["round"] - 1:
        return again, "with the agent policy"
    return again, f"with the agent of round {trained}, because the episode's agent may be gone"


def _played(
    run: Run, config: CollectConfig, round_: int, indices: list[int], workers: Workers
) -> Iterator[list[Any]]:
    """Yield one list of played candidates per index.

    Without `config.select_by_surprise`, each list holds only one candidate.
    """
    settings = run.settings
    factory, metadata = player(run, config.policy, config.action_repeat)
    chosen = {"env_kwargs": settings.env.kwargs, "observation_key": settings.observation_key}
    metadata |= {name: value for name, value in chosen.items() if value}
    candidates = CANDIDATES if config.select_by_surprise else 1
    pack: Callable[[Rollout], Any] = functools.partial(pack_episode, round=round_, **metadata)
    if config.select_by_surprise:
        repeat = config.action_repeat or task_for(settings.env).action_repeat
        prior = file_digest(run.weights("prior"))
        pack = PackWithSurprise(run.folder, round_, repeat, prior, metadata)
    seeds = [seed for index in indices for seed in episode_seeds(settings.seed, index, candidates)]
    play = PlayChunk(settings.env, factory, config.max_episode_steps, TransformedPlay(pack))
    played = play.episodes(seeds, workers)
    for _ in indices:
        yield list(itertools.islice(played, candidates))
