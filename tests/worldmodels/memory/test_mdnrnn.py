from pathlib import Path
from typing import Any

import pytest
import torch

from tests.fixtures.tiny_models import mdnrnn
from worldmodels.data.sequences import SequenceBatch
from worldmodels.errors import UserError
from worldmodels.memory import MDNRNN, MDNRNNConfig, memory_metadata, restore_memory
from worldmodels.memory.baselines import PersistenceGaussian
from worldmodels.memory.outcome import NUM_VALUES
from worldmodels.runs.checkpoint import load_checkpoint, save_checkpoint, with_prefix


def draw(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_batch(
    batch: int = 2, length: int = 5, latents: int = 3, actions: int = 3, seed: int = 0
) -> SequenceBatch:
    generator = draw(seed)
    lengths = torch.arange(length, length - batch, -1)
    return SequenceBatch(
        posteriors=torch.randn(batch, length + 1, 2 * latents, generator=generator),
        actions=torch.randn(batch, length, actions, generator=generator),
        rewards=torch.randn(batch, length, generator=generator),
        terminated=torch.rand(batch, length, generator=generator) < 0.3,
        mask=torch.arange(length) < lengths[:, None],
    )


def test_the_papers_size() -> None:
    memory = MDNRNN(MDNRNNConfig(num_latents=32, num_actions=3))
    names = [(name, p.numel()) for name, p in memory.named_parameters()]
    assert sum(count for name, count in names if not name.startswith("outcome")) == 422_368
    assert sum(count for name, count in names if name.startswith("outcome")) == 257 * (
        NUM_VALUES + 1
    )


@pytest.mark.parametrize("predict_change", [False, True])
@pytest.mark.parametrize(("batch", "length"), [(2, 6), (1, 1)])
def test_stepping_is_the_whole_sequence(predict_change: bool, batch: int, length: int) -> None:
    memory = mdnrnn(predict_change=predict_change)
    latents, actions = torch.randn(batch, length + 1, 3), torch.randn(batch, length, 3)
    hidden, last = memory.sequence(memory.initial(batch), latents[:, :-1], actions)
    whole = memory.predict(hidden, latents[:, :-1])
    state = memory.initial(batch)
    for step in range(length):
        advanced = memory.advance(state, latents[:, step], actions[:, step])
        state, prediction = memory.step(state, latents[:, step], actions[:, step])
        assert torch.equal(advanced.h, state.h) and torch.equal(advanced.c, state.c)
        close: dict[str, Any] = {"atol": 1e-5, "rtol": 0}
        torch.testing.assert_close(state.h, hidden[:, step], **close)
        for name in ("log_pi", "mu", "log_sigma"):
            torch.testing.assert_close(
                getattr(prediction, name), getattr(whole, name)[:, step], **close
            )
        for name in ("reward", "end_probability"):
            one, all_ = (getattr(p.outcome, name) for p in (prediction, whole))
            torch.testing.assert_close(one, all_[:, step], atol=1e-4, rtol=1e-4)
        then = latents[:, step + 1]
        torch.testing.assert_close(
            prediction.log_prob(then), whole.log_prob(latents[:, 1:])[:, step]
        )
    torch.testing.assert_close(state.c, last.c, atol=1e-5, rtol=0)


def test_predicted_changes_are_offsets_from_the_latent() -> None:
    absolute, change = mdnrnn(), mdnrnn(predict_change=True)
    change.load_state_dict(absolute.state_dict())
    hidden, latent = torch.randn(4, 5), torch.randn(4, 3)
    moved = absolute.predict(hidden, latent).mu + latent[..., None]
    torch.testing.assert_close(change.predict(hidden, latent).mu, moved)


def test_the_loss_is_the_mean_over_real_agent_steps() -> None:
    memory = mdnrnn(reward_weight=0.5, end_weight=2.0)
    batch = random_batch()
    memory.outcome.calibrate(batch.rewards[batch.mask], batch.terminated[batch.mask])
    sharp = batch.posteriors.clone()
    sharp[..., 3:] = -60.0  # no spread: the latent drawn is the mean
    batch = SequenceBatch(sharp, batch.actions, batch.rewards, batch.terminated, batch.mask)
    nlls, rewards, ends = [], [], []
    for row in range(2):
        state = memory.initial(1)
        for step in range(int(batch.mask[row].sum())):
            z = sharp[row : row + 1, step, :3]
            state, prediction = memory.step(state, z, batch.actions[row : row + 1, step])
            nlls.append(-prediction.log_prob(sharp[row : row + 1, step + 1, :3]))
            rewards.append(-prediction.outcome.reward_log_prob(batch.rewards[row, step][None]))
            p = prediction.outcome.end_probability
            ends.append(-(p if batch.terminated[row, step] else 1 - p).log())
    assert len(nlls) == 5 + 4
    nll, reward, end = (torch.cat(parts).mean() for parts in (nlls, rewards, ends))
    loss, metrics = memory.loss(batch, draw(0))
    torch.testing.assert_close(metrics["nll"], nll)
    torch.testing.assert_close(metrics["reward_nll"], reward)
    torch.testing.assert_close(metrics["end_nll"], end)
    torch.testing.assert_close(loss, nll + 0.5 * reward + 2.0 * end)


def test_what_padding_holds_does_not_matter_and_latents_are_drawn_anew() -> None:
    memory, batch = mdnrnn(), random_batch()
    posteriors, actions, rewards = (
        part.clone() for part in (batch.posteriors, batch.actions, batch.rewards)
    )
    posteriors[1, 5], actions[1, 4], rewards[1, 4] = 9.0, 9.0, 9.0
    assert not batch.mask[1, 4]
    other = SequenceBatch(posteriors, actions, rewards, batch.terminated, batch.mask)
    assert torch.equal(memory.loss(batch, draw(0))[0], memory.loss(other, draw(0))[0])
    assert not torch.equal(memory.loss(batch, draw(0))[0], memory.loss(batch, draw(1))[0])


@pytest.mark.parametrize("logvar", [-8.0, 0.0])
@pytest.mark.parametrize("mixtures", [1, 5])
def test_calibrated_it_begins_near_the_stay_baseline(logvar: float, mixtures: int) -> None:
    generator = draw(0)
    steps = torch.tensor([0.05, 0.3, 0.0])  # the last dimension never moves
    walk = (torch.randn(20, 60, 3, generator=generator) * steps).cumsum(1)
    posteriors = torch.cat([walk, torch.full_like(walk, logvar)], -1)
    rewards = 5 + 3 * torch.randn(20, 59, generator=generator)
    batch = SequenceBatch(
        posteriors,
        torch.zeros(20, 59, 2),
        rewards,
        torch.zeros(20, 59, dtype=torch.bool),
        torch.ones(20, 59, dtype=torch.bool),
    )
    torch.manual_seed(0)
    config = MDNRNNConfig(3, 2, predict_change=True, num_mixtures=mixtures, num_hidden=16)
    memory = MDNRNN(config)
    memory.calibrate(batch)
    z = walk + (0.5 * torch.tensor(logvar)).exp() * torch.randn(walk.shape, generator=generator)
    now, then = z[:, :-1].flatten(0, 1), z[:, 1:].flatten(0, 1)
    persistence = PersistenceGaussian.fit([(now, then)]).nll([(now, then)])
    _, metrics = memory.loss(batch, draw(1))
    assert abs(metrics["nll"].item() - persistence) < 1.5
    assert metrics["reward_error"].item() == pytest.approx(1.0, abs=0.01)  # the mean, in its units


def test_a_round_trip_through_a_file(tmp_path: Path) -> None:
    memory = mdnrnn(predict_change=True)
    memory.outcome.calibrate(torch.tensor([1.0, 5.0]), torch.tensor([False, True]))
    path = tmp_path / "m.safetensors"
    metadata = {"memory": memory_metadata(memory)}
    save_checkpoint(path, with_prefix("memory", memory.state_dict()), metadata)
    loaded = restore_memory(load_checkpoint(path, hint=""), path)
    assert loaded.config == memory.config and not loaded.training
    for name, tensor in memory.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
    assert isinstance(loaded, MDNRNN)
    assert loaded.outcome.reward_mean == 3.0


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(UserError, match="num_mixtures must be at least 1, got 0"):
        MDNRNNConfig(3, 2, num_mixtures=0)
