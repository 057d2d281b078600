"""Tests of encoded actions and of action maps."""

import json
import tracemalloc
from dataclasses import asdict

import numpy as np
import pytest
from gymnasium import spaces

from envs.actions import (
    ActionMap,
    UnsupportedActionSpace,
    action_size,
    decode_actions,
    encode_actions,
)
from envs.tasks import task_for

BOX = spaces.Box(np.array([-1, 0, 0], np.float32), np.array([1, 1, 1], np.float32))
DISCRETE = spaces.Discrete(5, start=2)


def test_a_box_action_survives_the_round_trip_as_float32() -> None:
    actions = np.array([[-1, 0.25, 0.5], [0.5, 1, 0]])
    encoded = encode_actions(BOX, actions)
    assert encoded.dtype == np.float32
    np.testing.assert_array_equal(decode_actions(BOX, encoded), actions.astype(np.float32))


def test_a_box_action_out_of_bounds_is_clipped_only_on_the_way_out() -> None:
    wild = np.array([[-3.0, 2.0, -1.0]], np.float32)
    np.testing.assert_array_equal(encode_actions(BOX, wild), wild)
    np.testing.assert_array_equal(decode_actions(BOX, wild), [[-1, 1, 0]])


def test_discrete_actions_are_one_hot_counted_from_the_first() -> None:
    actions = np.array([2, 6, 3])
    encoded = encode_actions(DISCRETE, actions)
    assert encoded.dtype == np.float32
    np.testing.assert_array_equal(encoded.argmax(axis=1), [0, 4, 1])
    np.testing.assert_array_equal(encoded.sum(axis=1), 1)
    decoded = decode_actions(DISCRETE, encoded)
    assert decoded.dtype == np.int64
    np.testing.assert_array_equal(decoded, actions)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(UnsupportedActionSpace, match="expected a 1-D Box or a Discrete"):
        action_size(spaces.MultiDiscrete([2, 3]))
    with pytest.raises(ValueError, match=r"expected actions of shape \(B, 3\), got \(3,\)"):
        encode_actions(BOX, np.zeros(3))
    with pytest.raises(ValueError, match=r"in 2\.\.6"):
        encode_actions(DISCRETE, np.array([0]))
    with pytest.raises(UnsupportedActionSpace, match="finite bounds"):
        ActionMap.for_space(spaces.Box(-np.inf, np.inf, (2,)))


def test_a_generic_map_spans_the_bounds() -> None:
    space = spaces.Box(np.array([-2, 0], np.float32), np.array([2, 10], np.float32))
    mapping = ActionMap.for_space(space)
    np.testing.assert_allclose(mapping(np.array([0.0, 0.0])), [0, 5])
    np.testing.assert_allclose(
        mapping(np.array([[99.0, 99.0], [-99.0, -99.0]])), [[2, 10], [-2, 0]]
    )


def test_a_discrete_map_picks_the_largest_output() -> None:
    mapping = ActionMap.for_space(DISCRETE)
    outputs = np.array([[[0.1, 3, 2, -1, 0]], [[9, 3, 2, -1, 0]]])
    np.testing.assert_array_equal(mapping(outputs), [[[0, 1, 0, 0, 0]], [[1, 0, 0, 0, 0]]])


def test_the_papers_map_steers_half_opens_the_throttle_and_brakes_only_above_zero() -> None:
    mapping = task_for("CarRacing-v3").action_maps["paper"]
    t = np.tanh(np.array([0.3, -0.7, 0.9], np.float32))
    np.testing.assert_allclose(
        mapping(np.array([0.3, -0.7, 0.9])), [t[0], (t[1] + 1) / 2, t[2]], rtol=1e-6
    )
    np.testing.assert_allclose(mapping(np.array([0.0, 0.0, -2.0])), [0, 0.5, 0])


def test_one_pedal_is_gas_above_zero_and_brake_below() -> None:
    mapping = task_for("CarRacing-v3").action_maps["pedal"]
    push, t = np.array([[0.0, 0.8], [0.0, -0.8]]), np.tanh(0.8)
    np.testing.assert_allclose(mapping(push), [[0, t, 0], [0, 0, t]], rtol=1e-6)


def test_a_map_survives_json() -> None:
    for mapping in task_for("CarRacing-v3").action_maps.values():
        assert ActionMap.from_dict(json.loads(json.dumps(asdict(mapping)))) == mapping


def test_a_map_refuses_other_numbers_of_outputs() -> None:
    mapping = task_for("CarRacing-v3").action_maps["pedal"]
    with pytest.raises(ValueError, match=r"expected outputs of shape \(\.\.\., 2\), got \(4, 3\)"):
        mapping(np.zeros((4, 3)))


def test_a_discrete_action_takes_memory_of_its_own_length_alone() -> None:
    space = spaces.Discrete(100_000, start=5)
    tracemalloc.start()
    encoded = encode_actions(space, np.array([5, 100_004]))
    drawn = ActionMap.for_space(spaces.Discrete(100_000))(np.zeros((1, 100_000)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert np.array_equal(encoded.nonzero(), ([0, 1], [0, 99_999])) and drawn.sum() == 1
    assert np.array_equal(decode_actions(space, encoded), [5, 100_004])
    assert peak < 100_000_000  # the square of the length: 40 GB
