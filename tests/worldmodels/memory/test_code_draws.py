import pytest
import torch
from torch import Tensor

from tests.fixtures.code_frames import (
    ByHand,
    all_frames,
    number_of,
    predict,
    random_head,
    random_prediction,
    repeated,
    states,
)
from tests.fixtures.frequencies import check_frequencies
from worldmodels.memory.codes import to_digits


def draw(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def some_codes(*shape: int, num_values: int, seed: int = 1) -> Tensor:
    return torch.randint(num_values, shape, generator=draw(seed))


@pytest.mark.parametrize("temperature", [1.0, 2.0])
@pytest.mark.parametrize(
    ("num_codes", "sizes"),
    [(1, (2, 3)), (2, (2, 3)), (4, (2,)), (5, (2,)), (3, (2, 2)), (1, (64,))],
)
def test_samples_come_as_often_as_the_definition_says(
    num_codes: int, sizes: tuple[int, ...], temperature: float
) -> None:
    num_values = int(torch.tensor(sizes).prod())
    now = some_codes(1, num_codes, num_values=num_values)
    prediction = random_prediction(now, sizes, seed=5)
    by_hand = ByHand(prediction, temperature=temperature)
    frames = all_frames(num_codes, num_values)
    expected = torch.tensor([by_hand.probability(frame) for frame in frames.tolist()])
    assert expected.sum().item() == pytest.approx(1.0, abs=1e-5)  # tempered ones too
    sampled = repeated(prediction, 60_000).sample(temperature, draw(0))
    check_frequencies(number_of(sampled, num_values), expected)


@pytest.mark.parametrize("sizes", [(2, 3), (6,), (64,)])
def test_temperature_zero_takes_the_likeliest_component_and_its_likeliest_digits(
    sizes: tuple[int, ...],
) -> None:
    num_values = int(torch.tensor(sizes).prod())
    prediction = random_prediction(some_codes(12, 4, num_values=num_values), sizes, mixtures=3)
    sampled = prediction.sample(0.0)
    assert sampled.tolist() == [ByHand(prediction, row).greedy() for row in range(12)]
    assert torch.equal(sampled, prediction.sample(1e-5, draw(0)))


def test_whether_a_digit_stays_may_depend_on_whether_the_one_before_it_stayed() -> None:
    sizes = (2, 3)
    now = some_codes(50, 4, num_values=6)
    head = random_head(4, sizes)
    with torch.no_grad():
        head.persistence_bonus.fill_(60.0)
        assert torch.equal(predict(head, now).sample(1.0, draw(0)), now)
        head.persistence_bonus[
            :, 1, 1
        ] = -60.0  # the second digit leaves where the first one stayed
        left = to_digits(predict(head, now).sample(1.0, draw(0)), sizes)
        before = to_digits(now, sizes)
        assert torch.equal(left[..., 0], before[..., 0])
        assert (left[..., 1] != before[..., 1]).all()
        head.persistence_bonus[
            :, 0
        ] = -60.0  # and now the first one leaves, so that the second one stays
        left = to_digits(predict(head, now).sample(1.0, draw(0)), sizes)
        assert (left[..., 0] != before[..., 0]).all()
        assert torch.equal(left[..., 1], before[..., 1])


@pytest.mark.parametrize("sizes", [(2, 3), (6,)])
def test_samples_repeat_with_the_generator_and_copies_meet_the_same_luck(
    sizes: tuple[int, ...],
) -> None:
    head, now, hidden = random_head(4, sizes), some_codes(5, 4, num_values=6), states(5)
    block = predict(head, now, hidden)
    prediction = predict(head, now.repeat(8, 1), hidden.repeat(8, 1))
    sampled = prediction.sample(1.0, draw(0))
    assert torch.equal(sampled, prediction.sample(1.0, draw(0)))
    assert not torch.equal(sampled, prediction.sample(1.0, draw(1)))
    assert not torch.equal(sampled, sampled[:5].repeat(8, 1))
    together = prediction.sample(1.0, draw(0), num_candidates=8)
    assert torch.equal(together, together[:5].repeat(8, 1))
    assert torch.equal(together[:5], block.sample(1.0, draw(0)))
