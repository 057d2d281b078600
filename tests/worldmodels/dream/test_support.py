import pytest
import torch

from tests.fixtures.tiny_models import codernn, mdnrnn, outcome, rollout, vae, world
from worldmodels.data.store import EpisodeStore
from worldmodels.dream.model import DreamModel, DreamState, KnownRegion, dreamed_returns
from worldmodels.memory import EnsemblePrediction, MemoryEnsemble, MixturePrediction
from worldmodels.memory.encoding import encode_episodes

LOW, HIGH = torch.tensor([-1.0, 0.0, 2.0]), torch.tensor([0.5, 0.1, 2.5])
KINDS = pytest.mark.parametrize("kind", ["vae", "fsq"])


def draw(seed):
    return torch.Generator().manual_seed(seed)


def near(count=1, mu=0.0):
    """A prediction that plays no part."""
    zeros = torch.zeros(count, 3, 1)
    return MixturePrediction(zeros, zeros + mu, zeros, outcome(count))


@pytest.fixture
def episodes(tmp_path):
    store = EpisodeStore(tmp_path)
    for index, length in enumerate((7, 4, 15)):
        store.add(index, rollout(length, seed=index))
    return store.episodes


def test_latents_are_held_within_and_a_dream_leaves_beyond_the_slack():
    region = KnownRegion(LOW, HIGH)
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
    held, left = region.hold(dreamed, near(6))
    assert left.tolist() == [False, False, True, False, True, True]
    assert torch.equal(held, torch.minimum(torch.maximum(dreamed, LOW), HIGH))
    assert torch.equal(held[0], dreamed[0])


def test_what_v_itself_is_unsure_of_is_no_leaving():
    """A latent that V leaves unused has hardly a range, and a noise of 1."""
    low, high = torch.tensor([-0.01, -1.0, 0.0]), torch.tensor([0.01, 1.0, 1.0])
    region = KnownRegion(low, high, noise=torch.tensor([1.0, 0.1, 0.2]))
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
    held, left = region.hold(dreamed, near(6))
    assert left.tolist() == [False, True, False, True, False, True]
    assert (held >= low).all() and (held <= high).all()


def test_a_dream_that_leaves_has_ended_and_earns_nothing_more():
    low, high = torch.tensor([-2.0, -1.0, -3.0]), torch.tensor([2.0, 3.0, 1.0])
    dream = DreamModel(vae(), mdnrnn(), temperature=2.0, region=KnownRegion(low, high))
    free = DreamModel(vae(), dream.memory, temperature=2.0)
    start = DreamState(torch.zeros(300, 3), free.memory.initial(300), torch.ones(300))
    action = torch.zeros(300, 3)
    held, reward = dream.step(start, action, draw(0))
    wild, same_reward = free.step(start, action, draw(0))
    assert torch.equal(reward, same_reward)
    assert (held.latent >= low).all() and (held.latent <= high).all()
    room = 0.5 * (high - low)
    left = ((wild.latent < low - room) | (wild.latent > high + room)).any(-1)
    assert 30 < left.sum() < 270
    outside = ((wild.latent < low) | (wild.latent > high)).any(-1)
    assert (outside & ~left).any()  # a little outside is held and goes on
    assert (held.alive[left] == 0).all()
    assert torch.equal(held.alive[~left], wild.alive[~left]) and (wild.alive > 0).all()
    further, _ = dream.step(held, action, draw(1))
    assert (further.alive[left] == 0).all()
    # The decision that leads out still pays, the ones after it do not.
    returns = dreamed_returns(dream, start, lambda f: torch.zeros(len(f), 3), 2, draw(0))
    assert torch.equal(returns[left], reward[left])
    assert not torch.equal(returns[~left], reward[~left])


def test_codes_never_leave():
    vision, memory = world("fsq")
    codes = torch.randint(12, (50, 16), generator=draw(0))
    start = DreamState(codes, memory.initial(50), torch.ones(50))
    dreams = [
        DreamModel(vision, memory, 5.0, region).step(start, torch.zeros(50, 3), draw(0))[0]
        for region in (None, KnownRegion())
    ]
    assert torch.equal(dreams[0].latent, dreams[1].latent)
    assert torch.equal(dreams[0].alive, dreams[1].alive) and (dreams[1].alive > 0).all()
    assert KnownRegion().hold(codes, near())[1] is None


