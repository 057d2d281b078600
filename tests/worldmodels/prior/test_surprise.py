import pytest
import torch

from tests.fixtures.tiny_models import frames, vqvae
from worldmodels.data.episode import PackedEpisode
from worldmodels.prior.pixelcnn import CodePrior, PriorConfig
from worldmodels.prior.selection import Candidate, EpisodeSelection
from worldmodels.prior.surprise import Surprise, episode_surprise
from worldmodels.vision.networks import to_unit

FRAMES = frames(300)


@pytest.fixture(scope="module")
def surprise() -> Surprise:
    vision = vqvae("fsq")
    torch.manual_seed(1)
    prior = CodePrior(PriorConfig(16, vision.config.digit_sizes, num_channels=4, num_layers=1))
    with torch.no_grad():
        prior.log_frequency.normal_()
    return Surprise(vision, prior)


@torch.no_grad()
def test_it_is_minus_the_log_likelihood_of_a_frames_codes(surprise: Surprise) -> None:
    nats = surprise.surprise(FRAMES)  # more frames than go through V at once
    codes = surprise.vision.encode(torch.from_numpy(FRAMES))
    expected = -surprise.prior.log_prob(codes).sum(1)
    torch.testing.assert_close(nats, expected, atol=1e-3, rtol=0)
    torch.testing.assert_close(surprise.of_codes(codes), expected, atol=1e-3, rtol=0)
    assert nats.std() > 0.5
    assert not surprise.prior.training and not surprise.vision.training


@torch.no_grad()
def test_beside_it_stands_the_error_of_the_reconstruction(surprise: Surprise) -> None:
    nats, error = surprise.surprise_and_error(FRAMES[:20])
    assert torch.equal(nats, surprise.surprise(FRAMES[:20]))
    batch = torch.from_numpy(FRAMES[:20])
    decoded = surprise.vision.decode(surprise.vision.encode(batch))
    expected = (to_unit(decoded) - to_unit(batch)).square().sum((1, 2, 3))
    torch.testing.assert_close(error, expected, atol=1e-2, rtol=1e-4)


def test_no_frames_have_no_surprise(surprise: Surprise) -> None:
    assert surprise.surprise(FRAMES[:0]).shape == (0,)


def test_an_episode_is_as_surprising_as_its_frames_on_the_mean(surprise: Surprise) -> None:
    nats = surprise.surprise(FRAMES[:21:4]).numpy()
    assert episode_surprise(surprise, FRAMES[:21], 4) == pytest.approx(nats.mean(), rel=1e-5)


def test_of_the_candidates_of_an_episode_the_most_surprising_is_kept() -> None:
    choice = EpisodeSelection()
    for offset, best in ((0.0, 2), (5.0, 0)):
        candidates = [
            Candidate(PackedEpisode(f"{offset} {number}".encode(), 0.0), offset + nats, 10 + number)
            for number, nats in enumerate((7.0, 3.0, 6.0) if best == 0 else (1.0, 2.0, 3.0))
        ]
        assert choice(candidates) is candidates[best].episode
        assert choice.discarded_steps == sum((10, 11, 12)) - (10 + best)
    assert choice.summary() == {
        "mean_surprise": 7.5,
        "candidates_mean_surprise": pytest.approx(37 / 6),
    }
