import numpy as np
import pytest
from ribs.archives import CVTArchive

from agents.cells import box_centroids
from agents.elites import ElitesConfig, MapElites


def test_centres_are_in_the_middle_of_equal_cells() -> None:
    centroids = box_centroids([(0.0, 60.0), (-1.0, 1.0)], 3)
    expected = [[x, y] for x in (10, 30, 50) for y in (-2 / 3, 0, 2 / 3)]
    np.testing.assert_allclose(centroids, expected, atol=1e-12)
    assert box_centroids([(0.0, 1.0)], 4)[:, 0] == pytest.approx([0.125, 0.375, 0.625, 0.875])


def test_an_archive_puts_a_point_into_its_cell_whatever_the_units() -> None:
    cells, ranges = 5, np.array([[0.0, 60.0], [-1.0, 1.0]])
    centroids = box_centroids([tuple(pair) for pair in ranges.tolist()], cells)
    archive = CVTArchive(solution_dim=1, centroids=centroids, ranges=ranges.tolist())
    low, high = ranges.T
    points = np.random.default_rng(0).uniform(low - 0.3 * (high - low), high, (500, 2))
    place = np.floor((points - low) / (high - low) * cells).clip(0, cells - 1)
    assert archive.index_of(points).tolist() == (place[:, 0] * cells + place[:, 1]).tolist()


def test_a_search_s_archive_spans_whole_cells() -> None:
    ranges = [(0.0, 60.0), (-1.0, 1.0)]
    search = MapElites(2, box_centroids(ranges, 3), ElitesConfig(), ranges=ranges)
    bounds = [search.archive.lower_bounds, search.archive.upper_bounds]
    assert np.transpose(bounds).tolist() == [[0, 60], [-1, 1]]


@pytest.mark.parametrize(
    ("ranges", "cells", "message"),
    [
        ([(0.0, 1.0)], 0, "expected at least 1 cell along each measure, got 0"),
        ([], 2, "expected at least 1 range"),
        ([(1.0, 1.0)], 2, r"low below high, got \[\(1.0, 1.0\)\]"),
    ],
)
def test_impossible_niches_are_refused(
    ranges: list[tuple[float, float]], cells: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        box_centroids(ranges, cells)
