from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch

import worldmodels
from tests.fixtures.tiny_models import mdnrnn, vae
from tests.fixtures.tiny_run import (
    NUM_EPISODES,
    NUM_STATES,
    actions_of,
    find_state,
    real_features,
    tiny_run,
    write_memory,
    write_vision,
)
from worldmodels.dream.env import DreamEnv
from worldmodels.errors import UserError
from worldmodels.memory import EnsemblePrediction
from worldmodels.runs.checkpoint import load_checkpoint, save_checkpoint
from worldmodels.runs.run import Run

ID = "worldmodels/Dream-v0"


def test_dreams_end_as_often_as_memory_says(terminating_run: Run) -> None:
    dreams = worldmodels.make_dream(terminating_run, 2000)
    dreams.reset(seed=0)
    _, _, ended, cut, _ = dreams.step(dreams.action_space.sample())
    assert ended.mean() == pytest.approx(0.3, abs=4 * np.sqrt(0.3 * 0.7 / 2000))
    assert not cut.any()


@pytest.mark.parametrize(("end_logit", "agent_steps"), [(30.0, 1), (-30.0, 7)])
def test_dreams_end_by_the_end_head_or_at_the_horizon(
    tmp_path: Path, end_logit: float, agent_steps: int
) -> None:
    env = gymnasium.make(ID, run=tiny_run(tmp_path, end_logit=end_logit).folder, horizon=7)
    env.reset(seed=0)
    ends: list[bool] = []
    while not any(ends[-1:]):
        *_, terminated, truncated, _ = env.step(env.action_space.sample())
        ends.append(terminated or truncated)
    assert len(ends) == agent_steps
    assert (terminated, truncated) == (agent_steps == 1, agent_steps == 7)


def test_dreams_end_where_they_leave_what_memory_knows(run: Run) -> None:
    hot = worldmodels.make_dream(run, 50, temperature=1e6)
    hot.reset(seed=0)
    observations, _, ended, _, _ = hot.step(hot.action_space.sample())
    # Latents far beyond what V ever encoded; codes have nowhere to go.
    assert ended.all() if "vae" in str(run) else not ended.any()
    assert hot.observation_space.contains(observations)


def test_the_noise_of_a_latent_that_vision_leaves_unused_ends_no_dream(tmp_path: Path) -> None:
    run, vision, memory = tiny_run(tmp_path), vae(), mdnrnn()
    with torch.no_grad():
        vision.to_mean.weight[2] = vision.to_mean.bias[2] = 0.0
        vision.to_logvar.weight[2] = vision.to_logvar.bias[2] = 0.0
        spread = memory.mixture.bias.view(3, 3, -1)[2]
        memory.mixture.weight.zero_(), memory.mixture.bias.zero_()
        spread[:2], memory.outcome.linear.bias[-1] = -3.0, -30.0
    write_vision(run, vision, round_=2)
    write_memory(run, memory, round_=2)
    dreams = worldmodels.make_dream(run, 300)
    observations, _ = dreams.reset(seed=0)
    assert (observations[:, 2] == 0).all()
    for actions in actions_of(dreams, 5):
        assert not dreams.step(actions)[2].any()
    support = dreams.dreams.world.support
    unused = torch.zeros(3, 3)
    unused[:, 2] = torch.tensor([0.0, 4.9, -5.1])
    prediction = memory.predict(torch.zeros(3, 5), unused)
    out_of_support = support.clamp(unused, prediction)[1]
    assert out_of_support.tolist() == [False, False, True]


def test_dreams_end_where_members_disagree_more_than_on_real_agent_steps(tmp_path: Path) -> None:
    dreams = worldmodels.make_dream(tiny_run(tmp_path, ensemble_size=3), 500, temperature=0.0)
    assert dreams.single_observation_space.shape == (3 + 5,)  # of one member, as C sees it
    observations, _ = dreams.reset(seed=0)
    known = dreams.dreams.world.support.most_disagreement
    ends: list[np.ndarray] = []
    for actions in actions_of(dreams, 3):
        before = dreams.dreams.state
        with torch.no_grad():
            memory = dreams.dreams.world.memory
            _, prediction = memory.step(before.memory, before.latent, torch.from_numpy(actions))
        going = ~np.any(ends[-1:], axis=0) if ends else np.ones(500, bool)
        observations, _, ended, _, _ = dreams.step(actions)
        assert isinstance(prediction, EnsemblePrediction)
        disagrees = prediction.disagreement().numpy() > known
        assert ended[going & disagrees].all()
        ends.append(ended)
        assert dreams.observation_space.contains(observations)
    assert 0 < np.mean(ends) < 1


