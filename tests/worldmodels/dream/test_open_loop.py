from collections.abc import Sequence

import numpy as np
import pytest
import torch

from tests.fixtures.tiny_models import codernn, frames, mdnrnn, vae, vqvae
from worldmodels.data.sequences import SequenceBatch
from worldmodels.dream.model import DreamModel
from worldmodels.dream.open_loop import OpenLoop, open_loop
from worldmodels.dream.rollout import replay, roll_out
from worldmodels.dream.starts import real_states, spread_starts, states_at
from worldmodels.memory import MDNRNN, CodeRNN
from worldmodels.memory.metrics import (
    area_under_roc,
    held_out_metrics,
    r_squared,
    score_memory,
)
from worldmodels.vision import VAE, VQVAE, Vision

KINDS = pytest.mark.parametrize("kind", ["vae", "fsq"])


def models(kind: str) -> tuple[VAE | VQVAE, MDNRNN | CodeRNN]:
    if kind == "vae":
        return vae().eval(), mdnrnn(predict_change=True).eval()
    vision = vqvae("fsq").eval()
    sizes, vector = vision.config.digit_sizes, vision.config.vector_size
    memory = codernn(
        code_vectors=vision.code_vectors, num_codes=16, digit_sizes=sizes, vector_size=vector
    )
    return vision, memory.eval()


def episodes(
    vision: Vision, lengths: Sequence[int] = (7, 4, 9)
) -> tuple[list[np.ndarray], SequenceBatch]:
    """Make episodes of random pictures; return their frames, and the same episodes encoded."""
    pictures = [frames(length + 1, seed=length) for length in lengths]
    longest = max(lengths)
    posteriors = [vision.encode(torch.from_numpy(picture)).detach() for picture in pictures]
    padded = torch.stack(
        [torch.cat([p, p[-1:].expand(longest + 1 - len(p), -1)]) for p in posteriors]
    )
    generator = torch.Generator().manual_seed(0)
    shape = len(lengths), longest
    mask = torch.arange(longest) < torch.tensor(lengths)[:, None]
    return pictures, SequenceBatch(
        padded,
        torch.rand(*shape, 3, generator=generator),
        torch.randn(*shape, generator=generator),
        torch.zeros(shape, dtype=torch.bool),
        mask,
    )


def test_starts_are_spread_over_all_moments_that_leave_room_and_have_a_past() -> None:
    _, sequences = episodes(vae())
    rows, steps = spread_starts(sequences, 3, 100)
    pairs = list(zip(rows.tolist(), steps.tolist(), strict=True))
    assert pairs == [(0, s) for s in (1, 2, 3, 4)] + [(1, 1)] + [(2, s) for s in range(1, 7)]
    few = spread_starts(sequences, 3, 3)
    assert [(int(r), int(s)) for r, s in zip(*few, strict=True)] == [pairs[0], pairs[5], pairs[-1]]
    with pytest.raises(
        ValueError, match="expected an episode of more than 9 agent steps, but the longest has 9"
    ):
        spread_starts(sequences, 9, 3)


@KINDS
def test_moments_are_those_of_the_starts(kind: str) -> None:
    vision, memory = models(kind)
    _, sequences = episodes(vision)
    rows, steps = torch.tensor([0, 2, 1]), torch.tensor([3, 5, 1])
    states = states_at(vision, memory, sequences, rows, steps)
    for place, (row, step) in enumerate(zip(rows, steps, strict=True)):
        alone = real_states(vision, memory, sequences[slice(int(row), int(row) + 1)])
        assert torch.equal(states.latent[place], alone.latent[step])
        torch.testing.assert_close(states.memory.h[place], alone.memory.h[step])


@KINDS
def test_dreaming_on_is_stepping(kind: str) -> None:
    vision, memory = models(kind)
    _, sequences = episodes(vision)
    starts = real_states(vision, memory, sequences).rows(torch.tensor([2, 5]))
    actions = torch.rand(2, 4, 3)
    dream = DreamModel(vision, memory, temperature=0.0)
    state, expected = starts, []
    for agent_step in range(4):
        state, _ = dream.step(state, actions[:, agent_step])
        expected.append(state.latent)
    assert torch.equal(roll_out(dream, starts, actions), torch.stack(expected))


@KINDS
def test_a_replay_begins_with_the_real_latents_and_takes_the_real_actions(kind: str) -> None:
    vision, memory = models(kind)
    _, sequences = episodes(vision)
    dream, rows, steps = DreamModel(vision, memory), torch.tensor([2, 0]), torch.tensor([3, 1])
    latents = replay(dream, sequences, rows, steps, 4, seed=5)
    starts = states_at(vision, memory, sequences, rows, steps)
    assert torch.equal(latents[0], starts.latent)
    actions = torch.stack([sequences.actions[2, 3:7], sequences.actions[0, 1:5]])
    assert torch.equal(latents[1:], roll_out(dream, starts, actions, seed=5))


