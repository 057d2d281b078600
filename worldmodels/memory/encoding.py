"""Stored episodes as V sees them: what M learns from and where dreams begin."""

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

# Encodings that take more are read from a file. A process that trains M at the paper's sizes holds
# 1.1 to 1.3 GB without any (measured), so that more episodes add less than a tenth to it. All
# rounds of the `cpu` preset, 369,000 agent steps, stay in memory.
MAX_BYTES_IN_MEMORY = 100_000_000


class Encodings:
    """Encodings of episodes by the latest V, so that one stage need not encode after another.

    Args:
        max_cached_steps: kept at most; 273 bytes each for 32 latents and 3 actions, 33 for 16
            codes.
    """

    def __init__(self, max_cached_steps: int = 1_000_000) -> None:
        self.max_cached_steps = max_cached_steps
        self._vision = b""
        self._known: dict[tuple[str, int], np.ndarray] = {}
        self._agent_steps = 0

    def of(
        self, vision: Vision, episodes: Iterable[Episode], action_repeat: int, keep: bool = True
    ) -> Iterator[np.ndarray]:
        """Encode episodes one by one, or find how this V has encoded them before.

        Args:
            keep: False adds nothing to what is kept.
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
    """An episode's agent steps as records, see `encoded_episodes`."""
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
    """What the records of these episodes take."""
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
    """All episodes as V encodes them: in memory, or if they are many, in a file in `folder`.

    Args:
        report: shows the progress; None shows nothing.
        folder: None keeps them in memory in any case.
        encodings: of earlier calls, where those of this V and these episodes need not be made
            anew. Those of a data set that goes into a file are not kept there as well.
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
    """A run's training or held-out episodes."""
    episodes, known = run.store.split(held_out), run.cached(Encodings)
    return encode_dataset(vision, episodes, run.action_repeat, report, run.folder, known)


def encode_episodes(
    vision: Vision,
    episodes: Sequence[Episode],
    action_repeat: int,
    report: Report | None = None,
    encodings: Encodings | None = None,
) -> SequenceBatch:
    """A few episodes as one padded batch of whole sequences of agent steps, on the CPU."""
    return encode_dataset(vision, episodes, action_repeat, report, None, encodings).whole()


def encode_rollouts(
    vision: Vision, rollouts: Iterable[Rollout], num_steps: Sequence[int], action_repeat: int
) -> SequenceBatch:
    """As `encode_episodes`, of rollouts that come one by one; `num_steps` are their lengths."""
    each = (encode(vision, rollout, action_repeat) for rollout in rollouts)
    lengths = [-(-steps // action_repeat) for steps in num_steps]
    return EncodedEpisodes.gather(each, lengths).whole()


def agent_steps_of(episodes: Sequence[Episode], action_repeat: int) -> list[int]:
    """Agent steps of each episode; the last one may stand for fewer env steps."""
    return [-(-episode.num_steps // action_repeat) for episode in episodes]
