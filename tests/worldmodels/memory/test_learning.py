"""M learns several patterns, each of which needs a certain part of M."""

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from worldmodels.data.sequences import SequenceBatch
from worldmodels.memory import MDNRNN, CodeRNN, CodeRNNConfig, MDNRNNConfig
from worldmodels.memory.baselines import PersistenceCategorical, PersistenceGaussian


def draw(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def sequences(posteriors: Tensor, actions: Tensor) -> SequenceBatch:
    """Make sequences without ends, in which each reward is the first number of the action."""
    mask = torch.ones(actions.shape[:2], dtype=torch.bool)
    return SequenceBatch(posteriors, actions, actions[..., 0].clone(), ~mask, mask)


def train(
    memory: MDNRNN | CodeRNN,
    batch: SequenceBatch,
    num_steps: int,
    learning_rate: float,
    frozen: Sequence[Tensor] = (),
) -> dict[str, float]:
    """Train M with Adam on random rows of a batch, and return the metrics after training."""
    memory.calibrate(batch)
    generator = draw(0)
    weights = [p for p in memory.parameters() if not any(p is part for part in frozen)]
    optimizer = torch.optim.Adam(weights, learning_rate)
    for _ in range(num_steps):
        rows = torch.randint(len(batch), (32,), generator=generator)
        optimizer.zero_grad()
        memory.loss(batch[rows], generator)[0].backward()
        optimizer.step()
    with torch.no_grad():
        return {name: float(value) for name, value in memory.loss(batch, draw(1))[1].items()}


def moving_codes(count: int, seed: int) -> SequenceBatch:
    """Make two codes: the first one repeats its value of two agent steps ago.

    The second code changes by 2 (modulo 4) or stays, depending on the action.
    """
    generator = draw(seed)
    moves = torch.randint(2, (count, 4), generator=generator)
    codes = torch.randint(4, (count, 5, 2), generator=generator)
    for step in range(4):
        if step:
            codes[:, step + 1, 0] = codes[:, step - 1, 0]
        codes[:, step + 1, 1] = (codes[:, step, 1] + 2 * moves[:, step]) % 4
    return sequences(codes, F.one_hot(moves, 2).float())


@pytest.mark.parametrize("sizes", [(4,), (2, 2)])
def test_over_codes_it_learns_from_the_past_and_from_actions_and_beats_staying(
    sizes: tuple[int, ...],
) -> None:
    torch.manual_seed(0)
    held_out = moving_codes(100, 1)
    config = CodeRNNConfig(2, sizes, 4, 2, num_hidden=32, num_mixtures=2, head_width=64)
    memory = CodeRNN(config, torch.eye(4))
    train(memory, moving_codes(300, 0), 150, 1e-2)
    with torch.no_grad():
        nll = memory.loss(held_out)[1]["nll"].item()
    now, then = (held_out.posteriors[:, part].flatten(0, 1) for part in (slice(4), slice(1, 5)))
    # Only the first code after the first of four agent steps is unpredictable. An M that ignored
    # actions would lose ln 2 more, and an M without a past would lose ln 4 instead of ln 4 / 4.
    assert nll < math.log(4) / 4 + 0.25
    assert PersistenceCategorical.fit([(now, then)], 4).nll([(now, then)]) > 4 * nll


def test_over_latents_it_learns_from_the_past_and_from_actions_and_beats_staying() -> None:
    torch.manual_seed(0)
    generator = draw(0)
    actions = torch.randn(400, 8, 1, generator=generator)
    z = torch.randn(400, 9, 2, generator=generator)
    for step in range(8):
        noise = 0.1 * torch.randn(400, 2, generator=generator)
        if step:
            z[:, step + 1, 0] = z[:, step - 1, 0] + noise[:, 0]
        z[:, step + 1, 1] = z[:, step, 1] + actions[:, step, 0] + noise[:, 1]
    batch = sequences(torch.cat([z, torch.full_like(z, -12.0)], -1), actions)
    config = MDNRNNConfig(2, 1, num_hidden=32, num_mixtures=2, predict_change=True)
    memory = MDNRNN(config)
    train(memory, batch[:300], 150, 1e-2)
    held_out = batch[300:]
    now, then = (z[300:, part].flatten(0, 1) for part in (slice(8), slice(1, 9)))
    persistence = PersistenceGaussian.fit([(now, then)]).nll([(now, then)])
    with torch.no_grad():
        metrics = memory.loss(held_out, draw(2))[1]
    assert metrics["nll"].item() < persistence - 1.5
    assert metrics["reward_error"].item() < 0.1  # of the variance: it pays what is done


@pytest.fixture(scope="module")
def all_together() -> SequenceBatch:
    """Make four codes that are all 0 or all 1, as the throw of a coin decides at each step."""
    coins = torch.randint(2, (400, 4), generator=draw(3))
    return sequences(coins[..., None].expand(-1, -1, 4).clone(), torch.zeros(400, 3, 1))


@pytest.mark.parametrize(
    ("num_mixtures", "autoregressive", "nats"),
    [(1, False, 4 * math.log(2)), (2, False, math.log(2)), (1, True, math.log(2))],
)
def test_components_or_coupling_say_that_codes_move_together(
    all_together: SequenceBatch, num_mixtures: int, autoregressive: bool, nats: float
) -> None:
    torch.manual_seed(0)
    config = CodeRNNConfig(4, (2,), 1, 1, num_hidden=4, num_mixtures=num_mixtures, head_width=16)
    memory = CodeRNN(config, torch.tensor([[0.0], [1.0]]))
    frozen = () if autoregressive else (memory.head.coupling,)
    metrics = train(memory, all_together, 80, 4e-2, frozen)
    assert memory.head.coupling.any() == autoregressive
    assert metrics["nll"] == pytest.approx(nats, abs=0.12)
    # And so do dreams: whole futures, or each code on its own.
    with torch.no_grad():
        now = torch.zeros(2000, 4, dtype=torch.int64)
        _, prediction = memory.step(memory.initial(2000), now, torch.zeros(2000, 1))
        dreamed = prediction.sample(1.0, draw(0)).float().mean(1)
    alike = ((dreamed == 0) | (dreamed == 1)).float().mean().item()
    apart = num_mixtures == 1 and not autoregressive
    assert alike == pytest.approx(1 / 8, abs=0.05) if apart else alike > 0.9


def test_mixtures_of_latents_say_that_there_are_two_futures() -> None:
    generator = draw(0)
    side = torch.randint(2, (400, 4), generator=generator) * 2.0 - 1.0
    z = 3.0 * side[..., None] + 0.3 * torch.randn(400, 4, 1, generator=generator)
    batch = sequences(torch.cat([z, torch.full_like(z, -12.0)], -1), torch.zeros(400, 3, 1))
    nlls = []
    for mixtures in (1, 2):
        torch.manual_seed(0)
        memory = MDNRNN(MDNRNNConfig(1, 1, num_hidden=4, num_mixtures=mixtures))
        nlls.append(train(memory, batch, 150, 3e-2)["nll"])
    entropy = 0.5 * math.log(2 * math.pi * math.e)
    assert nlls[0] == pytest.approx(entropy + math.log(3.0), abs=0.1)
    assert nlls[1] == pytest.approx(entropy + math.log(0.3) + math.log(2), abs=0.15)
