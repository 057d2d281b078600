import numpy as np
import pytest

from worldmodels.stages.dream_check import correlation, ranks


def test_ranks_of_those_alike_are_the_mean_of_theirs() -> None:
    assert ranks([3.0, -1.0, 7.5]).tolist() == [1, 0, 2]
    assert ranks([5.0, 1.0, 5.0, 9.0, 5.0]).tolist() == [2, 0, 2, 4, 2]
    assert ranks([2.0, 2.0]).tolist() == [0.5, 0.5]


def test_a_rank_correlation_asks_for_the_order_alone() -> None:
    values = np.array([-3.0, 0.1, 0.2, 40.0])
    assert correlation(ranks([*values]), ranks([*np.exp(values)])) == pytest.approx(1.0)
    assert correlation(ranks([*values]), ranks([*-values])) == pytest.approx(-1.0)
    # By hand: ranks 0, 1, 2, 3 against 0, 2, 1, 3.
    assert correlation(ranks([*values]), ranks([0, 5, 4, 6])) == pytest.approx(0.8)


def test_what_does_not_vary_is_correlated_with_nothing() -> None:
    assert correlation(np.ones(3), np.arange(3.0)) is None
    assert correlation(np.arange(3.0), np.ones(3)) is None
