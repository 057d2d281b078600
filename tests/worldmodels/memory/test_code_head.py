"""Tests of `CodePrediction.log_prob` and `mean`; `test_code_draws` tests the samples."""

import pytest
import torch
from torch import Tensor, distributions

from tests.fixtures.code_frames import (
    ByHand,
    all_frames,
    predict,
    random_head,
    random_prediction,
    states,
)
from worldmodels.memory import CodePrediction
from worldmodels.memory.code_head import CodeHead, groups_of

# Codes a frame and digit sizes. Two digits are a lattice, one is a codebook; five codes are
# four groups of which one has two.
CASES = pytest.mark.parametrize(
    ("num_codes", "sizes"),
    [(1, (2, 3)), (1, (5,)), (2, (2, 3)), (3, (3,)), (4, (2,)), (4, (2, 2)), (5, (2,)), (2, (7,))],
)


def values_of(sizes: tuple[int, ...]) -> int:
    return int(torch.tensor(sizes).prod())


def some_codes(*shape: int, num_values: int, seed: int = 1) -> Tensor:
    return torch.randint(num_values, shape, generator=torch.Generator().manual_seed(seed))


def test_groups_are_the_squares_of_a_checkerboard_and_then_the_rest() -> None:
    assert groups_of(16).view(4, 4).tolist() == [[0, 2, 0, 2], [3, 1, 3, 1]] * 2
    assert groups_of(4).tolist() == [0, 2, 3, 1]
    assert groups_of(1).tolist() == [0]
    assert groups_of(2).tolist() == [0, 1]
    assert groups_of(6).tolist() == [0, 1, 2, 3, 0, 1]
    # Codes of one group are never neighbours, so the head can model how neighbours depend.
    grid = groups_of(81).view(9, 9)
    for across, down in ((0, 1), (1, 0), (1, 1)):
        assert (grid[down:, across:] != grid[: 9 - down, : 9 - across]).all()
    assert (grid[1:, :-1] != grid[:-1, 1:]).all()


@CASES
def test_probabilities_are_the_definitions_and_sum_to_one(
    num_codes: int, sizes: tuple[int, ...]
) -> None:
    num_values = values_of(sizes)
    prediction = random_prediction(some_codes(1, num_codes, num_values=num_values), sizes)
    frames = all_frames(num_codes, num_values)
    log_p = torch.cat([prediction.log_prob(frame[None]) for frame in frames])
    assert log_p.exp().sum().item() == pytest.approx(1.0, abs=1e-5)
    by_hand = ByHand(prediction)
    for frame, value in list(zip(frames.tolist(), log_p.tolist(), strict=True))[::3]:
        p = torch.tensor(by_hand.probability(frame)).log().item()
        assert value == pytest.approx(p, abs=2e-4)


@pytest.mark.parametrize("sizes", [(2, 3), (5,)])
def test_every_part_of_the_definition_matters(sizes: tuple[int, ...]) -> None:
    """The test above can only find a missing term if this term changes the probabilities."""
    num_values = values_of(sizes)
    now, then = (some_codes(20, 5, num_values=num_values, seed=seed) for seed in (1, 2))
    head = random_head(5, sizes)
    with torch.no_grad():
        whole = predict(head, now).log_prob(then)
        for part in (head.coupling, head.persistence_bonus, head.components, head.table.bias):
            kept = part.clone()
            part.zero_()
            assert ((predict(head, now).log_prob(then) - whole).abs() > 1e-2).float().mean() > 0.8
            part.copy_(kept)
        torch.testing.assert_close(predict(head, now).log_prob(then), whole)


def plain(head: CodeHead) -> CodeHead:
    """Set the coupling and the persistence bonus of a head to zero."""
    with torch.no_grad():
        head.coupling.zero_()
        head.persistence_bonus.zero_()
    return head


def logits_of(prediction: CodePrediction, component: int, digit: int) -> Tensor:
    """Return the logits of a plain head, (batch, N, values), with the codes in frame order."""
    head = prediction.head
    logits = head.table.logits(head.queries(prediction.base + head.components[component]))[digit]
    return logits[:, torch.argsort(head.order)]


@pytest.mark.parametrize("sizes", [(2, 3), (7,)])
def test_one_component_alone_is_independent_categoricals(sizes: tuple[int, ...]) -> None:
    num_values = values_of(sizes)
    now, then = (some_codes(6, 9, num_values=num_values, seed=seed) for seed in (1, 2))
    prediction = predict(plain(random_head(9, sizes, mixtures=1)), now)
    expected, rest = torch.zeros(6), then
    for digit, size in enumerate(sizes):
        each = distributions.Categorical(logits=logits_of(prediction, 0, digit))
        expected = expected + each.log_prob(rest % size).sum(-1)
        rest = rest // size
    torch.testing.assert_close(prediction.log_prob(then), expected)


