"""Encoding of stored episodes by V, for M's training and for the start states of dreams."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from agents.rollout import Rollout
from worldmodels.data.batches import AgentSteps
from worldmodels.data.episode import Episode
from worldmodels.data.sequences import SequenceBatch
from worldmodels.memory.encoded_episodes import EncodedEpisodes, record_type
from worldmodels.progress import Report
from worldmodels.runs.run import Run
from worldmodels.vision import Vision
from worldmodels.vision.batched import encode_frames

# Larger encodings are read from a file. A process that trains M at the paper's sizes takes 1.1 to
# 1.3 GB without encodings (measured), so encodings in memory add less than a tenth. The encodings
# of all rounds of the `cpu` preset, 369,000 agent steps, stay in memory.
MAX_BYTES_IN_MEMORY = 100_000_000


class Encodings:
    """A cache of encoded episodes, with which stages avoid encoding the same episode again.

    Args:
        max_cached_steps: largest number of agent steps in the cache. With actions of 3 numbers, an
            agent step takes 273 bytes for 32 latents, and 33 bytes for 16 codes.
    """

    def __init__(self, max_cached_steps: int = 1_000_000) -> None:
        self.max_cached_steps = max_cached_steps
        self._vision = b""
        self._known: dict[tuple[str, int], np.ndarray] = {}
        self._agent_steps = 0

    def of(
        self, vision: Vision, episodes: Iterable[Episode], action_repeat: int, keep: bool = True
    ) -> Iterator[np.ndarray]:
        """Yield the records of each episode.

        If the same V has encoded an episode before, the records come from the cache.

        Args:
            keep: whether new encodings are added to the cache.
        """
        digest = _digest(vision)
        if digest != self._vision:
            self._vision, self._known, self._agent_steps = digest, {}, 0
        for episode in episodes:
            key = episode.digest, action_repeat
            if key in self._known:
                yield self._known[key]
                continue
            records = encode(vision, episode.load(), action_repeat)
            agent_steps = self._agent_steps + len(records) - 1
            if keep and agent_steps <= self.max_cached_steps:
                self._known[key], self._agent_steps = records, agent_steps
            yield records


def _digest(vision: Vision) -> bytes:
    digest = hashlib.sha256()
    for weights in vision.state_dict().values():
        digest.update(weights.cpu().contiguous().numpy().tobytes())
    return digest.digest()


def encode(vision: Vision, rollout: Rollout, action_repeat: int) -> np.ndarray:
    """Encode an episode's agent steps as records; see `encoded_episodes`."""
    agent_steps = AgentSteps.from_rollout(rollout, action_repeat)
    posteriors = encode_frames(vision, agent_steps.frames).numpy()
    kind = record_type(vision.posterior_type, posteriors.shape[1], agent_steps.actions.shape[1])
    records = np.zeros(len(posteriors), kind)
    records["posterior"] = posteriors
    records["action"][:-1] = agent_steps.actions
    records["reward"][:-1] = agent_steps.rewards
    records["terminated"][:-1] = agent_steps.terminated
    return records


def encoded_bytes(vision: Vision, episodes: Sequence[Episode], action_repeat: int) -> int:
    """Return the size in bytes of the records of these episodes."""
    kind = record_type(vision.posterior_type, vision.posterior_size, episodes[0].action_size)
    return kind.itemsize * sum(length + 1 for length in agent_steps_of(episodes, action_repeat))


def encode_dataset(
    vision: Vision,
    episodes: Sequence[Episode],
    action_repeat: int,
    report: Report | None = None,
    folder: Path | None = None,
    encodings: Encodings | None = None,
) -> EncodedEpisodes:
    """Encode all episodes; the result is kept in memory if it is small, else in a file.

    Args:
        report: shows the progress; if `report` is None, no progress is shown.
        folder: the folder of the file; if `folder` is None, the result always stays in memory.
        encodings: a cache with the encodings of earlier calls. Encodings that are written to a file
            are not added to the cache.
    """
    encodings = encodings or Encodings(max_cached_steps=0)
    if encoded_bytes(vision, episodes, action_repeat) <= MAX_BYTES_IN_MEMORY:
        folder = None
    lengths = agent_steps_of(episodes, action_repeat)
    with (report or Report(quiet=True)).progress("encode", total=len(episodes)) as meter:
        counted = meter.counted(episodes)
        each = encodings.of(vision, counted, action_repeat, keep=folder is None)
        return EncodedEpisodes.gather(each, lengths, folder)


def encode_split(run: Run, vision: Vision, held_out: bool, report: Report) -> EncodedEpisodes:
    """Encode the training episodes or the held-out episodes of a run."""
    episodes, known = run.store.split(held_out), run.cached(Encodings)
    return encode_dataset(vision, episodes, run.action_repeat, report, run.folder, known)


def encode_episodes(
    vision: Vision,
    episodes: Sequence[Episode],
    action_repeat: int,
    report: Report | None = None,
    encodings: Encodings | None = None,
) -> SequenceBatch:
    """Encode a few episodes as one padded batch of whole episodes on the CPU."""
    return encode_dataset(vision, episodes, action_repeat, report, None, encodings).whole()


def encode_rollouts(
    vision: Vision, rollouts: Iterable[Rollout], num_steps: Sequence[int], action_repeat: int
) -> SequenceBatch:
    """Encode rollouts as one padded batch; `num_steps` has each rollout's length in env steps."""
    each = (encode(vision, rollout, action_repeat) for rollout in rollouts)
    lengths = [-(-steps // action_repeat) for steps in num_steps]
    return EncodedEpisodes.gather(each, lengths).whole()


def agent_steps_of(episodes: Sequence[Episode], action_repeat: int) -> list[int]:
    """Count the agent steps of each episode; the last agent step may have fewer env steps."""
    return [-(-episode.num_steps // action_repeat) for episode in episodes]
