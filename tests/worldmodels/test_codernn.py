import itertools

import pytest
import torch

from tests.tiny_models import codernn, mdnrnn
from worldmodels.checkpoint import load_checkpoint, save_checkpoint, with_prefix
from worldmodels.data.batches import SequenceBatch
from worldmodels.memory import CodePrediction, CodeRNN, memory_metadata, restore_memory
from worldmodels.memory.baselines import StayCategorical
from worldmodels.memory.codernn import from_digits, to_digits
from worldmodels.memory.outcome import Outcome

SIZES = (2, 3)


def draw(seed):
    return torch.Generator().manual_seed(seed)


def random_prediction(now, sizes=SIZES, mixtures=2, seed=0):
    """A prediction from present codes (B, N), everything in it drawn at random."""
    generator = draw(seed)
    batch, codes = now.shape
    return CodePrediction(
        log_pi=torch.randn(batch, mixtures, generator=generator).log_softmax(-1),
        logits=[torch.randn(batch, mixtures, codes, size, generator=generator) for size in sizes],
        keep=2 * torch.randn(codes, len(sizes), 2, generator=generator),
        now=to_digits(now, sizes),
        digit_sizes=sizes,
        outcome=Outcome(torch.zeros(batch), torch.zeros(batch)),
    )


def all_frames(codes, values):
    return torch.tensor(list(itertools.product(range(values), repeat=codes)))


def by_hand(prediction, frame):
    """Probability of the next frame of row 0, by the definition, number by number."""
    total = 0.0
    for component in range(prediction.log_pi.shape[-1]):
        p = prediction.log_pi[0, component].exp().item()
        for code, value in enumerate(frame.tolist()):
            kept = True
            for digit, size in enumerate(prediction.digit_sizes):
                now = prediction.now[0, code, digit].item()
                logits = prediction.logits[digit][0, component, code].clone()
                logits[now] += prediction.keep[code, digit, int(kept)]
                chosen = value % size
                value //= size
                p *= logits.softmax(0)[chosen].item()
                kept = kept and chosen == now
        total += p
    return total


def test_digits_and_codes_are_inverse_and_the_first_digit_is_the_fastest():
    codes = torch.arange(2 * 3 * 4).reshape(4, 6)
    digits = to_digits(codes, (2, 3, 4))
    assert torch.equal(from_digits(digits, (2, 3, 4)), codes)
    assert digits[0, :4].tolist() == [[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0]]
    assert torch.equal(digits.flatten(0, 1).amax(0), torch.tensor([1, 2, 3]))
    assert len(digits.flatten(0, 1).unique(dim=0)) == 24


@pytest.mark.parametrize("num_codes", [1, 2])
def test_probabilities_are_the_definitions_and_sum_to_one(num_codes):
    now = torch.tensor([[4, 1][:num_codes]])
    prediction = random_prediction(now)
    frames = all_frames(num_codes, 6)
    log_p = torch.stack([prediction.log_prob(frame[None])[0] for frame in frames])
    assert log_p.exp().sum().item() == pytest.approx(1.0, abs=1e-5)
    for frame, value in zip(frames, log_p, strict=True):
        assert value.exp().item() == pytest.approx(by_hand(prediction, frame), rel=1e-4)