def test_one_code_is_torchs_mixture_of_categoricals() -> None:
    now, then = (some_codes(8, 1, num_values=7, seed=seed) for seed in (1, 2))
    prediction = predict(plain(random_head(1, (7,), mixtures=3)), now)
    components = torch.stack([logits_of(prediction, m, 0)[:, 0] for m in range(3)], 1)
    mixture = distributions.MixtureSameFamily(
        distributions.Categorical(logits=prediction.log_pi),
        distributions.Categorical(logits=components),
    )
    torch.testing.assert_close(prediction.log_prob(then), mixture.log_prob(then[:, 0]))


@pytest.mark.parametrize("sizes", [(2, 3), (6,)])
@pytest.mark.parametrize("batch", [(1,), (1, 1), (2, 3)])
def test_any_batch_is_as_many_rows(sizes: tuple[int, ...], batch: tuple[int, ...]) -> None:
    head = random_head(4, sizes)
    now, then = (some_codes(*batch, 4, num_values=6, seed=seed) for seed in (1, 2))
    hidden = states(*batch)
    together = predict(head, now, hidden)
    rows = predict(head, now.reshape(-1, 4), hidden.reshape(-1, 5))
    assert together.log_prob(then).shape == batch
    torch.testing.assert_close(
        together.log_prob(then).reshape(-1), rows.log_prob(then.reshape(-1, 4))
    )
    torch.testing.assert_close(together.mean().flatten(0, -2), rows.mean())
    generator = torch.Generator().manual_seed(0)
    assert together.sample(1.0, generator).shape == (*batch, 4)
    assert torch.equal(together.sample(0.0).reshape(-1, 4), rows.sample(0.0))


def mean_numbers(head: CodeHead, frames: Tensor) -> Tensor:
    """Return the numbers that `mean` averages over, with the codes in the head's order."""
    table, ordered = head.table, frames[:, head.order]
    return table.embed(ordered).flatten(-2) if table.lattice else table.seen(ordered)


@CASES
def test_the_mean_is_the_expectation_where_codes_do_not_hear_one_another(
    num_codes: int, sizes: tuple[int, ...]
) -> None:
    num_values = values_of(sizes)
    head = random_head(num_codes, sizes)
    with torch.no_grad():
        head.coupling.zero_()
        prediction = predict(head, some_codes(1, num_codes, num_values=num_values))
        frames = all_frames(num_codes, num_values)
        chances = torch.cat([prediction.log_prob(frame[None]) for frame in frames]).exp()
        numbers = mean_numbers(head, frames)
        torch.testing.assert_close(prediction.mean()[0], chances @ numbers, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("sizes", [(2, 2), (3,)])
def test_the_mean_hears_what_is_expected_of_earlier_codes(sizes: tuple[int, ...]) -> None:
    """If earlier codes are almost certain, then so are the numbers that later codes depend on."""
    head = random_head(3, sizes)
    now = some_codes(1, 3, num_values=values_of(sizes))
    with torch.no_grad():
        head.persistence_bonus[:2].fill_(30.0)
        prediction = predict(head, now)
        frames = all_frames(3, values_of(sizes))
        chances = torch.cat([prediction.log_prob(frame[None]) for frame in frames]).exp()
        numbers = mean_numbers(head, frames)
        torch.testing.assert_close(prediction.mean()[0], chances @ numbers, atol=1e-3, rtol=1e-3)


def test_what_a_table_alone_has_learned_of_a_codebook_is_no_part_of_the_mean() -> None:
    head = random_head(4, (6,))
    with torch.no_grad():
        for weight in (head.persistence_bonus, head.coupling):
            weight.zero_()
        head.table.bias.zero_()
        flat = {name: weight for name, weight in head.named_parameters() if "table" not in name}
        for weight in flat.values():
            weight.zero_()
        now = some_codes(1, 4, num_values=6)
        before = predict(head, now).mean()
        head.table.free.add_(1.0)
        torch.testing.assert_close(predict(head, now).mean(), before)


def test_gradients_reach_every_weight() -> None:
    head = random_head(4, (2, 3))
    now, then = (some_codes(8, 4, num_values=6, seed=seed) for seed in (1, 2))
    predict(head, now).log_prob(then).sum().backward()
    for name, weight in head.named_parameters():
        assert weight.grad is not None and weight.grad.abs().max() > 0, name
    assert head.coupling.grad is not None
    earlier = head.coupling.grad.unflatten(0, (4, 5)).unflatten(-1, (4, 5)).abs().amax((1, 3))
    # A code depends only on the codes of earlier groups.
    assert torch.equal(earlier > 0, torch.ones(4, 4).triu(1).bool())
