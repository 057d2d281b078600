"""Agent steps are gathered from env steps, and form sequences."""

import functools
from collections.abc import Sequence
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import Tensor

from agents.policy import RandomPolicy
from agents.rollout import play
from tests.fixtures.counting_env import BOX_ID, episode_length, read_frame
from tests.fixtures.tiny_models import rollout, vae
from worldmodels.data.batches import AgentSteps
from worldmodels.data.sequences import SequenceBatch
from worldmodels.data.store import EpisodeStore
from worldmodels.memory import encoding
from worldmodels.memory.encoding import encode_episodes
from worldmodels.vision import Vision

make_env = functools.partial(gym.make, BOX_ID)


def store_of_counted_episodes(
    folder: Path, seeds: Sequence[int], action_repeat: int, max_steps: int | None = None
) -> EpisodeStore:
    policy = RandomPolicy(make_env().action_space, action_repeat)
    store = EpisodeStore(folder)
    for index, played in enumerate(play(make_env, policy, seeds, max_steps=max_steps)):
        store.add(index, played)
    return store


@pytest.mark.parametrize("repeat", [1, 4])
@pytest.mark.parametrize("max_steps", [None, 6])
def test_agent_steps_line_up_from_env_to_batch(
    tmp_path: Path, repeat: int, max_steps: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds = [0, 1, 3, 6]  # 5, 6, 8 and 11 steps: 4 divides one of them
    store = store_of_counted_episodes(tmp_path, seeds, repeat, max_steps)

    def encode_step_and_seed(vision: Vision, frames: np.ndarray) -> Tensor:
        return torch.tensor([read_frame(frame) for frame in frames], dtype=torch.float32)

    monkeypatch.setattr(encoding, "encode_frames", encode_step_and_seed)
    batch = encode_episodes(vae(), store.episodes, repeat)
    for row, seed in enumerate(seeds):
        steps = min(episode_length(seed), max_steps or 99)
        played = store.episodes[row].load()
        count = -(-steps // repeat)
        assert batch.mask[row].tolist() == [i < count for i in range(batch.mask.shape[1])]
        assert batch.terminated[row].sum() == (steps == episode_length(seed))
        for agent_step in range(count):
            first, past = agent_step * repeat, min((agent_step + 1) * repeat, steps)
            assert batch.posteriors[row, agent_step].tolist() == [first, seed]
            assert batch.posteriors[row, agent_step + 1].tolist() == [past, seed]
            taken = batch.actions[row, agent_step].numpy()
            np.testing.assert_array_equal(taken, played.actions[first])
            held = past - first
            counted = sum(1000.0 * step for step in range(first, past)) + held * float(taken.sum())
            assert batch.rewards[row, agent_step] == pytest.approx(counted, rel=1e-6)
            assert batch.terminated[row, agent_step] == (past == episode_length(seed))

    length = 2
    starts = torch.tensor([0, 1, 0, 1]) if repeat == 4 else torch.tensor([3, 2, 1, 4])
    starts = starts.clamp(max=batch.mask.shape[1] - length)
    window = batch.windows(torch.arange(len(starts)), starts, length)
    for row, start in enumerate(starts.tolist()):
        assert torch.equal(window.posteriors[row], batch.posteriors[row, start : start + 3])
        for name in ("actions", "rewards", "terminated", "mask"):
            whole, part = getattr(batch, name)[row], getattr(window, name)[row]
            assert torch.equal(part, whole[start : start + 2])


def test_actions_that_were_not_held_are_averaged_over_the_steps_there_are() -> None:
    played = rollout(5, terminated=True, truncated=False)
    agent_steps = AgentSteps.from_rollout(played, 2)
    assert agent_steps.actions.dtype == agent_steps.rewards.dtype == np.float32
    np.testing.assert_allclose(agent_steps.actions[0], played.actions[:2].mean(0), rtol=1e-6)
    np.testing.assert_array_equal(agent_steps.actions[2], played.actions[4])
    assert agent_steps.rewards.sum() == pytest.approx(played.rewards.sum(), rel=1e-5)
    assert agent_steps.terminated.tolist() == [False, False, True]
    assert not AgentSteps.from_rollout(rollout(5), 2).terminated.any()  # out of time is no end
    np.testing.assert_array_equal(agent_steps.frames, played.frames[[0, 2, 4, 5]])


def test_rows_and_length_of_a_sequence_batch() -> None:
    batch = SequenceBatch(
        posteriors=torch.arange(12.0).reshape(2, 3, 2),
        actions=torch.arange(4.0).reshape(2, 2, 1),
        rewards=torch.arange(4.0).reshape(2, 2),
        terminated=torch.tensor([[False, True], [False, False]]),
        mask=torch.ones(2, 2, dtype=torch.bool),
    )
    picked = batch[torch.tensor([1, 1, 0])]
    assert (len(batch), len(picked)) == (2, 3)
    assert torch.equal(picked.rewards[1], batch.rewards[1])
    assert torch.equal(batch[slice(0, 1)].terminated, batch.terminated[:1])
    assert torch.equal(batch.to("cpu").posteriors, batch.posteriors)