def test_one_digit_and_one_component_without_keep_is_a_categorical():
    now = torch.randint(7, (3, 4), generator=draw(1))
    prediction = random_prediction(now, sizes=(7,), mixtures=1)
    prediction.keep.zero_()
    then = torch.randint(7, (3, 4), generator=draw(2))
    expected = torch.distributions.Categorical(logits=prediction.logits[0][:, 0]).log_prob(then)
    torch.testing.assert_close(prediction.log_prob(then), expected.sum(-1))


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_samples_come_as_often_as_log_prob_says(temperature):
    count = 30_000
    one = random_prediction(torch.tensor([[4, 1]]), seed=5)
    many = CodePrediction(
        one.log_pi.expand(count, -1),
        [logits.expand(count, -1, -1, -1) for logits in one.logits],
        one.keep,
        one.now.expand(count, -1, -1),
        SIZES,
        Outcome(torch.zeros(count), torch.zeros(count)),
    )
    # Temperature divides all log-odds: components', digits' and those of keeping.
    tempered = CodePrediction(
        (one.log_pi / temperature).log_softmax(-1),
        [logits / temperature for logits in one.logits],
        one.keep / temperature,
        one.now,
        SIZES,
        one.outcome,
    )
    sampled = many.sample(temperature, draw(0))
    frames = all_frames(2, 6)
    expected = torch.stack([tempered.log_prob(frame[None])[0] for frame in frames]).exp()
    observed = torch.bincount(sampled[:, 0] * 6 + sampled[:, 1], minlength=36) / count
    chi_square = (count * (observed - expected).square() / expected).sum()
    assert chi_square < 66.6  # of 35 degrees of freedom: one in a thousand
    assert torch.equal(sampled, many.sample(temperature, draw(0)))


def test_temperature_zero_takes_the_likeliest_component_and_its_likeliest_digits():
    now = torch.randint(6, (5, 2), generator=draw(1))
    prediction = random_prediction(now, mixtures=3)
    sampled = prediction.sample(0.0)
    assert torch.equal(sampled, prediction.sample(1e-4, draw(0)))
    prediction.keep.fill_(50.0)
    assert torch.equal(prediction.sample(0.0), now)
    prediction.keep[:, 1, 1] = -50.0  # the second digit leaves where the first one stayed
    left = to_digits(prediction.sample(0.0), SIZES)
    assert torch.equal(left[..., 0], prediction.now[..., 0])
    assert (left[..., 1] != prediction.now[..., 1]).all()


def test_stepping_is_the_whole_sequence():
    memory = codernn()
    torch.nn.init.normal_(memory.outcome.linear.weight)
    codes = torch.randint(6, (2, 6, 2), generator=draw(0))
    actions = torch.randn(2, 5, 3)
    hidden, last = memory.sequence(memory.initial(2), codes[:, :-1], actions)
    whole = memory.predict(hidden, codes[:, :-1])
    log_p = whole.log_prob(codes[:, 1:])
    assert log_p.shape == (2, 5)
    state = memory.initial(2)
    for step in range(5):
        advanced = memory.advance(state, codes[:, step], actions[:, step])
        state, prediction = memory.step(state, codes[:, step], actions[:, step])
        assert torch.equal(advanced.h, state.h)
        close = {"atol": 1e-5, "rtol": 0}
        torch.testing.assert_close(state.h, hidden[:, step], **close)
        torch.testing.assert_close(prediction.log_prob(codes[:, step + 1]), log_p[:, step], **close)
        torch.testing.assert_close(prediction.log_pi, whole.log_pi[:, step], **close)
        for one, all_ in zip(prediction.outcome, whole.outcome, strict=True):
            torch.testing.assert_close(one, all_[:, step], **close)
    torch.testing.assert_close(state.c, last.c, atol=1e-5, rtol=0)


def test_it_sees_the_vectors_codes_stand_for():
    vectors = torch.tensor([[0.0, 1.0], [2.0, 3.0], [2.0, 3.0], [4.0, 5.0], [6.0, 7.0], [8.0, 9.0]])
    memory = codernn(code_vectors=vectors)
    state, action = memory.initial(1), torch.zeros(1, 3)
    alike = [memory.advance(state, torch.tensor([[code, 4]]), action).h for code in (1, 2, 3)]
    assert torch.equal(alike[0], alike[1]) and not torch.equal(alike[0], alike[2])


def sticky_codes(stay, num_values, count=30, length=80, seed=0):
    """Two codes that stay with probability `stay`, else are drawn from uneven frequencies."""
    generator = draw(seed)
    weights = torch.arange(1.0, num_values + 1).repeat(count, 1)
    codes = torch.zeros(count, length + 1, 2, dtype=torch.int64)
    codes[:, 0] = torch.multinomial(weights, 2, replacement=True, generator=generator)
    for step in range(length):
        drawn = torch.multinomial(weights, 2, replacement=True, generator=generator)
        stays = torch.rand(count, 2, generator=generator) < stay
        codes[:, step + 1] = torch.where(stays, codes[:, step], drawn)
    return SequenceBatch(
        codes,
        torch.zeros(count, length, 3),
        torch.randn(count, length, generator=generator),
        torch.zeros(count, length, dtype=torch.bool),
        torch.ones(count, length, dtype=torch.bool),
    )


