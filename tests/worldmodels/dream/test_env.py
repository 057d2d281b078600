import copy
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.error import ClosedEnvironmentError, ResetNeeded
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.wrappers.vector import RecordEpisodeStatistics

import worldmodels
from tests.fixtures.tiny_run import actions_of, find_state, real_features
from worldmodels.dream.env import DreamEnv, DreamVectorEnv
from worldmodels.errors import UserError
from worldmodels.runs.run import Run

ID = "worldmodels/Dream-v0"
FRAMES = pytest.mark.parametrize("render_frames", [False, True])


def play(
    env: gymnasium.Env[Any, Any] | VectorEnv[Any, Any, Any], steps: int, seed: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the observations (steps + 1, ...) and rewards (steps, ...) of one or many dreams."""
    seen = [env.reset(seed=seed)[0]]
    rewards: list[Any] = []
    for action in actions_of(env, steps):
        observation, reward, *_ = env.step(action)
        seen.append(observation)
        rewards.append(reward)
    return np.stack(seen), np.stack(rewards)


@FRAMES
@pytest.mark.filterwarnings("error")
def test_gymnasium_finds_nothing_wrong_with_the_single_dream(
    run: Run, terminating_run: Run, render_frames: bool
) -> None:
    for folder in (run.folder, terminating_run.folder):
        env = gymnasium.make(
            ID, run=str(folder), render_mode="rgb_array", render_frames=render_frames
        )
        check_env(env.unwrapped)
        env.close()


def test_spaces_are_those_of_the_env_and_of_what_c_sees(run: Run) -> None:
    env = DreamEnv(run)
    assert isinstance(env.observation_space, gymnasium.spaces.Box)
    if "vae" in str(run):
        box = gymnasium.spaces.Box(
            np.array([-1, 0, 0], np.float32), np.array([1, 1, 1], np.float32)
        )
        assert env.action_space == box
        assert env.observation_space.shape == (3 + 5,)
    else:
        assert env.action_space == gymnasium.spaces.Discrete(3, start=1)
        assert env.observation_space.shape == (16 * 2 + 5,)
    assert np.isfinite(env.observation_space.low).all()
    assert (env.observation_space.high[-5:] == 1).all()  # h is a tanh
    assert env.metadata["render_fps"] == (25 if "vae" in str(run) else 5)


@FRAMES
def test_what_comes_out_of_a_vector_is_in_its_spaces(
    run: Run, terminating_run: Run, render_frames: bool
) -> None:
    for each in (run, terminating_run):
        dreams = worldmodels.make_dream(each, 5, 1.5, horizon=4, render_frames=render_frames)
        observations, info = dreams.reset(seed=0)
        assert info == {} and dreams.observation_space.contains(observations)
        shape = dreams.single_observation_space.shape
        assert shape is not None and dreams.observation_space.shape == (5, *shape)
        for actions in actions_of(dreams, 12):
            assert dreams.action_space.contains(actions)
            observations, rewards, ended, cut, info = dreams.step(actions)
            assert dreams.observation_space.contains(observations)
            assert rewards.dtype == np.float64 and ended.dtype == cut.dtype == np.bool_
            assert rewards.shape == ended.shape == cut.shape == (5,)
            assert not (ended & cut).any() and info == {}
        dreams.close()


def test_gymnasiums_own_constructors_make_the_same_vector(run: Run) -> None:
    made = gymnasium.make_vec(ID, num_envs=3, run=run.folder, horizon=5)
    assert made.spec is not None and made.spec.id == ID
    assert made.metadata["autoreset_mode"] == AutoresetMode.NEXT_STEP
    ours = worldmodels.make_dream(run.folder, num_envs=3, horizon=5)
    for one, other in zip(play(made, 8, seed=3), play(ours, 8, seed=3), strict=True):
        assert np.array_equal(one, other)
    repeated = gymnasium.make_vec(ID, num_envs=2, vectorization_mode="sync", run=run.folder)
    alone = DreamEnv(run.folder)
    actions = actions_of(repeated, 3)
    seen = [repeated.reset(seed=7)[0][0], *(repeated.step(action)[0][0] for action in actions)]
    expected = [alone.reset(seed=7)[0], *(alone.step(action[0])[0] for action in actions)]
    assert np.array_equal(seen, expected)


@pytest.mark.parametrize("vector", [False, True])
def test_a_seed_decides_everything(run: Run, vector: bool) -> None:
    env = worldmodels.make_dream(run, 4) if vector else DreamEnv(run)
    seen, rewards = play(env, 6, seed=1)
    again, same_rewards = play(env, 6, seed=1)
    assert np.array_equal(seen, again) and np.array_equal(rewards, same_rewards)
    assert not np.array_equal(seen, play(env, 6, seed=2)[0])
    further, _ = play(env, 6, seed=None)  # goes on with the generator it has
    assert not np.array_equal(further, play(env, 6, seed=2)[0])
    if vector:
        assert len(np.unique(rewards[-1])) == 4, "each dream has luck of its own"


def test_a_step_is_the_dream_models(run: Run) -> None:
    dreams = worldmodels.make_dream(run, 3, temperature=1.3)
    dreams.reset(seed=0)
    for actions in actions_of(dreams, 4):
        rng, before = copy.deepcopy(dreams.np_random), dreams.dreams.state
        observations, rewards, *_ = dreams.step(actions)
        draw = torch.Generator().manual_seed(int(rng.integers(2**62)))
        encoded = np.eye(3, dtype=np.float32)[actions - 1] if actions.ndim == 1 else actions
        with torch.no_grad():
            state, reward = dreams.dreams.model.step(before, torch.from_numpy(encoded), draw)
            expected = dreams.dreams.model.features(state)
        assert np.array_equal(observations, expected.numpy())
        np.testing.assert_allclose(rewards, reward.numpy(), rtol=1e-6)
    assert dreams.dreams.model.temperature == 1.3


def test_a_vector_of_one_is_the_single_dream_begun_anew_after_each_end(
    terminating_run: Run,
) -> None:
    dreams, alone = (
        worldmodels.make_dream(terminating_run, 1, horizon=5),
        DreamEnv(terminating_run, horizon=5),
    )
    ends = []
    assert np.array_equal(dreams.reset(seed=5)[0][0], alone.reset(seed=5)[0])
    over = False
    for actions in actions_of(dreams, 40):
        observations, rewards, ended, cut, _ = dreams.step(actions)
        expected = (alone.reset()[0], 0.0, False, False) if over else alone.step(actions[0])[:4]
        assert np.array_equal(observations[0], expected[0])
        assert (rewards[0], ended[0], cut[0]) == expected[1:]
        over = ended[0] or cut[0]
        ends.append((bool(ended[0]), bool(cut[0])))
    assert ends.count((True, False)) > 3 and ends.count((False, True)) > 0


def test_the_step_after_an_end_begins_anew_and_ignores_its_action(terminating_run: Run) -> None:
    dreams, rows = (
        worldmodels.make_dream(terminating_run, 6, horizon=3),
        real_features(terminating_run),
    )
    observations, _ = dreams.reset(seed=0)
    assert all(find_state(rows, row) for row in observations)
    over, age, begun = np.zeros(6, bool), np.zeros(6, int), 0
    for actions in actions_of(dreams, 30):
        actions[over] = np.nan
        observations, rewards, ended, cut, _ = dreams.step(actions)
        age = np.where(over, 0, age + 1)
        assert [find_state(rows, row) is not None for row in observations] == over.tolist()
        assert (rewards[over] == 0).all() and (rewards[~over] != 0).all()
        assert not (ended | cut)[over].any()
        assert np.array_equal(cut, (age == 3) & ~ended)
        begun += over.sum()
        over = ended | cut
    assert begun > 30


def test_a_reset_in_the_middle_forgets_who_was_over(terminating_run: Run) -> None:
    dreams = worldmodels.make_dream(terminating_run, 8, horizon=1)
    dreams.reset(seed=0)
    dreams.step(dreams.action_space.sample())  # all are over
    dreams.reset()
    _, rewards, ended, cut, _ = dreams.step(dreams.action_space.sample())
    assert (rewards != 0).all() and (ended | cut).all()


@pytest.mark.parametrize("vector", [False, True])
def test_frames_are_what_vision_makes_of_the_same_dream(run: Run, vector: bool) -> None:
    def make(**settings: Any) -> DreamEnv | DreamVectorEnv:
        return worldmodels.make_dream(run, 3, **settings) if vector else DreamEnv(run, **settings)

    latents, frames = make(render_mode="rgb_array"), make(render_frames=True)
    count = 3 if vector else 1
    latents.reset(seed=4)
    observation, _ = frames.reset(seed=4)
    for actions in actions_of(latents, 4):
        with torch.no_grad():
            expected = latents.dreams.world.vision.decode(latents.dreams.state.latent).numpy()
        assert np.array_equal(observation.reshape(count, 64, 64, 3), expected)
        rendered = latents.render()
        assert rendered is not None and isinstance(rendered, tuple) == vector
        assert np.array_equal(np.reshape(rendered, expected.shape), expected)
        assert frames.render() is None
        latents.step(actions)
        observation = frames.step(actions)[0]


def test_gymnasiums_wrappers_work_over_dreams(terminating_run: Run) -> None:
    dreams = worldmodels.make_dream(terminating_run, 4, horizon=6)
    recorded = RecordEpisodeStatistics(dreams, buffer_length=1000)
    recorded.reset(seed=0)
    plain = worldmodels.make_dream(terminating_run, 4, horizon=6)
    plain.reset(seed=0)
    totals, lengths, finished = np.zeros(4), np.zeros(4, int), []
    for actions in actions_of(dreams, 25):
        recorded.step(actions)
        _, rewards, ended, cut, _ = plain.step(actions)
        totals += rewards
        lengths += rewards != 0
        for row in np.flatnonzero(ended | cut):
            finished.append((totals[row], lengths[row]))
            totals[row], lengths[row] = 0.0, 0
    returns, spans = zip(*finished, strict=True)
    np.testing.assert_allclose(recorded.return_queue, returns, rtol=1e-6)
    assert list(recorded.length_queue) == list(spans)
    clipped = gymnasium.wrappers.vector.ClipReward(plain, max_reward=-1e3)
    assert (clipped.step(plain.action_space.sample())[1] == -1e3).all()


def test_actions_beyond_a_box_are_clipped_to_it(terminating_run: Run) -> None:
    one, other = (worldmodels.make_dream(terminating_run, 2) for _ in range(2))
    outcomes = []
    for dreams, actions in (
        (one, [[-9, 5, 0.5], [0, -np.inf, 2]]),
        (other, [[-1, 1, 0.5], [0, 0, 1]]),
    ):
        dreams.reset(seed=0)
        outcomes.append(dreams.step(np.array(actions, np.float64))[:4])
    for ours, theirs in zip(*outcomes, strict=True):
        assert np.array_equal(ours, theirs)


def test_actions_that_are_none_are_refused_in_a_line(run: Run) -> None:
    dreams, alone = worldmodels.make_dream(run, 3), DreamEnv(run)
    dreams.reset(seed=0)
    alone.reset(seed=0)
    shape = dreams.action_space.shape
    assert shape is not None
    with pytest.raises(UserError, match=r"must be numbers of shape \(3.*got .*float64 and shape"):
        dreams.step(np.zeros((2, *shape[1:])))
    with pytest.raises(UserError, match=r"must be numbers of shape .*float64 and shape \(9,\)"):
        alone.step(np.zeros(9))
    with pytest.raises(UserError, match=r"must be numbers of shape .*got .*<U4 and shape"):
        alone.step("left")
    bad = np.ones(shape)
    bad[1] = np.nan
    output = (
        "dream 1 must not contain NaN, got .*nan" if "vae" in str(run) else r"in 1\.\.3, .* nan\]"
    )
    with pytest.raises(UserError, match=output):
        dreams.step(bad)
    if "fsq" in str(run):
        with pytest.raises(UserError, match=r"expected actions .* in 1\.\.3, got .* \[0\]"):
            alone.step(0)
    dreams.step(np.ones(shape))  # none of this has done any harm


def test_nothing_is_stepped_before_a_reset_nor_a_single_dream_after_its_end(run: Run) -> None:
    dreams, alone = worldmodels.make_dream(run, 2), DreamEnv(run, horizon=1)
    for env in (dreams, alone):
        with pytest.raises(ResetNeeded, match="expected a reset before the first step"):
            env.step(env.action_space.sample())
    alone.reset(seed=0)
    assert alone.step(alone.action_space.sample())[3]
    with pytest.raises(ResetNeeded, match="after the end of a dream"):
        alone.step(alone.action_space.sample())


def test_a_reset_mask_is_refused(run: Run) -> None:
    dreams = worldmodels.make_dream(run, 2)
    with pytest.raises(UserError, match="does not accept a reset_mask"):
        dreams.reset(options={"reset_mask": np.array([True, False])})
    dreams.reset(options={"anything": "else"})


def test_a_list_of_seeds_gives_each_dream_its_own_whatever_is_beside_it(
    terminating_run: Run,
) -> None:
    seeds: list[int | None] = [7, 3, 7, 11]
    dreams = worldmodels.make_dream(terminating_run, 4, horizon=6)
    alone = [DreamEnv(terminating_run, horizon=6) for _ in seeds]
    seen = [dreams.reset(seed=seeds)[0]]
    expected = [[env.reset(seed=seed)[0] for env, seed in zip(alone, seeds, strict=True)]]
    over = np.zeros(4, dtype=bool)
    for actions in actions_of(dreams, 15):
        actions[2] = actions[0]
        observations, rewards, ended, cut, _ = dreams.step(actions)
        parts = []
        for row, env in enumerate(alone):
            if over[row]:
                parts.append((env.reset()[0], 0.0, False, False))
            else:
                parts.append(env.step(actions[row])[:4])
        seen.append(observations)
        expected.append([part[0] for part in parts])
        for row, part in enumerate(parts):
            assert (rewards[row], ended[row], cut[row]) == part[1:]
        over = ended | cut
    assert np.array_equal(seen, expected)
    assert np.array_equal(np.array(seen)[:, 0], np.array(seen)[:, 2])
    assert not np.array_equal(np.array(seen)[:, 0], np.array(seen)[:, 1])


def test_dreams_with_a_list_of_seeds_go_on_with_their_generators_until_a_number_comes(
    run: Run,
) -> None:
    dreams, other = (worldmodels.make_dream(run, 2) for _ in range(2))
    joint = play(dreams, 3, seed=5)
    first, _ = dreams.reset(seed=[1, 2])
    again, _ = dreams.reset()
    other.reset(seed=[1, 9])
    assert np.array_equal(other.reset()[0][0], again[0])
    assert not np.array_equal(first, again)
    for ours, before in zip(play(dreams, 3, seed=5), joint, strict=True):
        assert np.array_equal(ours, before)
    dreams.reset(seed=[4, None])
    with pytest.raises(UserError, match="expected 2 seeds, one per dream, got 3"):
        dreams.reset(seed=[1, 2, 3])


def test_wrong_actions_move_no_dream_that_has_a_generator_of_its_own(run: Run) -> None:
    dreams, other = (worldmodels.make_dream(run, 2) for _ in range(2))
    shape = dreams.action_space.shape
    assert shape is not None
    bad = np.ones(shape)
    bad[1] = np.nan
    for env in (dreams, other):
        env.reset(seed=[1, 2])
    with pytest.raises(UserError, match=r"nan"):
        dreams.step(bad)
    good = np.ones(shape)
    assert np.array_equal(dreams.step(good)[0], other.step(good)[0])


@pytest.mark.parametrize("vector", [False, True])
def test_nothing_is_used_after_it_was_closed(run: Run, vector: bool) -> None:
    settings: dict[str, Any] = {"render_mode": "rgb_array"}
    env = worldmodels.make_dream(run, 2, **settings) if vector else DreamEnv(run, **settings)
    env.reset(seed=0)
    env.close()
    env.close()
    for use in (lambda: env.step(env.action_space.sample()), env.render):
        with pytest.raises(ClosedEnvironmentError, match=r"this Dream.*Env is closed"):
            use()
    if vector:
        with pytest.raises(ClosedEnvironmentError, match=r"this DreamVectorEnv is closed"):
            env.reset()
    else:  # which Stable-Baselines3's checks rely on
        env.reset(seed=0)
        env.step(env.action_space.sample())
