from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.fixtures.tiny_models import codernn, mdnrnn, outcome, rollout, vae, world
from worldmodels.data.episode import Episode
from worldmodels.data.store import EpisodeStore
from worldmodels.dream.model import DreamModel, DreamState
from worldmodels.dream.rollout import dreamed_returns
from worldmodels.dream.support import Support
from worldmodels.memory import (
    MDNRNN,
    CodeRNN,
    EnsemblePrediction,
    MemoryEnsemble,
    MixturePrediction,
    Prediction,
)
from worldmodels.memory.encoding import encode_episodes
from worldmodels.vision import VQVAE

LOW, HIGH = torch.tensor([-1.0, 0.0, 2.0]), torch.tensor([0.5, 0.1, 2.5])
KINDS = pytest.mark.parametrize("kind", ["vae", "fsq"])


def draw(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def near(count: int = 1, mu: float | Tensor = 0.0) -> MixturePrediction:
    """Make a prediction with the mean `mu`, on which most tests do not depend."""
    zeros = torch.zeros(count, 3, 1)
    return MixturePrediction(zeros, zeros + mu, zeros, outcome(count))


def stage_weights(support: Support, latent: Tensor, prediction: Prediction) -> list[bool]:
    """Whether each latent is out of support."""
    out_of_support = support.clamp(latent, prediction)[1]
    outside: list[bool] = out_of_support.tolist()
    return outside


@pytest.fixture
def episodes(tmp_path: Path) -> list[Episode]:
    store = EpisodeStore(tmp_path)
    for index, length in enumerate((7, 4, 15)):
        store.add(index, rollout(length, seed=index))
    return store.episodes


def test_latents_are_held_within_and_a_dream_leaves_beyond_the_slack() -> None:
    support = Support(LOW, HIGH)
    dreamed = torch.tensor(
        [
            [0.0, 0.05, 2.2],  # inside
            [-1.7, 0.05, 2.2],  # outside by 0.7 of a range of 1.5, less than half
            [-1.8, 0.05, 2.2],  # by 0.8
            [0.0, 0.14, 2.74],  # a little outside in two
            [0.0, 0.16, 2.2],  # by 0.06 of a range of 0.1
            [1e9, 1e9, -1e9],
        ]
    )
    clamped, out_of_support = support.clamp(dreamed, near(6))
    assert out_of_support.tolist() == [
        False,
        False,
        True,
        False,
        True,
        True,
    ]
    assert torch.equal(clamped, torch.minimum(torch.maximum(dreamed, LOW), HIGH))
    assert torch.equal(clamped[0], dreamed[0])


def test_what_v_itself_is_unsure_of_is_no_leaving() -> None:
    """A latent that V does not use has a narrow range and a posterior noise of 1."""
    low, high = torch.tensor([-0.01, -1.0, 0.0]), torch.tensor([0.01, 1.0, 1.0])
    support = Support(low, high, noise=torch.tensor([1.0, 0.1, 0.2]))
    dreamed = torch.tensor(
        [
            [4.9, 0.0, 0.5],  # within five of V's deviations
            [5.1, 0.0, 0.5],
            [0.0, 1.9, 0.5],  # within half the range, though beyond V's noise
            [0.0, 2.1, 0.5],
            [0.0, 0.0, -0.9],
            [0.0, 0.0, -1.1],
        ]
    )
    clamped, out_of_support = support.clamp(dreamed, near(6))
    assert out_of_support.tolist() == [
        False,
        True,
        False,
        True,
        False,
        True,
    ]
    assert (clamped >= low).all() and (clamped <= high).all()


def test_a_dream_that_leaves_has_ended_and_earns_nothing_more() -> None:
    low, high = torch.tensor([-2.0, -1.0, -3.0]), torch.tensor([2.0, 3.0, 1.0])
    dream = DreamModel(vae(), mdnrnn(), temperature=2.0, support=Support(low, high))
    free = DreamModel(vae(), dream.memory, temperature=2.0)
    start = DreamState(torch.zeros(300, 3), free.memory.initial(300), torch.ones(300))
    action = torch.zeros(300, 3)
    clamped, reward = dream.step(start, action, draw(0))
    wild, same_reward = free.step(start, action, draw(0))
    assert torch.equal(reward, same_reward)
    assert (clamped.latent >= low).all() and (clamped.latent <= high).all()
    room = 0.5 * (high - low)
    out_of_support = ((wild.latent < low - room) | (wild.latent > high + room)).any(-1)
    assert 30 < out_of_support.sum() < 270
    outside = ((wild.latent < low) | (wild.latent > high)).any(-1)
    assert (outside & ~out_of_support).any()  # a little outside is held and goes on
    assert (clamped.weight[out_of_support] == 0).all()
    assert (
        torch.equal(clamped.weight[~out_of_support], wild.weight[~out_of_support])
        and (wild.weight > 0).all()
    )
    further, _ = dream.step(clamped, action, draw(1))
    assert (further.weight[out_of_support] == 0).all()
    # The agent step that leaves the support still has its reward, later agent steps have none.
    returns = dreamed_returns(dream, start, lambda f: torch.zeros(len(f), 3), 2, draw(0))[-1]
    assert torch.equal(returns[out_of_support], reward[out_of_support])
    assert not torch.equal(returns[~out_of_support], reward[~out_of_support])


def test_codes_never_leave() -> None:
    vision, memory = world("fsq")
    codes = torch.randint(12, (50, 16), generator=draw(0))
    start = DreamState(codes, memory.initial(50), torch.ones(50))
    dreams = [
        DreamModel(vision, memory, 5.0, support).step(start, torch.zeros(50, 3), draw(0))[0]
        for support in (None, Support())
    ]
    assert torch.equal(dreams[0].latent, dreams[1].latent)
    assert torch.equal(dreams[0].weight, dreams[1].weight) and (dreams[1].weight > 0).all()
    assert not Support().clamp(codes, near())[1].any()


def test_dreams_end_where_members_disagree_more_than_they_may() -> None:
    mus = torch.tensor([0.0, 1.0, 3.0])[:, None, None]
    prediction = EnsemblePrediction([near(3, mus), near(3, -mus)])
    disagrees = prediction.disagreement()
    torch.testing.assert_close(disagrees, mus[:, 0, 0] * 3**0.5)
    latent = torch.zeros(3, 3)
    support = Support(most_disagreement=2.0)
    assert stage_weights(support, latent, prediction) == [False, False, True]
    # Either is enough.
    both = Support(LOW - 5, HIGH + 5, most_disagreement=2.0)
    latent[0] = 100.0
    assert stage_weights(both, latent, prediction) == [True, False, True]
    assert stage_weights(Support(LOW - 5, HIGH + 5), latent, prediction) == [True, False, False]


@KINDS
def test_in_a_dream_it_is_the_present_prediction_that_is_asked(kind: str) -> None:
    vision, _ = world(kind)
    members: list[MDNRNN | CodeRNN]
    if not isinstance(vision, VQVAE):
        members, latent = [mdnrnn(seed) for seed in (0, 1)], torch.randn(40, 3)
    else:
        vectors = vision.code_vectors
        size: dict[str, Any] = {"num_codes": 16, "digit_sizes": vision.config.digit_sizes}
        size["vector_size"] = vision.config.vector_size
        members = [codernn(seed, vectors, **size) for seed in (0, 1)]
        latent = torch.randint(12, (40, 16))
    memory, action = MemoryEnsemble(members), torch.randn(40, 3)
    _, prediction = memory.step(memory.initial(40), latent, action)
    disagrees = prediction.disagreement().detach()
    most = float(disagrees.median())
    dream = DreamModel(vision, memory, support=Support(most_disagreement=most))
    state, _ = dream.step(DreamState(latent, memory.initial(40), torch.ones(40)), action, draw(0))
    assert torch.equal(state.weight == 0, disagrees > most)
    assert 10 < (state.weight == 0).sum() < 30


def test_the_range_is_that_of_real_agent_steps(episodes: list[Episode]) -> None:
    vision, memory = world("vae")
    sequences = encode_episodes(vision, episodes, 2)
    support = Support.fit(vision, memory, sequences)
    seen = torch.cat(
        [
            vision.mode(vision.encode(torch.from_numpy(episode.load().frames[:-1][::2])))
            for episode in episodes
        ]
    ).detach()
    assert len(seen) == 4 + 2 + 8
    torch.testing.assert_close(support.low, seen.amin(0))
    torch.testing.assert_close(support.high, seen.amax(0))
    assert support.most_disagreement is None
    assert support.low is not None and not support.low.requires_grad
    spread = torch.cat(
        [
            vision.encode(torch.from_numpy(episode.load().frames[:-1][::2]))[:, 3:]
            for episode in episodes
        ]
    )
    torch.testing.assert_close(support.noise, spread.exp().mean(0).sqrt().detach())
    sequences.posteriors[1, 3:] = 1e6  # padding
    again = Support.fit(vision, memory, sequences)
    assert again.high is not None and support.high is not None
    assert torch.equal(again.high, support.high)


@KINDS
def test_the_disagreement_allowed_is_that_of_all_but_one_in_a_thousand(
    episodes: list[Episode], kind: str
) -> None:
    vision, first = world(kind)
    other = world(kind)[1]
    torch.nn.init.normal_(other.lstm.weight_input)
    memory = MemoryEnsemble([first, other])
    sequences = encode_episodes(vision, episodes, 2)
    support = Support.fit(vision, memory, sequences)
    assert (support.low is None) == (kind == "fsq")
    disagrees = []
    for row, length in enumerate((4, 2, 8)):
        state = memory.initial(1)
        for step in range(length):
            latent = vision.mode(sequences.posteriors[row, step][None])
            action = sequences.actions[row, step][None]
            with torch.no_grad():
                state, prediction = memory.step(state, latent, action)
                disagrees.append(prediction.disagreement())
    expected = torch.cat(disagrees).quantile(0.999).item()
    assert support.most_disagreement == pytest.approx(expected, rel=1e-3)


def test_a_single_codernn_knows_no_bounds(episodes: list[Episode]) -> None:
    vision, memory = world("fsq")
    support = Support.fit(vision, memory, encode_episodes(vision, episodes, 2))
    assert support == Support(None, None, None)


def test_on_a_device_it_is_the_same() -> None:
    support = Support(LOW, HIGH, 3.0).to("cpu")
    assert support.low is not None and support.high is not None
    assert torch.equal(support.low, LOW) and torch.equal(support.high, HIGH)
    assert support.most_disagreement == 3.0
    assert Support(None, None, 2.0).to("cpu") == Support(None, None, 2.0)
