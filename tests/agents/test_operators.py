from typing import Any

import numpy as np
import pytest

from agents.operators import ALL_MIXES, LINE_MIXES, Mix, OperatorConfig, breed

ELITES = np.random.default_rng(0).uniform(-1, 1, (30, 6)).astype(np.float32)
QUIET = OperatorConfig(iso_sigma=1e-9, line_sigma=0.5)


def children(mix: Mix, count: int, config: OperatorConfig = QUIET, **settings: Any) -> np.ndarray:
    generator = np.random.default_rng(1)
    return breed(lambda n: generator.choice(ELITES, n), mix, count, generator, config, **settings)


def distance_to_line(point: np.ndarray, start: np.ndarray, end: np.ndarray) -> float:
    along = (end - start) / np.linalg.norm(end - start)
    away = point - start
    return float(np.linalg.norm(away - (away @ along) * along))


def test_the_papers_nine_mixes() -> None:
    assert len(ALL_MIXES) == len(set(ALL_MIXES)) == 9
    assert set(LINE_MIXES) < set(ALL_MIXES)
    assert {(mix.reconstruction, mix.line) for mix in ALL_MIXES} == {
        *((0.0, fraction / 4) for fraction in range(5)),
        *((fraction / 4, 0.0) for fraction in range(5)),
    }


@pytest.mark.parametrize("batch_size", [1, 7, 100])
def test_shares_of_a_batch_add_up(batch_size: int) -> None:
    for mix in (*ALL_MIXES, Mix(0.5, 0.5), Mix(1 / 3, 1 / 3)):
        assert sum(mix.counts(batch_size)) == batch_size
        assert min(mix.counts(batch_size)) >= 0
    assert Mix(0.25, 0.5).counts(100) == (25, 50, 25)


def test_a_reconstructed_child_lies_half_way_to_the_reconstruction() -> None:
    born = children(Mix(reconstruction=1.0), 50, reconstruct=lambda x: 3 * x)
    parents = {tuple(elite) for elite in ELITES}
    assert {tuple(child / 2) for child in born} <= parents
    assert len({tuple(child) for child in born}) > 20


def test_a_line_child_lies_on_the_line_through_two_elites() -> None:
    for child in children(Mix(line=1.0), 40):
        distances = [
            distance_to_line(child, start, end)
            for i, start in enumerate(ELITES)
            for end in ELITES[:i]
        ]
        # Zero too where an elite was paired with itself: then it is its own child.
        assert min(distances) == pytest.approx(0, abs=1e-5)


def test_noise_alone_stays_near_a_parent_by_its_sigma() -> None:
    born = children(Mix(), 4_000, OperatorConfig(iso_sigma=0.01))
    steps = np.array([child - ELITES[np.abs(ELITES - child).sum(1).argmin()] for child in born])
    assert steps.std() == pytest.approx(0.01, rel=0.05)
    assert abs(steps.mean()) < 1e-3


def test_a_mix_of_all_three_has_its_shares_of_each() -> None:
    born = children(Mix(0.5, 0.25), 40, reconstruct=lambda x: -x)
    assert (born[:20] == 0).all()
    near = [np.abs(ELITES - child).max(1).min() for child in born[20:]]
    assert max(near[10:]) < 1e-6 < min(near[:10])


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match="add up to at most 1"):
        Mix(reconstruction=0.8, line=0.3)
    with pytest.raises(ValueError, match="needs a model to reconstruct with, got none"):
        children(Mix(reconstruction=0.5), 10)
    with pytest.raises(ValueError, match="expected step sizes above 0"):
        OperatorConfig(iso_sigma=0.0)
