"""A policy that sees only pixels drives as well in our drawing as in Gymnasium's."""

import numpy as np
import pytest

from tests.fixtures.pixel_policy import compare, train


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_pixel_policy_scores_alike_in_both_drawings() -> None:
    result = compare(train(rounds=3, report=print), episodes=12)
    low, high = result["interval_95"]
    assert result["fast"]["mean"] > 600, "it hardly drives, so that its scores compare nothing"
    # One crash on twelve tracks moves a mean by 40, so that the median says more.
    returns = np.array([result[name]["returns"] for name in ("fast", "stock")])
    assert abs(np.median(returns[0] - returns[1])) < 15
    assert low < 0 < high
