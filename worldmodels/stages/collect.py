"""Collect: play a policy and store its episodes."""

import functools
import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from agents.collecting import play_episodes
from agents.rollout import Rollout
from agents.workers import CHUNK, Workers
from envs.tasks import task_for
from worldmodels.controller.elite_agents import ELITES_NAME
from worldmodels.controller.policies import AGENT_NAME, POLICIES, check_agents, player
from worldmodels.data.episode import PackedEpisode, pack_episode
from worldmodels.errors import UserError
from worldmodels.prior.selection import CANDIDATES, EpisodeSelection, PackWithSurprise
from worldmodels.prior.surprise import load_surprise
from worldmodels.progress import Report, tensorboard
from worldmodels.runs.collection import is_summarized, summary, write_summary
from worldmodels.runs.env_steps import record_env_steps
from worldmodels.runs.episode_seeds import NUM_SEEDS, check_seeds_suffice, episode_seeds
from worldmodels.runs.new_run import remove_new_run_on_error
from worldmodels.runs.provenance import file_digest
from worldmodels.runs.run import Run
from worldmodels.runs.run_lock import locks_run

MAX_EPISODES = NUM_SEEDS
# Measured: a 64 x 64 frame of CarRacing, well driven, takes 1,071 bytes; some room beside it.
BYTES_A_FRAME = 1_200


@dataclass(frozen=True)
class CollectConfig:
    """What to collect.

    Attributes:
        episodes: number of episodes in the run afterwards, earlier ones included.
        max_episode_steps: env steps after which an episode is cut; None keeps the env's limit.
        policy: "exploring" (correlated noise in the task's styles), "random", "brownian",
            "agent" (the run's own, with noise), or "elites" (of `wm elites drive`, in turn).
        action_repeat: env steps per agent step; None takes the task's. Agents keep their own.
        select_by_surprise: play several candidates for each episode and keep the one whose frames
            the run's V and prior find least likely.
    """

    episodes: int = 10_000
    max_episode_steps: int | None = None
    policy: str = "exploring"
    action_repeat: int | None = None
    select_by_surprise: bool = False

    def __post_init__(self) -> None:
        if self.episodes < 1:
            raise UserError(f"expected 1 episode or more, got {self.episodes}")
        if self.episodes > MAX_EPISODES:
            raise UserError(
                f"expected {MAX_EPISODES:,} episodes or fewer, as many as there are training "
                f"seeds, got {self.episodes:,}"
            )
        if self.max_episode_steps is not None and self.max_episode_steps < 1:
            raise UserError(f"expected 1 step or more an episode, got {self.max_episode_steps}")
        if self.action_repeat is not None and self.action_repeat < 1:
            raise UserError(f"expected an action repeat of 1 or more, got {self.action_repeat}")
        if self.policy not in POLICIES:
            raise UserError(f'expected a policy among {", ".join(POLICIES)}, got "{self.policy}"')


# Long: the steps of the stage, one after the other.
@locks_run
def collect(
    run: Run, config: CollectConfig, *, workers: Workers, report: Report, round_: int = 1
) -> dict[str, Any]:
    """Bring the run's store to `config.episodes` episodes; those there are left as they are.

    Episodes are played in chunks counted from the first one of the round, so a collection that
    was cut off goes on with the episodes it would have had. Damaged files are set aside first;
    episodes in their place are played as those were, where that is still known.
    """
    settings = run.settings
    store = run.store
    store.repair(report.log)
    present = {episode.index: episode.round for episode in store}
    parts = replacements(run, config, round_, report.log)
    replaced = {index for indices in parts.values() for index in indices}
    known = sum(index < config.episodes for index in (*present, *replaced))
    num_missing = config.episodes - known + len(replaced)
    if not num_missing:
        report.log(f"collect: done, {len(store)} episodes in {store.folder}")
        run.create()  # its settings may have been lost
        result = summary(run)
        if not is_summarized(run):  # killed after the last episode
            write_summary(run, asdict(config), round_, result, 0.0)
        return result
    chosen = [episode.index for episode in store if "surprise" in episode.meta]
    chosen += [
        index
        for (part, _), missing in parts.items()
        if part.select_by_surprise
        for index in missing
    ]
    last_chosen = config.episodes - 1 if config.select_by_surprise else max(chosen, default=-1)
    check_seeds_suffice(config.episodes, last_chosen + 1, CANDIDATES)
    check_agents(run, config.policy)
    if any(part.select_by_surprise for part, _ in ((config, round_), *parts)):
        load_surprise(run)  # refuse before anything is played
    steps = config.max_episode_steps or 1000
    report.estimate(
        f"collect: {num_missing:,} episodes of {settings.env}, {config.policy} policy, "
        f"up to {steps:,} steps each",
        disk_bytes=num_missing * steps * BYTES_A_FRAME,
        folder=store.folder,
    )
    was_present = run.exists
    run.create()
    fresh = [i for i in range(config.episodes) if i not in present and i not in replaced]
    if fresh:
        parts[config, round_] = sorted([*parts.get((config, round_), []), *fresh])
    rounds = {**present, **{i: number for (_, number), part in parts.items() for i in part}}
    selection = EpisodeSelection()
    returns: list[float] = []
    started = time.monotonic()
    with (
        remove_new_run_on_error(run, was_present),
        tensorboard(run.folder / "collect" / "events") as events,
        report.progress("collect", total=num_missing) as meter,
    ):
        for (part, number), wanted in sorted(parts.items(), key=lambda item: item[0][1]):
            first = 1 + max((i for i, other in rounds.items() if other < number), default=-1)
            indices, kept = _whole_chunks(wanted, first), set(wanted)
            episodes = _played(run, part, indices, number, selection, workers=workers)
            for index, episode in zip(indices, episodes, strict=True):
                if index not in kept:
                    continue
                if part.select_by_surprise:  # before the episode is there: a kill may come between
                    work = f"collect/candidates/{index:06d}"
                    record_env_steps(run, work, {"collected": selection.discarded_steps})
                store.put(index, episode)
                returns.append(episode.episode_return)
                meter.advance()
                meter.show({"mean return": float(np.mean(returns))})
                events.add_scalar("collect/return", returns[-1], index)
    result = {**summary(run), **(selection.summary() if selection.kept else {})}
    write_summary(run, asdict(config), round_, result, time.monotonic() - started)
    return result


