from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.fixtures.tiny_models import mdnrnn, rollout, vae, world
from worldmodels.data.episode import Episode
from worldmodels.data.sequences import SequenceBatch
from worldmodels.data.store import EpisodeStore
from worldmodels.dream.model import DreamModel, DreamState
from worldmodels.dream.rollout import dreamed_returns
from worldmodels.dream.starts import near_reward, real_states
from worldmodels.memory import LSTMState
from worldmodels.memory.encoding import encode_episodes
from worldmodels.memory.ensemble import EnsembleOutcome
from worldmodels.vision.batched import encode_frames


def draw(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


KINDS = pytest.mark.parametrize("kind", ["vae", "fsq"])


@pytest.fixture
def episodes(tmp_path: Path) -> list[Episode]:
    store = EpisodeStore(tmp_path)
    for index, length in enumerate((7, 4, 5)):
        store.add(index, rollout(length, seed=index, terminated=index == 1))
    return store.episodes


@KINDS
def test_encoding_in_batches_is_encoding_all_at_once(
    kind: str, episodes: list[Episode], monkeypatch: pytest.MonkeyPatch
) -> None:
    vision, _ = world(kind)
    monkeypatch.setattr("worldmodels.vision.batched.ENCODE_BATCH", 3)
    frames = episodes[0].load().frames
    posteriors = encode_frames(vision, frames)
    expected = vision.encode(torch.from_numpy(frames))
    assert not posteriors.requires_grad
    if kind == "fsq":
        assert posteriors.dtype == torch.int64 and torch.equal(posteriors, expected)
    else:
        torch.testing.assert_close(posteriors, expected.detach())


@KINDS
def test_moments_are_the_real_agent_steps_with_the_state_stepped_by_hand(
    kind: str, episodes: list[Episode]
) -> None:
    vision, memory = world(kind)
    sequences = encode_episodes(vision, episodes, 2)
    states = real_states(vision, memory, sequences)
    lengths = [4, 2, 3]  # 7, 4 and 5 steps, two an agent step
    assert sequences.mask.sum(1).tolist() == lengths
    assert len(states.weight) == sum(lengths) and (states.weight == 1).all()
    order = [(row, step) for row in range(3) for step in range(lengths[row])]
    for place, (row, step) in enumerate(order):
        state = memory.initial(1)
        for before in range(step + 1):
            posterior = sequences.posteriors[row, before][None]
            latent = vision.mode(posterior)
            if before < step:
                state = memory.advance(state, latent, sequences.actions[row, before][None])
        torch.testing.assert_close(states.latent[place], latent[0])
        torch.testing.assert_close(states.memory.h[place], state.h[0], atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(states.memory.c[place], state.c[0], atol=1e-6, rtol=1e-5)


def test_moments_near_a_reward_are_found_in_the_order_of_moments() -> None:
    rewards = torch.tensor([[0.0, 0, 0, 0, 5, 0], [7.0, 0, 0, 9, 9, 9]])
    mask = torch.tensor([[True] * 6, [True] * 3 + [False] * 3])  # what padding pays counts not
    empty = torch.zeros(2, 7, 3)
    sequences = SequenceBatch(empty, empty[:, 1:], rewards, torch.zeros_like(mask), mask)
    near = near_reward(sequences, within=1)
    assert near.tolist() == [False, False, False, True, True, True, True, True, False]
    assert near_reward(sequences, within=0).nonzero().flatten().tolist() == [4, 6]


@KINDS
def test_a_step_is_a_function_of_its_arguments_and_its_generator(
    kind: str, episodes: list[Episode]
) -> None:
    vision, memory = world(kind)
    sequences = encode_episodes(vision, episodes, 2)
    dream = DreamModel(vision, memory, temperature=1.3)
    start = real_states(vision, memory, sequences)
    action = torch.rand(9, 3)
    first, reward = dream.step(start, action, draw(0))
    again, _ = dream.step(start, action, draw(0))
    other, _ = dream.step(start, action, draw(1))
    assert torch.equal(first.latent, again.latent) and not torch.equal(first.latent, other.latent)
    state, prediction = memory.step(start.memory, start.latent, action)
    assert torch.equal(first.memory.h, state.h) and torch.equal(first.memory.c, state.c)
    assert torch.equal(reward, prediction.outcome.reward)
    assert torch.equal(first.latent, prediction.sample(1.3, draw(0)))
    torch.testing.assert_close(first.weight, 1 - prediction.outcome.end_probability)
    further, _ = dream.step(first, action, draw(0))
    assert (further.weight < first.weight).all()


@KINDS
def test_features_are_z_and_the_state_before_the_agent_step(
    kind: str, episodes: list[Episode]
) -> None:
    vision, memory = world(kind)
    states = real_states(vision, memory, encode_episodes(vision, episodes, 2))
    features = DreamModel(vision, memory).features(states)
    assert features.shape == (9, vision.num_features + 5)
    assert torch.equal(features[:, -5:], states.memory.h)
    assert torch.equal(features[:, :-5], vision.features(states.latent))


def test_gradients_flow_through_a_continuous_dream() -> None:
    dream = DreamModel(*world("vae"))
    action = torch.zeros(2, 3, requires_grad=True)
    state = DreamState(torch.zeros(2, 3), dream.memory.initial(2), torch.ones(2))
    for _ in range(2):
        state, reward = dream.step(state, action, draw(0))
    (gradient,) = torch.autograd.grad(reward.sum(), action)
    assert gradient.any()


class Known:
    """An M of one latent z: the next latent is z + 1, and the end has the probability z / 5.

    The reward is 10 z plus the first number of the action.
    """

    def sample(
        self, temperature: float, generator: torch.Generator | None = None, num_candidates: int = 1
    ) -> Tensor:
        return self.latent + 1

    def eval(self) -> "Known":
        return self

    def features(self, state: LSTMState) -> Tensor:
        return state.h

    def step(self, state: LSTMState, latent: Tensor, action: Tensor) -> tuple[LSTMState, "Known"]:
        self.latent = latent
        value = latent[:, 0]
        self.outcome = EnsembleOutcome(10 * value + action[:, 0], value / 5)
        return LSTMState(state.h + 1, state.c), self


def test_a_dreamed_return_weighs_rewards_by_the_chance_to_be_there(unchecked: None) -> None:
    dream = DreamModel(vae(), Known())  # type: ignore[arg-type]
    latent = torch.tensor([[1.0, 0, 0], [3.0, 0, 0]])
    zeros = torch.zeros(2, 1)
    starts = DreamState(latent, LSTMState(zeros, zeros), torch.tensor([1.0, 1.0]))
    seen = []

    def act(features: Tensor) -> Tensor:
        seen.append(features[:, -1].tolist())
        return torch.full((2, 1), 0.5)

    returns = dreamed_returns(dream, starts, act, 3, draw(0))
    torch.testing.assert_close(returns[0], torch.tensor([10.5, 30.5]))
    # The reward of the step that ends an episode still counts.
    first = 10.5 + 0.8 * 20.5 + 0.8 * 0.6 * 30.5
    second = 30.5 + 0.4 * 40.5 + 0.4 * 0.2 * 50.5
    torch.testing.assert_close(returns[-1], torch.tensor([first, second]))
    assert seen == [[0, 0], [1, 1], [2, 2]]
    half = starts._replace(weight=torch.tensor([0.5, 1.0]))
    torch.testing.assert_close(
        dreamed_returns(dream, half, act, 3, draw(0))[-1], torch.tensor([first / 2, second])
    )


def test_rows_repeat_dreams() -> None:
    memory = mdnrnn()
    state = DreamState(torch.arange(6.0).reshape(2, 3), memory.initial(2), torch.tensor([1.0, 0.5]))
    picked = state.rows(torch.tensor([1, 0, 1]))
    assert picked.weight.tolist() == [0.5, 1.0, 0.5]
    assert torch.equal(picked.latent[2], state.latent[1]) and picked.memory.h.shape == (3, 5)
