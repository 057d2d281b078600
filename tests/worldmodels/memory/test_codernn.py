from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.fixtures.tiny_models import codernn
from worldmodels.data.sequences import SequenceBatch
from worldmodels.errors import UserError
from worldmodels.memory import CodeRNN, CodeRNNConfig, memory_metadata, restore_memory
from worldmodels.memory.baselines import PersistenceCategorical
from worldmodels.runs.checkpoint import load_checkpoint, save_checkpoint, with_prefix


def draw(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("sizes", [(2, 3), (6,)])
@pytest.mark.parametrize(("batch", "length"), [(2, 5), (1, 1)])
def test_stepping_is_the_whole_sequence(sizes: tuple[int, ...], batch: int, length: int) -> None:
    memory = codernn(digit_sizes=sizes)
    codes = torch.randint(6, (batch, length + 1, 2), generator=draw(0))
    actions = torch.randn(batch, length, 3, generator=draw(1))
    hidden, last = memory.sequence(memory.initial(batch), codes[:, :-1], actions)
    whole = memory.predict(hidden, codes[:, :-1])
    log_p, mean = whole.log_prob(codes[:, 1:]), whole.mean()
    assert log_p.shape == (batch, length)
    state = memory.initial(batch)
    for step in range(length):
        advanced = memory.advance(state, codes[:, step], actions[:, step])
        state, prediction = memory.step(state, codes[:, step], actions[:, step])
        assert torch.equal(advanced.h, state.h) and torch.equal(advanced.c, state.c)
        assert torch.equal(memory.features(state), state.h)
        close: dict[str, Any] = {"atol": 1e-4, "rtol": 1e-4}
        torch.testing.assert_close(state.h, hidden[:, step], **close)
        torch.testing.assert_close(prediction.log_prob(codes[:, step + 1]), log_p[:, step], **close)
        torch.testing.assert_close(prediction.mean(), mean[:, step], **close)
        for name in ("reward", "end_probability"):
            one, all_ = (getattr(p.outcome, name) for p in (prediction, whole))
            torch.testing.assert_close(one, all_[:, step], **close)
    torch.testing.assert_close(state.c, last.c, atol=1e-5, rtol=0)


def test_what_is_said_depends_on_the_state_and_on_the_codes_of_now() -> None:
    memory = codernn()
    hidden, now = torch.randn(2, 5), torch.tensor([[1, 4]])
    then = torch.tensor([[3, 3]])
    with torch.no_grad():
        said = memory.predict(hidden[:1], now).log_prob(then)
        other_state = memory.predict(hidden[1:], now).log_prob(then)
        other_now = memory.predict(hidden[:1], torch.tensor([[1, 5]])).log_prob(then)
    assert (said - other_state).abs() > 1e-2 and (said - other_now).abs() > 1e-2


def test_it_sees_the_vectors_codes_stand_for() -> None:
    vectors = torch.tensor([[0.0, 1.0], [2.0, 3.0], [2.0, 3.0], [4.0, 5.0], [6.0, 7.0], [8.0, 9.0]])
    memory = codernn(code_vectors=vectors)
    state, action = memory.initial(1), torch.zeros(1, 3)
    alike = [memory.advance(state, torch.tensor([[code, 4]]), action).h for code in (1, 2, 3)]
    assert torch.equal(alike[0], alike[1]) and not torch.equal(alike[0], alike[2])


def sticky_codes(
    persistence: float | Tensor,
    weights: Sequence[Sequence[float]] | Tensor,
    count: int = 30,
    length: int = 80,
    seed: int = 0,
) -> SequenceBatch:
    """Make sequences in which each code persists with a probability, or else is drawn anew.

    Each code has its own probability to persist, and its own weights of the values.
    """
    generator = draw(seed)
    fractions = torch.as_tensor(weights, dtype=torch.float32)
    staying = torch.as_tensor(persistence).expand(len(fractions))
    drawn = torch.multinomial(
        fractions, count * (length + 1), replacement=True, generator=generator
    )
    codes = drawn.T.reshape(count, length + 1, -1).clone()
    for step in range(length):
        persists = torch.rand(count, len(weights), generator=generator) < staying
        codes[:, step + 1] = torch.where(persists, codes[:, step], codes[:, step + 1])
    return SequenceBatch(
        codes,
        torch.zeros(count, length, 3),
        torch.randn(count, length, generator=generator),
        torch.zeros(count, length, dtype=torch.bool),
        torch.ones(count, length, dtype=torch.bool),
    )


UNEVEN = [[1, 2, 3, 4, 5, 6]] * 2


def fresh(sizes: tuple[int, ...], num_codes: int = 2) -> CodeRNN:
    torch.manual_seed(0)
    return CodeRNN(CodeRNNConfig(num_codes, sizes, 2, 3, num_hidden=5), torch.randn(6, 2))


@pytest.mark.parametrize("sizes", [(6,), (2, 3)])
@pytest.mark.parametrize("persistence", [0.5, 0.9])
def test_calibrated_it_begins_near_the_stay_baseline(
    sizes: tuple[int, ...], persistence: float
) -> None:
    batch = sticky_codes(persistence, UNEVEN)
    memory = fresh(sizes)
    uncalibrated = memory.loss(batch)[1]["nll"].item()
    memory.calibrate(batch)
    now, then = (batch.posteriors[:, part].flatten(0, 1) for part in (slice(80), slice(1, 81)))
    baseline = PersistenceCategorical.fit([(now, then)], 6).nll([(now, then)])
    metrics = memory.loss(batch)[1]
    assert uncalibrated > baseline + 0.7
    assert metrics["nll"].item() == pytest.approx(baseline, abs=0.3)
    assert metrics["reward_error"].item() == pytest.approx(1.0, abs=0.01)  # the mean, in its units


@pytest.mark.parametrize("sizes", [(6,), (2, 3)])
def test_calibrating_counts_each_code_of_the_frame_in_its_own_place(sizes: tuple[int, ...]) -> None:
    """The test needs four codes, because M does not draw four codes in frame order."""
    # Frequencies under which the two digits of a code are independent.
    first, second = torch.tensor([0.2, 0.8]), torch.tensor([0.1, 0.3, 0.6])
    uneven = (second[:, None] * first).flatten()
    weights = torch.stack([uneven, uneven.flip(0), torch.ones(6), uneven.roll(2)])
    persistence = torch.tensor([0.0, 0.9, 0.4, 0.0])
    batch = sticky_codes(persistence, weights)
    memory = fresh(sizes, num_codes=4)
    torch.nn.init.zeros_(memory.head.to_queries.weight)
    memory.calibrate(batch)
    now = batch.posteriors[:, :-1].flatten(0, 1)
    with torch.no_grad():
        zeros = torch.zeros(len(now), 3)
        _, prediction = memory.step(memory.initial(len(now)), now, zeros)
        dreamed = prediction.sample(1.0, draw(0))
    then = batch.posteriors[:, 1:].flatten(0, 1)
    for codes in (dreamed, then):
        for free in (0, 3):
            fractions = torch.bincount(codes[:, free], minlength=6) / len(now)
            torch.testing.assert_close(
                fractions, weights[free] / weights[free].sum(), atol=0.06, rtol=0
            )
    persists = [(codes == now).float().mean(0) for codes in (dreamed, then)]
    torch.testing.assert_close(*persists, atol=0.1, rtol=0)


def test_calibrating_leaves_padding_out() -> None:
    batch = sticky_codes(0.5, UNEVEN, count=4, length=9)
    mask = torch.arange(9) < torch.tensor([9, 4, 2, 7])[:, None]
    short = SequenceBatch(batch.posteriors, batch.actions, batch.rewards, batch.terminated, mask)
    codes, rewards = batch.posteriors.clone(), batch.rewards.clone()
    codes[:, 1:][~mask], rewards[~mask] = 0, 1e6
    other = SequenceBatch(codes, batch.actions, rewards, batch.terminated, mask)
    states = []
    for sequences in (short, other):
        memory = fresh((2, 3))
        memory.calibrate(sequences)
        states.append(memory.state_dict())
    for name, tensor in states[0].items():
        assert torch.equal(tensor, states[1][name]), name


def test_the_loss_leaves_padding_out() -> None:
    memory = codernn(reward_weight=0.5, end_weight=2.0)
    batch = sticky_codes(0.5, UNEVEN, count=2, length=4)
    mask = torch.tensor([[True] * 4, [True, True, False, False]])
    codes = batch.posteriors.clone()
    parts = []
    for row, length in ((0, 4), (1, 2)):
        state = memory.initial(1)
        for step in range(length):
            now, then = (codes[row : row + 1, step + i] for i in (0, 1))
            state, prediction = memory.step(state, now, batch.actions[row : row + 1, step])
            parts.append(-prediction.log_prob(then))
    padded = SequenceBatch(codes, batch.actions, batch.rewards, batch.terminated, mask)
    loss, metrics = memory.loss(padded)
    torch.testing.assert_close(metrics["nll"], torch.cat(parts).mean())
    expected = metrics["nll"] + 0.5 * metrics["reward_nll"] + 2.0 * metrics["end_nll"]
    torch.testing.assert_close(loss, expected)
    codes[1, 3:] = 5
    assert torch.equal(memory.loss(padded)[0], loss)


@pytest.mark.parametrize("sizes", [(2, 3), (6,)])
def test_a_round_trip_through_a_file_keeps_the_code_vectors(
    tmp_path: Path, sizes: tuple[int, ...]
) -> None:
    memory = codernn(digit_sizes=sizes)
    path = tmp_path / "m.safetensors"
    metadata = {"memory": memory_metadata(memory)}
    save_checkpoint(path, with_prefix("memory", memory.state_dict()), metadata)
    loaded = restore_memory(load_checkpoint(path, hint=""), path)
    assert isinstance(loaded, CodeRNN) and loaded.config == memory.config
    assert torch.equal(loaded.code_vectors, memory.code_vectors)
    assert loaded.state_dict().keys() == memory.state_dict().keys()
    codes = torch.randint(6, (3, 2))
    said = [
        m.step(m.initial(3), codes, torch.ones(3, 3))[1].log_prob(codes) for m in (memory, loaded)
    ]
    assert torch.equal(*said)


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(UserError, match="head_width must be at least 1, got 0"):
        CodeRNNConfig(2, (6,), 2, 3, head_width=0)