@KINDS
def test_curves_are_the_errors_counted_by_hand(kind: str) -> None:
    vision, memory = models(kind)
    pictures, sequences = episodes(vision)
    dream = DreamModel(vision, memory)
    curves = open_loop(dream, sequences, pictures, horizon=3, num_starts=4, num_samples=2)
    rows, steps = spread_starts(sequences, 3, 4)
    for agent_step in (1, 3):
        frozen: list[float] = []
        reconstruction: list[float] = []
        for row, step in zip(rows.tolist(), steps.tolist(), strict=True):
            real = pictures[row][step + agent_step] / 255.0
            for errors, place in ((frozen, step), (reconstruction, step + agent_step)):
                latent = vision.mode(sequences.posteriors[row, place][None])
                errors.append(np.square(vision.decode(latent)[0].numpy() / 255.0 - real).sum())
        assert curves.persistence[agent_step - 1] == pytest.approx(np.mean(frozen), rel=1e-4)
        assert curves.reconstruction[agent_step - 1] == pytest.approx(
            np.mean(reconstruction), rel=1e-4
        )
    assert len(curves.predicted) == 3 and min(curves.predicted) > 0


def test_an_m_that_knows_the_future_dreams_at_vs_own_error() -> None:
    vision, memory = models("vae")
    pictures, sequences = episodes(vision)
    sequences = SequenceBatch(
        sequences.posteriors[:, :1].expand(-1, sequences.posteriors.shape[1], -1).contiguous(),
        *(getattr(sequences, name) for name in ("actions", "rewards", "terminated", "mask")),
    )
    assert isinstance(memory, MDNRNN)
    for name, weight in memory.mixture.named_parameters():
        torch.nn.init.zeros_(weight)
        if name == "bias":  # means of no change, hardly any spread
            weight.data.view(3, -1)[2] = -7.0
    still = [np.repeat(picture[:1], len(picture), 0) for picture in pictures]
    dream = DreamModel(vision, memory)
    curves = open_loop(dream, sequences, still, horizon=2, num_samples=1)
    assert curves.predicted == pytest.approx(curves.reconstruction, rel=1e-2)
    assert curves.persistence == pytest.approx(curves.reconstruction)


def test_below_frozen_counts_from_the_first_agent_step_on() -> None:
    assert OpenLoop([1, 2, 9, 1], [3, 3, 3, 3], [0] * 4).steps_below_persistence == 2
    assert OpenLoop([9, 1], [3, 3], [0, 0]).steps_below_persistence == 0
    assert OpenLoop([1, 1], [3, 3], [0, 0]).steps_below_persistence == 2


@KINDS
def test_singles_are_the_real_agent_steps_without_their_past(kind: str) -> None:
    vision, _ = models(kind)
    _, sequences = episodes(vision)
    single_steps = sequences.single_steps()
    assert (
        len(single_steps) == 20 and single_steps.mask.all() and single_steps.mask.shape == (20, 1)
    )
    assert torch.equal(single_steps.posteriors[7 + 2, 0], sequences.posteriors[1, 2])
    assert torch.equal(single_steps.posteriors[7 + 2, 1], sequences.posteriors[1, 3])
    assert torch.equal(single_steps.actions[7 + 4, 0], sequences.actions[2, 0])
    assert torch.equal(single_steps.rewards[:, 0], sequences.rewards[sequences.mask])


@KINDS
def test_held_out_metrics_weigh_every_agent_step_alike(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    vision, memory = models(kind)
    _, sequences = episodes(vision)
    monkeypatch.setattr("worldmodels.memory.metrics.SCORE_STEPS", 18)
    torch.nn.init.normal_(memory.outcome.linear.weight)
    in_parts = held_out_metrics(memory, sequences)
    assert in_parts["loss"] == pytest.approx(
        in_parts["nll"] + in_parts["reward_nll"] + in_parts["end_nll"], rel=1e-5
    )
    monkeypatch.setattr("worldmodels.memory.metrics.SCORE_STEPS", 4_000)
    whole = held_out_metrics(memory, sequences)
    tolerance = 1e-4 if kind == "fsq" else 0.3  # latents of a VAE are drawn anew
    assert in_parts["nll"] == pytest.approx(whole["nll"], rel=tolerance)
    assert in_parts["reward_error"] == pytest.approx(whole["reward_error"], rel=tolerance)


@KINDS
def test_scores_are_of_the_held_out_agent_steps(kind: str) -> None:
    vision, memory = models(kind)
    _, sequences = episodes(vision)
    scores = score_memory(vision, memory, sequences, sequences)
    assert scores["held_out_agent_steps"] == 20 and scores["end_auc"] is None
    tolerance = 1e-4 if kind == "fsq" else 0.3
    assert scores["nll"] == pytest.approx(held_out_metrics(memory, sequences)["nll"], rel=tolerance)
    assert scores["bits_per_frame"] == pytest.approx(scores["nll"] / np.log(2))
    assert scores["reward_r2"] <= 0.05  # rewards are noise, and it has learned nothing


def test_the_area_under_the_curve_counts_pairs_and_halves_ties() -> None:
    scores = torch.tensor([3.0, 1.0, 2.0, 2.0, 0.0])
    happened = torch.tensor([True, False, True, False, False])
    # 3 above 1, 2, 0; 2 above 1 and 0, level with 2.
    assert area_under_roc(scores, happened) == pytest.approx(5.5 / 6)
    assert area_under_roc(scores, torch.zeros(5, dtype=torch.bool)) is None


def test_r2_is_the_explained_variance_and_undefined_for_equal_rewards() -> None:
    rewards = torch.tensor([0.0, 1.0, 2.0, 3.0])
    assert r_squared(rewards, rewards) == 1.0
    assert r_squared(rewards.mean().expand(4), rewards) == pytest.approx(0.0)
    assert r_squared(torch.full((4,), -1.001), torch.full((4,), -1.0)) is None
    assert r_squared(torch.ones(4), torch.zeros(4)) is None