def replacements(
    run: Run, config: CollectConfig, round_: int, log: Callable[[str], None]
) -> dict[tuple[CollectConfig, int], list[int]]:
    """Episodes set aside, by how and in which round each is played again; tells `log` a line each.

    What a damaged file no longer tells is taken from the nearest one that does, an earlier one
    first; where that does not help either, `config` and `round_` count.
    """
    missing = run.store.missing()
    known = {episode.index: episode.meta for episode in run.store}
    known |= {index: summary for index, summary in missing.items() if summary is not None}
    parts: dict[tuple[CollectConfig, int], list[int]] = {}
    for index in sorted(missing):
        near = min(known, key=lambda other: (other > index, abs(other - index)), default=None)
        like = {} if near is None else known[near]
        number = like.get("round", 1) if like else round_
        again, how = _as_before(run, config, like, number)
        # Steps after which its round was cut.
        kin = [summary for summary in known.values() if summary.get("round", 1) == number]
        if kin:
            cuts = [meta["num_steps"] for meta in kin if meta["truncated"]]
            again = replace(again, max_episode_steps=max(cuts, default=None))
        parts.setdefault((again, number), []).append(index)
        log(f"episode {index}: played again in round {number}, {how}")
    return parts


def _as_before(
    run: Run, config: CollectConfig, like: dict[str, Any], round_: int
) -> tuple[CollectConfig, str]:
    """The policy an episode is played with again, and what to say of it."""
    name = str(like.get("policy", "unknown"))
    policy = "agent" if name == AGENT_NAME else name
    if policy == "agent" and not run.has("controller"):
        return config, f"{config.policy} policy: the agent that played it is gone"
    if policy == ELITES_NAME and not run.has("elites"):
        return config, f"{config.policy} policy: the elites that played it are gone"
    if policy not in POLICIES:
        return config, f"{config.policy} policy: what played it is not known"
    again = replace(
        config,
        policy=policy,
        action_repeat=like["action_repeat"],
        select_by_surprise="surprise" in like,
    )
    if policy == ELITES_NAME and like.get("elites") != file_digest(run.weights("elites")):
        return again, "by the elites there are: those that played it were others"
    if policy != "agent":
        return again, f"{policy} policy"
    trained = (run.manifest("controller") or {}).get("round")
    if trained == round_ - 1:
        return again, "agent policy"
    return again, f"by the agent there is, of round {trained}: the one that played it may be gone"


def _played(
    run: Run,
    config: CollectConfig,
    indices: list[int],
    round_: int,
    selection: EpisodeSelection,
    *,
    workers: Workers,
) -> Iterator[PackedEpisode]:
    """The episode of each index, one after the other; where asked, chosen among candidates."""
    settings = run.settings
    factory, summary = player(run, config.policy, config.action_repeat)
    chosen = {"env_kwargs": settings.env.kwargs, "observation_key": settings.observation_key}
    summary |= {name: value for name, value in chosen.items() if value}
    candidates = CANDIDATES if config.select_by_surprise else 1
    transform: Callable[[Rollout], Any] = functools.partial(pack_episode, round=round_, **summary)
    if config.select_by_surprise:
        repeat = config.action_repeat or task_for(settings.env).action_repeat
        prior = file_digest(run.weights("prior"))
        transform = PackWithSurprise(run.folder, round_, repeat, prior, summary)
    played = play_episodes(
        settings.env,
        factory,
        [seed for index in indices for seed in episode_seeds(settings.seed, index, candidates)],
        workers=workers,
        max_steps=config.max_episode_steps,
        transform=transform,
    )
    if not config.select_by_surprise:
        yield from played
        return
    for _ in indices:
        yield selection(list(itertools.islice(played, candidates)))


def _whole_chunks(wanted: list[int], first: int) -> list[int]:
    """Indices of every chunk with a wanted episode: a chunk is played from its start."""
    chunks = sorted({(index - first) // CHUNK for index in wanted})
    last = max(wanted, default=-1)
    return [
        index
        for chunk in chunks
        for index in range(first + chunk * CHUNK, first + (chunk + 1) * CHUNK)
        if 0 <= index <= last
    ]
