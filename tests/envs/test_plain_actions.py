"""Actions of every kind of space, converted to a Box or a Discrete space and back."""

import numpy as np
import pytest
from gymnasium import spaces

from envs.actions import ActionMap, UnsupportedActionSpace, decode_actions, encode_actions
from envs.config import EnvConfig
from envs.make import make_env
from envs.plain_actions import plain_action_space
from envs.tasks import task_for
from tests.fixtures.odd_envs import ACTIONS, ODD_ID, OddEnv

REFUSED = ("many", "unbounded", "huge", "words")
SERVING = [name for name in ACTIONS if name not in REFUSED]


@pytest.mark.parametrize("kind", SERVING)
def test_every_plain_action_is_one_of_the_environments_own(kind: str) -> None:
    env = make_env(EnvConfig(ODD_ID, {"action": kind}))
    env.reset(seed=0)
    action_map = task_for(EnvConfig(ODD_ID, {"action": kind})).action_map
    outputs = np.random.default_rng(0).normal(0, 3, (40, action_map.num_outputs))
    encoded = action_map(outputs.astype(np.float32))
    native = decode_actions(env.action_space, encoded)
    # What is stored of an action is what was executed, to the last bit.
    np.testing.assert_array_equal(encode_actions(env.action_space, native), encoded)
    for action in native[:19]:
        env.step(action)  # refuses what is not in its own space
    assert type(OddEnv.received[-1]) is type(ACTIONS[kind].sample())


def test_integer_boxes_are_rounded_and_clipped() -> None:
    env = make_env(EnvConfig(ODD_ID, {"action": "integers"}))
    env.reset(seed=0)
    wild = np.array([[8.7, 99.0]], np.float32)
    env.step(wild[0])
    assert OddEnv.received[-1].dtype == np.int64 and OddEnv.received[-1].tolist() == [9, 10]
    np.testing.assert_array_equal(encode_actions(env.action_space, wild), [[9, 10]])
    np.testing.assert_array_equal(decode_actions(env.action_space, wild), [[9, 10]])


def test_combinations_run_with_the_last_number_fastest() -> None:
    env = make_env(EnvConfig(ODD_ID, {"action": "choices"}))
    assert env.action_space == spaces.Discrete(6)
    env.reset(seed=0)
    for action in range(6):
        env.step(action)
    taken = [action.tolist() for action in OddEnv.received[-6:]]
    assert taken == [[1, -1], [1, 0], [1, 1], [2, -1], [2, 0], [2, 1]]


def test_64_combinations_are_the_most() -> None:
    assert plain_action_space(spaces.MultiBinary(6)) == spaces.Discrete(64)
    with pytest.raises(UnsupportedActionSpace, match=r"at most 64 combinations .* got 65"):
        plain_action_space(spaces.MultiDiscrete([13, 5]))
    with pytest.raises(UnsupportedActionSpace, match="got 1,267,650,"):
        plain_action_space(spaces.MultiBinary(100))


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("many", "at most 64 combinations"),
        ("unbounded", "finite bounds, .*RescaleAction or ClipAction"),
        ("huge", "finite bounds, .*RescaleAction or ClipAction"),
        ("words", "a Box, Discrete, MultiBinary or MultiDiscrete action space, got Text"),
    ],
)
def test_what_no_controller_spans_is_refused(kind: str, words: str) -> None:
    with pytest.raises(UnsupportedActionSpace, match=words):
        task_for(EnvConfig(ODD_ID, {"action": kind}))


def test_constant_dimensions_stay_constant() -> None:
    task = task_for(EnvConfig(ODD_ID, {"action": "constant"}))
    actions = task.action_map(np.array([[9.0, -9.0, 9.0]], np.float32))
    np.testing.assert_array_equal(actions, [[0, 0.5, 1]])
    assert [measure.high for measure in task.measures] == [1.0, 0.5]


def test_a_map_of_whole_numbers_survives_json_and_earlier_ones_have_none() -> None:
    import json
    from dataclasses import asdict

    fields = json.loads(json.dumps(asdict(ActionMap.for_space(ACTIONS["integers"]))))
    assert ActionMap.from_dict(fields).integer
    del fields["integer"]
    assert not ActionMap.from_dict(fields).integer