@pytest.mark.parametrize("sizes", [(6,), (2, 3)])
def test_calibrated_it_begins_near_the_stay_baseline(sizes):
    batch = sticky_codes(0.9, 6)
    memory = codernn(digit_sizes=sizes)
    memory.calibrate(batch)
    now, then = (batch.posteriors[:, part].flatten(0, 1) for part in (slice(80), slice(1, 81)))
    frequency = torch.bincount(then.flatten(), minlength=6) / then.numel()
    unigram = -2 * (frequency * frequency.log()).sum().item()
    stay = StayCategorical.fit(now, then, 6).nll(now, then)
    nll = memory.loss(batch)[1]["nll"].item()
    assert stay < 0.5 * unigram
    assert nll < 0.55 * unigram and nll < stay + 0.3


def test_calibrating_counts_as_one_hot_rows_would():
    batch = sticky_codes(0.5, 6)
    memory = codernn()
    memory.calibrate(batch)
    then = to_digits(batch.posteriors[:, 1:].flatten(0, 1), SIZES)
    expected = []
    for digit, size in enumerate(SIZES):
        hits = torch.nn.functional.one_hot(then[..., digit], size).float()
        expected.append(((hits.sum(0) + 0.5) / (len(hits) + 0.5 * size)).log())
    bias = memory.logits.bias.view(2, 2, 5)
    for component in range(2):
        torch.testing.assert_close(bias[component], torch.cat(expected, -1))


def test_the_loss_leaves_padding_out():
    memory, batch = codernn(), sticky_codes(0.5, 6, count=2, length=4)
    mask = torch.tensor([[True] * 4, [True, True, False, False]])
    codes = batch.posteriors.clone()
    parts = []
    for row, length in ((0, 4), (1, 2)):
        state = memory.initial(1)
        for step in range(length):
            now, then = (codes[row : row + 1, step + i] for i in (0, 1))
            state, prediction = memory.step(state, now, batch.actions[row : row + 1, step])
            parts.append(-prediction.log_prob(then))
    padded = SequenceBatch(codes, batch.actions, batch.rewards, batch.ended, mask)
    loss, metrics = memory.loss(padded)
    torch.testing.assert_close(metrics["nll"], torch.cat(parts).mean())
    torch.testing.assert_close(loss, sum(metrics.values()))
    codes[1, 3:] = 5
    assert torch.equal(memory.loss(padded)[0], loss)


def test_a_round_trip_through_a_file_keeps_the_code_vectors(tmp_path):
    memory = codernn()
    path = tmp_path / "m.safetensors"
    metadata = {"memory": memory_metadata(memory)}
    save_checkpoint(path, with_prefix("memory", memory.state_dict()), metadata)
    loaded = restore_memory(load_checkpoint(path, remedy=""), path)
    assert isinstance(loaded, CodeRNN) and loaded.config == memory.config
    assert torch.equal(loaded.code_vectors, memory.code_vectors)
    assert torch.equal(loaded.keep, memory.keep)


@pytest.mark.parametrize("kind", ["codes", "latents"])
def test_copies_of_a_dream_meet_the_same_luck(kind):
    memory = codernn() if kind == "codes" else mdnrnn()
    block = torch.randint(6, (5, 2)) if kind == "codes" else torch.randn(5, 3)
    latents, actions = block.repeat(4, 1), torch.rand(5, 3).repeat(4, 1)
    _, prediction = memory.step(memory.initial(20), latents, actions)
    generator = torch.Generator().manual_seed(0)
    together = prediction.sample(1.0, generator, copies=4)
    torch.testing.assert_close(together, together[:5].repeat(4, 1))
    apart = prediction.sample(1.0, generator)
    assert not torch.equal(apart, apart[:5].repeat(4, 1))
