from pathlib import Path

import pytest
import torch

from tests.fixtures.tiny_models import codernn, rollout, vqvae
from worldmodels.data.sequences import SequenceBatch
from worldmodels.data.store import EpisodeStore
from worldmodels.errors import UserError
from worldmodels.prior.pixelcnn import CodePrior, PriorConfig, PriorSettings
from worldmodels.prior.surprise import Surprise
from worldmodels.progress import Report
from worldmodels.stages.surprise import (
    SurpriseConfig,
    choose_starts,
    curve_figures,
    dream_codes,
)
from worldmodels.stages.train_prior import PriorStageConfig, encode_codes, new_prior
from worldmodels.vision.batched import encode_frames

LENGTHS = (9, 4, 12)


@pytest.fixture(scope="module")
def surprise() -> Surprise:
    vision = vqvae("fsq")
    torch.manual_seed(1)
    sizes = vision.config.digit_sizes
    return Surprise(vision, CodePrior(PriorConfig(16, sizes, num_channels=4, num_layers=1)))


@pytest.fixture(scope="module")
def sequences() -> SequenceBatch:
    """Make three episodes of different lengths, with random padding that a test would notice."""
    generator = torch.Generator().manual_seed(0)
    mask = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]
    return SequenceBatch(
        posteriors=torch.randint(12, (3, max(LENGTHS) + 1, 16), generator=generator),
        actions=torch.rand(3, max(LENGTHS), 3, generator=generator),
        rewards=torch.zeros(mask.shape),
        terminated=torch.zeros(mask.shape, dtype=torch.bool),
        mask=mask,
    )


def test_codes_are_those_of_every_strideth_frame_or_of_fewer(tmp_path: Path) -> None:
    vision = vqvae("fsq")
    store = EpisodeStore(tmp_path)
    for index, steps in enumerate((9, 4)):
        store.add(index, rollout(steps, seed=index))
    frames = [episode.load().frames for episode in store]
    quiet = Report(quiet=True)
    codes = encode_codes(vision, store.episodes, 2, 100, quiet)
    expected = torch.cat([encode_frames(vision, part[::2]) for part in frames])
    assert codes.dtype == torch.uint8  # twelve values: a byte per code, not eight
    assert torch.equal(codes.long(), expected) and len(codes) == 5 + 3
    fewer = encode_codes(vision, store.episodes, 2, 5, quiet).long()
    assert torch.equal(fewer, torch.cat([encode_frames(vision, part[::4]) for part in frames]))
    assert len(fewer) <= 5


def test_starts_leave_room_for_a_whole_dream_and_reach_every_place(
    sequences: SequenceBatch,
) -> None:
    config = SurpriseConfig(starts=400, horizon=8)
    rows, steps = choose_starts(sequences, config)
    found = set(zip(rows.tolist(), steps.tolist(), strict=True))
    # Eight agent steps fit into nine from two places, into twelve from five, into four nowhere.
    assert found == {(0, 0), (0, 1), *((2, step) for step in range(5))}
    again, _ = choose_starts(sequences, config)
    assert torch.equal(rows, again)
    with pytest.raises(UserError, match="has 12 agent steps, expected at least 13: shorten"):
        choose_starts(sequences, SurpriseConfig(horizon=13))


@torch.no_grad()
def test_a_dream_starts_with_its_own_past_and_takes_its_own_actions(
    surprise: Surprise, sequences: SequenceBatch
) -> None:
    memory = codernn(
        code_vectors=surprise.vision.code_vectors, num_codes=16, digit_sizes=(4, 3)
    ).eval()
    config = SurpriseConfig(starts=3, horizon=3, temperature=0.0)
    rows, steps = torch.tensor([2, 0, 2]), torch.tensor([7, 6, 0])
    dreamed = dream_codes(surprise, memory, sequences, rows, steps, config)
    assert dreamed.shape == (3, 3, 16)
    for number, (row, step) in enumerate(zip(rows.tolist(), steps.tolist(), strict=True)):
        codes, actions = sequences.posteriors[row], sequences.actions[row]
        state = memory.initial(1)
        for past in range(step):
            state = memory.advance(state, codes[past][None], actions[past][None])
        now = codes[step][None]
        for agent_step in range(3):
            state, prediction = memory.step(state, now, actions[step + agent_step][None])
            now = prediction.sample(0.0)
            assert torch.equal(dreamed[number, agent_step], now[0])


def test_standard_errors_over_starts_are_the_samples() -> None:
    nats = {"dreamed": torch.tensor([[1.0, 5.0], [3.0, 5.0]])}
    rows = curve_figures(nats)["history"]
    assert [row["dreamed"] for row in rows] == [2.0, 5.0]
    # A sample standard deviation of sqrt(2) over two starts.
    assert [row["dreamed_error"] for row in rows] == pytest.approx([1.0, 0.0])
    alone = curve_figures({"dreamed": nats["dreamed"][:1]})["history"]
    assert [row["dreamed_error"] for row in alone] == [None, None]


def test_the_prior_is_made_for_vs_codes() -> None:
    vision = vqvae("vq", grid=8)
    model = new_prior(PriorSettings(num_channels=8, num_layers=2), vision).config
    assert (model.num_codes, model.digit_sizes, model.num_values) == (64, (6,), 6)
    assert PriorStageConfig().with_steps(7).fit.num_steps == 7
    assert PriorStageConfig().with_steps(None) == PriorStageConfig()
