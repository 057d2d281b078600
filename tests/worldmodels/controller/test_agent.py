import json
import pickle
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from agents.controller import apply_action_map, control
from agents.exploration import NoisyPolicy
from envs.actions import ActionMap
from envs.views import PAPER_VIEW
from tests.fixtures.tiny_models import agent, frames
from worldmodels.controller.agent import Agent, AgentFactory, AgentSpec, load_agent, save_agent
from worldmodels.errors import UserError
from worldmodels.runs.checkpoint import save_checkpoint

KINDS = pytest.mark.parametrize("kind", ["vae", "vq", "fsq"])


def films(num_envs: int, num_steps: int = 6, size: tuple[int, int] = (64, 64)) -> np.ndarray:
    """Make random frames of episodes, (num_steps, num_envs, H, W, 3)."""
    return frames(num_envs * num_steps, seed=9, size=size).reshape(num_steps, num_envs, *size, 3)


def play(
    policy: Agent, frames_over_time: np.ndarray, resets: Any = (), seed: int = 0
) -> np.ndarray:
    """Return the actions (steps, envs, ...); `resets` maps the number of a step to a reset mask."""
    policy.reset(frames_over_time.shape[1], seed)
    return np.stack(
        [policy.act(seen, dict(resets).get(i)) for i, seen in enumerate(frames_over_time)]
    )


@KINDS
@pytest.mark.parametrize("inputs", ["zh", "z"])
@pytest.mark.parametrize("repeat", [1, 3])
def test_act_is_the_loop_one_would_write_by_hand(kind: str, inputs: str, repeat: int) -> None:
    whole = agent(kind, action_repeat=repeat, inputs=inputs)
    frames_over_time = films(1, 8)
    expected = []
    state = whole.memory.initial(1)
    with torch.no_grad():
        for step, seen in enumerate(frames_over_time):
            if step % repeat == 0:
                latent = whole.vision.mode(whole.vision.encode(torch.from_numpy(seen)))
                features = whole.vision.features(latent)
                if inputs == "zh":
                    features = torch.cat([features, state.h], -1)
                outputs = control(whole.controller, whole.parameters, features[None])[0]
                action = apply_action_map(whole.spec.action_map, outputs)
                state = whole.memory.advance(state, latent, action)
            expected.append(action.numpy())
    actions = play(whole, frames_over_time)
    np.testing.assert_allclose(actions, np.stack(expected), atol=1e-6)
    assert actions.dtype == np.float32
    decided = actions[::repeat]
    assert len(np.unique(decided, axis=0)) == len(decided)  # each depends on the frame


@KINDS
@pytest.mark.parametrize("sample_latent", [False, True])
def test_a_reset_starts_one_env_afresh_and_leaves_the_other_bit_equal(
    kind: str, sample_latent: bool
) -> None:
    whole = agent(kind, sample_latent=sample_latent)
    frames_over_time = films(2, 7)
    undisturbed = play(whole, frames_over_time)
    mask = np.array([True, False])
    disturbed = play(whole, frames_over_time, {3: mask})  # in the middle of an agent step
    assert np.array_equal(disturbed[:, 1], undisturbed[:, 1])
    assert np.array_equal(disturbed[:3], undisturbed[:3])
    assert not np.array_equal(disturbed[3:, 0], undisturbed[3:, 0])
    if not sample_latent:
        np.testing.assert_allclose(
            disturbed[3:, 0], play(whole, frames_over_time[3:])[:, 0], atol=1e-6
        )


@KINDS
def test_a_batch_of_controllers_is_as_many_agents(kind: str) -> None:
    whole = agent(kind, num_candidates=3, hidden=4)
    frames_over_time = films(3)
    together = play(whole, frames_over_time)
    for row in range(3):
        one = Agent(
            whole.vision, whole.memory, whole.controller, whole.parameters[[row]], whole.spec
        )
        alone = play(one, frames_over_time[:, [row]])
        np.testing.assert_allclose(together[:, row], alone[:, 0], atol=1e-6)
    assert not np.allclose(together[:, 0], together[:, 1])


@KINDS
def test_memory_follows_the_action_that_a_noisy_policy_executed(kind: str) -> None:
    whole = agent(kind)
    noisy = NoisyPolicy(whole, 0.5)
    frames_over_time = films(1, 6)
    noisy.reset(1, seed=4)
    state, previous = whole.memory.initial(1), None
    for step, seen in enumerate(frames_over_time):
        executed = noisy.act(seen)
        if step % 2 == 0:
            if previous is not None:
                with torch.no_grad():
                    state = whole.memory.advance(state, *previous)
            torch.testing.assert_close(whole.memory_state.h, state.h, atol=1e-6, rtol=0)
            previous = (whole.latent.clone(), torch.from_numpy(executed))
        torch.testing.assert_close(whole.last_action, torch.from_numpy(executed))
    followed = whole.memory_state.h
    play(whole, frames_over_time)
    assert not torch.allclose(whole.memory_state.h, followed, atol=1e-3)