def test_dreams_end_where_members_disagree_more_than_they_may():
    mus = torch.tensor([0.0, 1.0, 3.0])[:, None, None]
    prediction = EnsemblePrediction([near(3, mus), near(3, -mus)])
    apart = prediction.disagreement()
    torch.testing.assert_close(apart, mus[:, 0, 0] * 3**0.5)
    latent = torch.zeros(3, 3)
    region = KnownRegion(most_disagreement=2.0)
    assert region.hold(latent, prediction)[1].tolist() == [False, False, True]
    # Either is enough.
    both = KnownRegion(LOW - 5, HIGH + 5, most_disagreement=2.0)
    latent[0] = 100.0
    assert both.hold(latent, prediction)[1].tolist() == [True, False, True]
    assert KnownRegion(LOW - 5, HIGH + 5).hold(latent, prediction)[1].tolist() == [
        True,
        False,
        False,
    ]


@KINDS
def test_in_a_dream_it_is_the_present_prediction_that_is_asked(kind):
    vision, _ = world(kind)
    if kind == "vae":
        members, latent = [mdnrnn(seed) for seed in (0, 1)], torch.randn(40, 3)
    else:
        vectors = vision.code_vectors
        size = {"num_codes": 16, "digit_sizes": vision.config.digit_sizes}
        size["vector_size"] = vision.config.vector_size
        members = [codernn(seed, vectors, **size) for seed in (0, 1)]
        latent = torch.randint(12, (40, 16))
    memory, action = MemoryEnsemble(members), torch.randn(40, 3)
    _, prediction = memory.step(memory.initial(40), latent, action)
    apart = prediction.disagreement().detach()
    most = float(apart.median())
    dream = DreamModel(vision, memory, region=KnownRegion(most_disagreement=most))
    state, _ = dream.step(DreamState(latent, memory.initial(40), torch.ones(40)), action, draw(0))
    assert torch.equal(state.alive == 0, apart > most)
    assert 10 < (state.alive == 0).sum() < 30


def test_the_range_is_that_of_real_decisions(episodes):
    vision, memory = world("vae")
    sequences = encode_episodes(vision, episodes, 2)
    region = KnownRegion.fit(vision, memory, sequences)
    seen = [
        vision.mode(vision.encode(torch.from_numpy(episode.load().frames[:-1][::2])))
        for episode in episodes
    ]
    seen = torch.cat(seen).detach()
    assert len(seen) == 4 + 2 + 8
    torch.testing.assert_close(region.low, seen.amin(0))
    torch.testing.assert_close(region.high, seen.amax(0))
    assert region.most_disagreement is None and not region.low.requires_grad
    spread = torch.cat(
        [
            vision.encode(torch.from_numpy(episode.load().frames[:-1][::2]))[:, 3:]
            for episode in episodes
        ]
    )
    torch.testing.assert_close(region.noise, spread.exp().mean(0).sqrt().detach())
    sequences.posteriors[1, 3:] = 1e6  # padding
    again = KnownRegion.fit(vision, memory, sequences)
    assert torch.equal(again.high, region.high)


@KINDS
def test_the_disagreement_allowed_is_that_of_all_but_one_in_a_thousand(episodes, kind):
    vision, first = world(kind)
    other = world(kind)[1]
    torch.nn.init.normal_(other.lstm.weight_input)
    memory = MemoryEnsemble([first, other])
    sequences = encode_episodes(vision, episodes, 2)
    region = KnownRegion.fit(vision, memory, sequences)
    assert (region.low is None) == (kind == "fsq")
    apart = []
    for row, length in enumerate((4, 2, 8)):
        state = memory.initial(1)
        for step in range(length):
            latent = vision.mode(sequences.posteriors[row, step][None])
            action = sequences.actions[row, step][None]
            with torch.no_grad():
                state, prediction = memory.step(state, latent, action)
                apart.append(prediction.disagreement())
    expected = torch.cat(apart).quantile(0.999).item()
    assert region.most_disagreement == pytest.approx(expected, rel=1e-3)


def test_a_single_codernn_knows_no_bounds(episodes):
    vision, memory = world("fsq")
    region = KnownRegion.fit(vision, memory, encode_episodes(vision, episodes, 2))
    assert region == KnownRegion(None, None, None)


def test_on_a_device_it_is_the_same():
    region = KnownRegion(LOW, HIGH, 3.0).to("cpu")
    assert torch.equal(region.low, LOW) and torch.equal(region.high, HIGH)
    assert region.most_disagreement == 3.0
    assert KnownRegion(None, None, 2.0).to("cpu") == KnownRegion(None, None, 2.0)
