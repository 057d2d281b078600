import numpy as np
import pytest

from envs.arm import PlanarArm


def end_by_complex_numbers(solution: np.ndarray) -> complex:
    """Compute the place of the arm's end link by link. Each link adds its angle to the heading."""
    place, heading = 0j, 0.0
    for x in solution:
        heading += float(x) * np.pi / 2
        place += np.exp(1j * heading) / len(solution)
    return place


@pytest.mark.parametrize("joints", [1, 7, 1000])
def test_the_end_is_where_its_links_lead(joints: int) -> None:
    solutions = np.random.default_rng(0).uniform(-1, 1, (50, joints)).astype(np.float32)
    fitness, measures = PlanarArm(joints).evaluate(solutions)
    ends = np.array([end_by_complex_numbers(solution) for solution in solutions])
    expected = np.stack([ends.real, ends.imag], axis=1) / 2 + 0.5
    assert measures == pytest.approx(expected, abs=1e-5)
    spreads = [np.std(solution.astype(float) * np.pi / 2) for solution in solutions]
    assert fitness == pytest.approx(-np.array(spreads), abs=1e-5)


def test_known_arms() -> None:
    straight, up, curled = np.zeros(4), np.array([1.0, 0, 0, 0]), np.ones(4)
    fitness, measures = PlanarArm(4).evaluate(np.array([straight, up, curled], np.float32))
    assert measures == pytest.approx(np.array([[1, 0.5], [0.5, 1], [0.5, 0.5]]), abs=1e-6)
    assert fitness == pytest.approx([0, -np.std([np.pi / 2, 0, 0, 0]), 0], abs=1e-6)


def test_many_are_the_same_as_few() -> None:
    arm, solutions = PlanarArm(20), np.random.default_rng(1).uniform(-1, 1, (20_001, 20))
    solutions = solutions.astype(np.float32)
    fitness, measures = arm.evaluate(solutions)
    for part in (slice(0, 3), slice(9_999, 10_002), slice(20_000, None)):
        few = arm.evaluate(solutions[part])
        assert fitness[part] == pytest.approx(few[0], abs=1e-6)
        assert measures[part] == pytest.approx(few[1], abs=1e-6)


def test_no_solutions_are_worth_nothing() -> None:
    fitness, measures = PlanarArm(3).evaluate(np.empty((0, 3), np.float32))
    assert fitness.shape == (0,)
    assert measures.shape == (0, 2)


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match="expected at least 1 joint, got 0"):
        PlanarArm(0)
    with pytest.raises(ValueError, match=r"expected solutions of shape \(B, 3\), got \(2, 4\)"):
        PlanarArm(3).evaluate(np.zeros((2, 4), np.float32))
