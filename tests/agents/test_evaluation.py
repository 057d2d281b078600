import functools
import json
import math

import gymnasium as gym
import pytest

from agents.evaluation import Scores, evaluate, sample_std
from agents.policy import ConstantPolicy
from agents.protocol import EvaluationProtocol
from agents.workers import Workers
from envs.make import make_env
from tests.fixtures.counting_env import BOX_ID, episode_length


def scores_of(*returns: float) -> Scores:
    count = len(returns)
    return Scores(
        policy="x",
        env_id="x",
        split="test",
        action_repeat=1,
        gymnasium_version="1",
        seeds=tuple(range(count)),
        returns=returns,
        lengths=(1,) * count,
        terminated=(True,) * count,
        truncated=(False,) * count,
    )


def test_the_interval_of_a_known_sample() -> None:
    scores = scores_of(1.0, 2.0, 3.0, 4.0, 5.0)
    assert scores.mean == 3.0 and scores.std == pytest.approx(math.sqrt(2.5))
    # 3 -+ 2.77645 * sqrt(2.5 / 5)
    assert scores.confidence_interval == pytest.approx((1.03676, 4.96324), abs=1e-4)


def test_one_episode_has_no_spread() -> None:
    scores = scores_of(7.0)
    assert scores.mean == 7.0
    assert scores.std is None and scores.confidence_interval is None


def test_the_sample_standard_deviation_divides_by_one_less() -> None:
    assert sample_std([1.0, 3.0]) == pytest.approx(math.sqrt(2.0))
    assert sample_std((5.0, 5.0, 5.0)) == 0.0
    assert sample_std([5.0]) is None


def standing() -> ConstantPolicy:
    return ConstantPolicy(make_env(BOX_ID).action_space, [0, 0.5], "standing", action_repeat=2)


def test_evaluate_plays_the_split_and_survives_json() -> None:
    scores = evaluate(EvaluationProtocol(BOX_ID, "validation", 10, start=4), standing, Workers(1))
    assert scores.seeds == tuple(range(1_000_004, 1_000_014))
    lengths = [episode_length(seed) for seed in scores.seeds]
    assert list(scores.lengths) == lengths
    assert scores.returns == tuple(500.0 * n * (n - 1) + 0.5 * n for n in lengths)
    assert (scores.policy, scores.split, scores.action_repeat) == ("standing", "validation", 2)
    assert scores.gymnasium_version == gym.__version__
    assert all(scores.terminated) and not any(scores.truncated)
    assert Scores.from_dict(json.loads(json.dumps(scores.to_dict()))) == scores


def test_a_step_limit_truncates() -> None:
    scores = evaluate(EvaluationProtocol(BOX_ID, "test", 2), standing, Workers(1), max_steps=3)
    assert scores.lengths == (3, 3)
    assert all(scores.truncated) and not any(scores.terminated)


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match="at least 1 episode"):
        EvaluationProtocol(BOX_ID, "test", 0)
    with pytest.raises(ValueError, match="of the same length"):
        functools.partial(Scores, **{**scores_of(1.0).to_dict(), "seeds": (1, 2)})()
