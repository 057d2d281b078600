"""How often values were drawn, beside how often they should have been."""

import torch


def check_frequencies(values, probabilities):
    """Fail where draws of values 0, 1, .. come too often or too seldom: a chi-square test.

    Right draws fail about one time in ten thousand; the tests' seeds are fixed. A value of no
    probability fails where it comes at all.
    """
    counts = torch.bincount(values.flatten(), minlength=len(probabilities)).double()
    assert len(counts) == len(probabilities), f"drew {len(counts) - 1}, which is no value"
    expected = probabilities.double() * counts.sum()
    impossible = probabilities == 0
    assert not counts[impossible].any(), "drew a value of no probability"
    counts, expected = counts[~impossible], expected[~impossible]
    # What is rare is counted together: a square of few draws is no square of a Gaussian.
    expected, order = expected.sort()
    pooled = max(int((expected < 5).sum()), int((expected.cumsum(0) <= 5).sum()) + 1)
    counts, expected = (
        torch.cat([part[:pooled].sum()[None], part[pooled:]]) for part in (counts[order], expected)
    )
    assert len(expected) > 1, "too few draws to tell"
    chi_square = ((counts - expected).square() / expected).sum().item()
    freedom = len(expected) - 1
    assert chi_square < freedom + 4 * (2 * freedom) ** 0.5 + 8
