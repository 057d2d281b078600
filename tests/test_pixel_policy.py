"""A policy that sees only pixels drives as well in our drawing as in Gymnasium's."""

import pytest

from tests.pixel_policy import compare, train


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_pixel_policy_scores_alike_in_both_drawings() -> None:
    result = compare(train(rounds=3, report=print), episodes=12)
    low, high = result["interval_95"]
    assert result["fast"]["mean"] > 600, "it hardly drives, so that its scores compare nothing"
    assert -40 < low <= high < 40
