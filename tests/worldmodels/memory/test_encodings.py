"""The encodings of episodes are cached as long as V stays the same."""

from pathlib import Path

import pytest
import torch

from agents.rollout import Rollout
from tests.fixtures.tiny_models import rollout, vae
from worldmodels.data.episode import Episode
from worldmodels.data.store import EpisodeStore
from worldmodels.memory.encoding import Encodings, encode_episodes

LENGTHS = (5, 8, 3)


def test_an_episode_is_read_once_for_a_vision_and_again_for_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = EpisodeStore(tmp_path)
    for index, length in enumerate(LENGTHS):
        store.add(index, rollout(length, seed=index))
    episodes, read = list(store), []
    load = Episode.load

    def noted(episode: Episode) -> Rollout:
        read.append(episode.index)
        return load(episode)

    monkeypatch.setattr(Episode, "load", noted)
    encodings = Encodings(max_cached_steps=7)
    for vision, reads in ((vae(0), [0, 1, 2]), (vae(0), [2]), (vae(1), [0, 1, 2])):
        plain = encode_episodes(vision, episodes, 2)
        read.clear()
        kept = encode_episodes(vision, episodes, 2, encodings=encodings)
        # 3 + 4 agent steps fill it, so that the third episode is never kept.
        assert read == reads
        for name in ("posteriors", "actions", "rewards", "terminated", "mask"):
            assert torch.equal(getattr(kept, name), getattr(plain, name))