def test_a_sampled_latent_is_drawn_anew_at_each_agent_step_and_repeats_with_the_seed() -> None:
    whole = agent(sample_latent=True, action_repeat=1, inputs="z")
    still = films(2, 1).repeat(5, 0)
    still[:, 1] = still[:, 0]
    actions = play(whole, still, seed=1)
    assert len(np.unique(actions.reshape(10, -1), axis=0)) == 10
    assert np.array_equal(actions, play(whole, still, seed=1))
    assert not np.array_equal(actions, play(whole, still, seed=2))
    # The same draws with one env as with two; a batch of another size rounds another way.
    alone = play(whole, still[:, :1], seed=1)[:, 0]
    np.testing.assert_allclose(actions[:, 0], alone, atol=1e-5)


def test_stock_frames_and_frames_of_the_view_give_the_same_actions() -> None:
    whole = agent()
    stock = films(2, 4, size=(96, 96))
    seen = whole.spec.view(stock)
    assert seen.shape == (4, 2, 64, 64, 3)
    assert np.array_equal(play(whole, stock), play(whole, seen))
    below = stock.copy()
    below[:, :, 84:] = 0  # the view leaves out the indicators
    assert np.array_equal(play(whole, below), play(whole, seen))


def test_frames_of_another_env_are_refused_in_a_line() -> None:
    whole = agent(view=PAPER_VIEW)
    whole.reset(2)
    message = r"of Tiny-v0 .*make_env.*: expected frames of 96x96 pixels, .*64x64.*, got 400x600"
    with pytest.raises(UserError, match=message):
        whole.act(films(2, 1, size=(400, 600))[0])
    for size in ((96, 96), (64, 64)):
        assert whole.act(films(2, 1, size=size)[0]).shape == (2, 3)


@pytest.mark.parametrize("start", [0, 1])
def test_discrete_actions_are_those_of_the_env_and_m_sees_them_one_hot(start: int) -> None:
    space = spaces.Discrete(3, start=start)
    action_map = ActionMap.for_space(space)
    assert action_map.space == space
    whole = agent(action_map=action_map, action_repeat=1)
    actions = play(whole, films(4, 12))
    assert actions.dtype == np.int64 and set(actions.flatten()) == {start, start + 1, start + 2}
    assert torch.equal(whole.last_action.argmax(-1) + start, torch.from_numpy(actions[-1]))
    assert torch.equal(whole.last_action.sum(-1), torch.ones(4))


def test_a_box_space_has_the_bounds_of_its_map() -> None:
    space = spaces.Box(np.array([-1, 0, 0], np.float32), np.array([1, 1, 1], np.float32))
    assert agent().spec.action_map.space == space
    assert ActionMap.for_space(space).space == space


@KINDS
def test_a_saved_agent_acts_alike_and_says_where_it_comes_from(tmp_path: Path, kind: str) -> None:
    whole = agent(kind, hidden=3, sample_latent=True)
    file = tmp_path / "controller" / "agent.safetensors"
    save_agent(file, whole, {"preset": "demo", "seed": 3})
    frames_over_time = films(2)
    expected = play(whole, frames_over_time)
    for path in (file, str(file), tmp_path):
        loaded = load_agent(path)
        assert np.array_equal(play(loaded, frames_over_time), expected)
        assert loaded.spec == whole.spec and loaded.metadata == {"preset": "demo", "seed": 3}
        assert loaded.action_repeat == 2 and loaded.name == "agent"


def test_a_factory_pickles_small_and_puts_other_controllers_in(tmp_path: Path) -> None:
    whole = agent(num_candidates=2)
    file = tmp_path / "a.safetensors"
    save_agent(file, whole, {})
    other = whole.parameters.numpy() + 1.0
    frames_over_time = films(2)
    for parameters in (None, other):
        factory = AgentFactory(file, parameters)
        assert len(pickle.dumps(factory)) < 2_000
        expected = whole if parameters is None else agent(num_candidates=2)
        if parameters is not None:
            expected.parameters = torch.from_numpy(other)
        assert np.array_equal(
            play(pickle.loads(pickle.dumps(factory))(), frames_over_time),
            play(expected, frames_over_time),
        )
    # The networks are cached, but not those of a file that has been written again since.
    changed = agent(num_candidates=2, seed=1)
    save_agent(file, changed, {})
    assert np.array_equal(
        play(AgentFactory(file)(), frames_over_time), play(changed, frames_over_time)
    )


def test_a_body_survives_json() -> None:
    spec = replace(agent().spec, inputs="z", sample_latent=True)
    assert AgentSpec.from_dict(json.loads(json.dumps(asdict(spec)))) == spec


def test_what_is_no_agent_is_named_with_what_helps(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r'no file .*agent\.safetensors: run "wm train-controller'):
        load_agent(tmp_path)
    with pytest.raises(UserError, match=r"no file .*none\.safetensors: name a run's folder, an"):
        load_agent(tmp_path / "none.safetensors")
    file = tmp_path / "v.safetensors"
    save_checkpoint(file, {"w": torch.ones(1)}, {"vision": {}})
    with pytest.raises(UserError, match=r"v\.safetensors is not what this version expects"):
        load_agent(file)