def test_real_starts_are_all_agent_steps_with_memory_run_up(run: Run) -> None:
    rows = real_features(run)
    assert len(rows) == NUM_STATES
    observations, _ = worldmodels.make_dream(run, 300).reset(seed=0)
    assert {find_state(rows, row) for row in observations} == rows.keys()


def test_reset_starts_are_first_frames_with_nothing_remembered(run: Run) -> None:
    rows = real_features(run)
    observations, _ = worldmodels.make_dream(run, 100, start="reset").reset(seed=0)
    places = {find_state(rows, row) for row in observations}
    assert len(places) == NUM_EPISODES and {at and at[1] for at in places} == {0}
    assert (observations[:, -5:] == 0).all()


@pytest.mark.parametrize(
    ("settings", "output"),
    [
        ({"num_envs": 0}, "expected at least 1 dream, got 0"),
        ({"start": "middle"}, 'start must be one of real, reset, got "middle"'),
        ({"horizon": 0}, "horizon must be at least 1, got 0"),
        ({"temperature": -0.1}, "expected a finite temperature of at least 0, got -0.1"),
        ({"temperature": float("nan")}, "expected a finite temperature of at least 0, got nan"),
        ({"render_mode": "human"}, 'render_mode must be None or "rgb_array", got "human"'),
        ({"device": "tpu"}, 'expected a device among auto, .*cpu, got "tpu"'),
    ],
)
def test_settings_that_make_no_sense_are_refused_in_a_line(
    run: Run, settings: dict[str, Any], output: str
) -> None:
    with pytest.raises(UserError, match=output):
        worldmodels.make_dream(run, **settings)
    if "num_envs" not in settings:
        with pytest.raises(UserError, match=output):
            DreamEnv(run, **settings)


def test_a_run_that_cannot_dream_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r'no run in .*a: run "wm collect --run .*a" first'):
        worldmodels.make_dream(tmp_path / "a")
    run = tiny_run(tmp_path / "a")
    write_vision(run, vae(seed=1), round_=2)
    with pytest.raises(UserError, match=r'another V .*: run "wm train-memory --run .*a" again'):
        worldmodels.make_dream(run)
    for stage in ("memory", "vision"):
        run.weights(stage).unlink()
        with pytest.raises(UserError, match=f'{stage}.safetensors: run "wm train-{stage} --run'):
            worldmodels.make_dream(run)


def test_an_old_memory_is_to_be_trained_again(tmp_path: Path) -> None:
    run = tiny_run(tmp_path)
    path = run.weights("memory")
    saved = load_checkpoint(path, hint="none")
    config = saved.metadata["memory"]["config"]
    config["num_hiding"] = config.pop("num_hidden")
    save_checkpoint(path, saved.tensors, saved.metadata)
    with pytest.raises(UserError, match=r"this version expects .*num_hiding.*: train M again"):
        worldmodels.make_dream(run)


def test_envs_of_one_run_share_its_world_until_it_is_trained_anew(tmp_path: Path) -> None:
    run = tiny_run(tmp_path)
    one, other = worldmodels.make_dream(str(run), 2, start="reset"), DreamEnv(run.folder)
    assert one.dreams.world is other.dreams.world
    write_memory(run, mdnrnn(seed=5), round_=2)
    new = DreamEnv(run)
    expected = mdnrnn(seed=5).state_dict()
    assert all(torch.equal(new.dreams.world.memory.state_dict()[k], v) for k, v in expected.items())
    assert one.dreams.world is other.dreams.world is not new.dreams.world
