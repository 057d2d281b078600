from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest
import torch
from torch import Tensor

from tests.fixtures.frequencies import check_frequencies
from tests.fixtures.tiny_models import codernn, mdnrnn, outcome
from worldmodels.data.sequences import SequenceBatch
from worldmodels.memory import (
    MDNRNN,
    CodeRNN,
    CodeRNNConfig,
    EnsemblePrediction,
    MDNRNNConfig,
    MemoryConfig,
    MemoryEnsemble,
    MixturePrediction,
    make_memory,
    memory_metadata,
    restore_memory,
)
from worldmodels.memory.outcome import Outcome
from worldmodels.runs.checkpoint import load_checkpoint, save_checkpoint, with_prefix
from worldmodels.training.fit import FitConfig, fit
from worldmodels.training.model import Model

KINDS = pytest.mark.parametrize("kind", ["latents", "codes"])
VECTORS = torch.randn(6, 2, generator=torch.Generator().manual_seed(0))


def draw(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def member(kind: str, seed: int) -> MDNRNN | CodeRNN:
    return mdnrnn(seed) if kind == "latents" else codernn(seed, VECTORS)


def ensemble(kind: str, seeds: Sequence[int] = (0, 1, 2)) -> MemoryEnsemble:
    return MemoryEnsemble([member(kind, seed) for seed in seeds])


def latents(kind: str, *shape: int, seed: int = 0) -> Tensor:
    if kind == "latents":
        return torch.randn(*shape, 3, generator=draw(seed))
    return torch.randint(6, (*shape, 2), generator=draw(seed))


def far_apart(count: int, mus: Sequence[float] = (-50.0, 0.0, 50.0)) -> EnsemblePrediction:
    """Make a prediction whose members have mean latents that are far apart from each other."""
    shape = count, 2, 1
    zeros = torch.zeros(shape)
    members = [MixturePrediction(zeros, torch.full(shape, mu), zeros, outcome(count)) for mu in mus]
    return EnsemblePrediction(members)


def batch(kind: str, rows: int = 3, length: int = 4) -> SequenceBatch:
    posteriors = latents(kind, rows, length + 1)
    if kind == "latents":
        posteriors = torch.cat([posteriors, torch.full_like(posteriors, -1.0)], -1)
    return SequenceBatch(
        posteriors,
        torch.randn(rows, length, 3, generator=draw(1)),
        5 + 2 * torch.randn(rows, length, generator=draw(2)),
        torch.rand(rows, length, generator=draw(3)) < 0.3,
        torch.arange(length) < torch.tensor([length, 2, 3])[:, None],
    )


@KINDS
def test_its_probability_is_the_members_mean(kind: str) -> None:
    memory = ensemble(kind)
    now, then = latents(kind, 4), latents(kind, 4, seed=1)
    action = torch.randn(4, 3)
    _, prediction = memory.step(memory.initial(4), now, action)
    members: Any = memory.members
    each = [m.step(m.initial(4), now, action)[1].log_prob(then).exp() for m in members]
    torch.testing.assert_close(prediction.log_prob(then).exp(), torch.stack(each).mean(0))


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_samples_take_members_equally_often_and_each_row_from_one(temperature: float) -> None:
    sampled = far_apart(6000).sample(temperature, draw(0))
    member_of = (sampled / 50).round().long() + 1
    assert torch.equal(member_of[:, 0], member_of[:, 1])
    check_frequencies(member_of[:, 0], torch.full((3,), 1 / 3))
    pairs = member_of[::2, 0] * 3 + member_of[1::2, 0]
    check_frequencies(pairs, torch.full((9,), 1 / 9))  # rows choose each for itself


def test_copies_take_the_same_member_and_draws_repeat() -> None:
    prediction = far_apart(40)
    together = prediction.sample(1.0, draw(0), num_candidates=4)
    assert torch.equal(together, together[:10].repeat(4, 1))
    sampled = prediction.sample(1.0, draw(0))
    assert torch.equal(sampled, prediction.sample(1.0, draw(0)))
    assert not torch.equal(sampled[:10], sampled[10:20])


@KINDS
def test_samples_are_latents_of_the_members_kind(kind: str) -> None:
    memory = ensemble(kind)
    _, prediction = memory.step(memory.initial(4), latents(kind, 4), torch.zeros(4, 3))
    sampled = prediction.sample(1.0, draw(0))
    assert sampled.shape == latents(kind, 4).shape and sampled.dtype == latents(kind, 4).dtype


def test_the_outcome_is_the_mean_of_what_members_expect() -> None:
    values = torch.tensor([0.0, 10.0])
    outcomes = [
        Outcome(torch.tensor([[0.25, 0.75]]).log(), values, torch.tensor([0.0])),
        Outcome(torch.tensor([[0.95, 0.05]]).log(), values, torch.tensor([-100.0])),
    ]
    zeros = torch.zeros(1, 1, 1)
    both = EnsemblePrediction([MixturePrediction(zeros, zeros, zeros, o) for o in outcomes]).outcome
    torch.testing.assert_close(both.reward, torch.tensor([(7.5 + 0.5) / 2]))
    torch.testing.assert_close(both.end_probability, torch.tensor([0.25]))


@KINDS
@pytest.mark.parametrize(("rows", "length"), [(2, 5), (1, 1)])
def test_stepping_is_the_whole_sequence_and_each_member_goes_its_own_way(
    kind: str, rows: int, length: int
) -> None:
    memory = ensemble(kind)
    seen, actions = latents(kind, rows, length + 1), torch.randn(rows, length, 3)
    hidden, last = memory.sequence(memory.initial(rows), seen[:, :-1], actions)
    whole = memory.predict(hidden, seen[:, :-1])
    log_p, apart = whole.log_prob(seen[:, 1:]), whole.disagreement()
    state = memory.initial(rows)
    members: Any = memory.members
    alone = [m.initial(rows) for m in members]
    for step in range(length):
        now, action = seen[:, step], actions[:, step]
        advanced = memory.advance(state, now, action)
        state, prediction = memory.step(state, now, action)
        assert torch.equal(advanced.h, state.h) and torch.equal(advanced.c, state.c)
        pairs = zip(members, alone, strict=True)
        alone = [m.advance(its, now, action) for m, its in pairs]
        assert torch.equal(state.h, torch.cat([its.h for its in alone], -1))
        assert torch.equal(memory.features(state), alone[0].h)
        close: dict[str, Any] = {"atol": 1e-4, "rtol": 1e-4}
        torch.testing.assert_close(state.h, hidden[:, step], **close)
        torch.testing.assert_close(prediction.log_prob(seen[:, step + 1]), log_p[:, step], **close)
        torch.testing.assert_close(prediction.disagreement(), apart[:, step], **close)
    torch.testing.assert_close(state.c, last.c, atol=1e-5, rtol=1e-4)


@KINDS
def test_members_that_agree_disagree_by_nothing_and_others_by_something(kind: str) -> None:
    now, action = latents(kind, 5), torch.randn(5, 3)
    for seeds, same in (((1, 1, 1), True), ((1, 2, 3), False)):
        memory = ensemble(kind, seeds)
        _, prediction = memory.step(memory.initial(5), now, action)
        apart = prediction.disagreement()
        assert apart.shape == (5,)
        assert (apart < 1e-3).all() if same else (apart > 0.05).all()


def test_disagreement_is_in_the_units_of_latents() -> None:
    # Two dimensions, in each a member at 0 and one at 6: 3 from their mean.
    assert far_apart(1, (0.0, 6.0)).disagreement().item() == pytest.approx(18**0.5, rel=1e-5)


@KINDS
def test_the_loss_is_the_sum_so_that_each_member_learns_as_alone(kind: str) -> None:
    memory, data = ensemble(kind), batch(kind)
    memory.calibrate(data)
    generator = draw(0)
    members: Any = memory.members
    alone = [m.loss(data, generator) for m in members]
    loss, metrics = memory.loss(data, draw(0))
    torch.testing.assert_close(loss, sum(each for each, _ in alone))
    for name in ("nll", "reward_nll", "end_nll", "reward_error"):
        torch.testing.assert_close(metrics[name], sum(each[name] for _, each in alone) / 3)
    weights = list(members[1].parameters())
    expected = torch.autograd.grad(alone[1][0], weights)
    torch.testing.assert_close(torch.autograd.grad(loss, weights), expected)


Trained = TypeVar("Trained", bound=Model)


class LaterMember(torch.nn.Module):
    """A single model with the noise that it would draw after the other members of an ensemble."""

    def __init__(self, alone: MDNRNN | CodeRNN, position: int) -> None:
        super().__init__()
        self.alone, self.position = alone, position

    def loss(
        self, data: SequenceBatch, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        for _ in range(self.position):
            self.alone.loss(data, generator)
        return self.alone.loss(data, generator)


@KINDS
@pytest.mark.parametrize("position", [0, 1])
def test_a_member_ends_with_the_weights_it_would_have_alone(
    tmp_path: Path, kind: str, position: int
) -> None:
    data = batch(kind)
    config = FitConfig(5, 3, learning_rate=0.01, max_gradient_norm=0.5, validate_every=5)

    def trained(model: Trained, name: str) -> Trained:
        (tmp_path / name).mkdir()
        folder = tmp_path / name
        fit(model, lambda step, draws: data, lambda: {"loss": 0.0}, config, seed=3, folder=folder)
        return model

    alone = member(kind, position)
    together = trained(ensemble(kind, (0, 1)), "together").members[position]
    trained(LaterMember(alone, position), "alone")
    for ours, theirs in zip(together.parameters(), alone.parameters(), strict=True):
        assert torch.equal(ours, theirs)


@KINDS
def test_calibrating_reaches_every_member(kind: str) -> None:
    memory, data = ensemble(kind), batch(kind)
    memory.calibrate(data)
    members: Any = memory.members
    for each in members:
        torch.testing.assert_close(each.outcome.reward_mean, data.rewards[data.mask].mean())


CONFIGS: dict[str, MemoryConfig] = {
    "latents": MDNRNNConfig(3, 3, num_hidden=4),
    "codes": CodeRNNConfig(2, (6,), 2, 3, num_hidden=4),
}


@KINDS
def test_members_begin_different_and_one_is_no_ensemble(kind: str) -> None:
    config = CONFIGS[kind]
    assert not isinstance(make_memory(config, 1, VECTORS), MemoryEnsemble)
    memory = make_memory(config, 3, VECTORS)
    assert isinstance(memory, MemoryEnsemble) and len(memory.members) == 3
    members: Any = memory.members
    weights = [m.lstm.weight_input for m in members]
    assert not any(torch.equal(weights[i], weights[j]) for i, j in ((0, 1), (0, 2), (1, 2)))
    if kind == "codes":
        assert all(torch.equal(m.code_vectors, VECTORS) for m in members)


@KINDS
def test_a_round_trip_through_a_file_holds_each_member_once(tmp_path: Path, kind: str) -> None:
    memory = ensemble(kind)
    memory.calibrate(batch(kind))
    path = tmp_path / "m.safetensors"
    metadata = {"memory": memory_metadata(memory)}
    save_checkpoint(path, with_prefix("memory", memory.state_dict()), metadata)
    checkpoint = load_checkpoint(path, hint="")
    assert checkpoint.metadata["memory"]["ensemble_size"] == 3
    assert len(checkpoint.tensors) == 3 * len(memory.members[0].state_dict())
    loaded = restore_memory(checkpoint, path)
    assert isinstance(loaded, MemoryEnsemble) and not loaded.training
    assert (loaded.kind, loaded.config) == (memory.kind, memory.config)
    now, then = latents(kind, 4), latents(kind, 4, seed=1)
    said = []
    for m in (memory, loaded):
        prediction = m.step(m.initial(4), now, torch.ones(4, 3))[1]
        said.append(
            torch.stack([prediction.log_prob(then), prediction.disagreement()])
            + prediction.outcome.reward
        )
    assert torch.equal(*said)
