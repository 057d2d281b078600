import numpy as np
import pytest

from worldmodels.stages.dream_check import correlation, rank_correlation


def test_a_rank_correlation_depends_on_the_order_of_the_chosen_agents_means() -> None:
    values = np.array([[-4.0, -2.0], [0.1, 0.1], [0.0, 0.4], [30.0, 50.0]])
    other = np.array([[0.0], [5.0], [4.0], [6.0]])
    assert rank_correlation([*values], [*np.exp(values)], range(4)) == pytest.approx(1.0)
    assert rank_correlation([*values], [*-values], range(4)) == pytest.approx(-1.0)
    # By hand: ranks 1, 2, 3, 4 against 1, 3, 2, 4; of agents alike the mean of theirs.
    assert rank_correlation([*values], [*other], range(4)) == pytest.approx(0.8)
    assert rank_correlation([*values], [*other], [0, 3]) == pytest.approx(1.0)
    assert rank_correlation([*values], [*other], [2]) is None


def test_what_does_not_vary_is_correlated_with_nothing() -> None:
    assert correlation(np.ones(3), np.arange(3.0)) is None
    assert correlation(np.arange(3.0), np.ones(3)) is None
