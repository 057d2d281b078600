"""A view crops rows of a frame, shrinks the frame, and refuses frames that do not fit."""

import json
from dataclasses import asdict

import gymnasium as gym
import numpy as np
import pytest

from envs.views import PAPER_VIEW, View, ViewObservation


def test_rows_outside_the_view_leave_no_trace() -> None:
    frames = np.full((2, 96, 96, 3), 100, np.uint8)
    frames[:, 84:] = 255
    seen = View(rows=(0, 84), size=64)(frames)
    assert seen.shape == (2, 64, 64, 3) and seen.dtype == np.uint8
    assert (seen == 100).all()


def test_a_small_pixel_is_the_mean_of_those_it_covers() -> None:
    frame = np.zeros((8, 8, 3), np.uint8)
    frame[:4, :2] = 200  # half of the top left quarter
    np.testing.assert_array_equal(View(size=2)(frame)[..., 0], [[100, 0], [0, 0]])


def test_leading_axes_are_kept_and_frames_stay_apart() -> None:
    frames = np.zeros((2, 3, 10, 20, 3), np.uint8)
    frames[1, 2] = 50
    seen = View(size=4)(frames)
    assert seen.shape == (2, 3, 4, 4, 3)
    assert (seen[1, 2] == 50).all() and seen.sum() == 50 * seen[1, 2].size


def test_frames_of_the_views_size_come_back_as_they_are() -> None:
    frames = np.zeros((5, 64, 64, 3), np.uint8)
    assert View(rows=(0, 84))(frames) is frames


def test_what_is_no_frame_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected uint8 frames .* got float64"):
        View()(np.zeros((96, 96, 3)))
    with pytest.raises(ValueError, match=r"got uint8 \(96, 96\)"):
        View()(np.zeros((96, 96), np.uint8))
    with pytest.raises(ValueError, match="at least 84 rows"):
        View(rows=(0, 84))(np.zeros((80, 80, 3), np.uint8))
    with pytest.raises(ValueError, match="expected rows"):
        View(rows=(9, 3))


def test_frames_of_another_size_than_the_source_are_refused() -> None:
    view = View(rows=(0, 84), size=64, source=(96, 96))
    assert view(np.zeros((2, 96, 96, 3), np.uint8)).shape == (2, 64, 64, 3)
    assert view(np.zeros((2, 64, 64, 3), np.uint8)).shape == (2, 64, 64, 3)
    for height, width in ((400, 600), (96, 97), (84, 96)):
        frames = np.zeros((2, height, width, 3), np.uint8)
        with pytest.raises(ValueError, match=f"of 96x96 pixels, or of 64x64 .* {height}x{width}"):
            view(frames)
    with pytest.raises(ValueError, match=r"a source of at least 1x1 pixels, got \(0, 9\)"):
        View(source=(0, 9))


def test_a_view_survives_json() -> None:
    for view in (View(), View(rows=(0, 84), size=32), View(size=48, source=(210, 160))):
        assert View.from_dict(json.loads(json.dumps(asdict(view)))) == view


def test_a_view_from_before_sources_is_the_papers_or_takes_frames_of_any_size() -> None:
    assert View.from_dict({"rows": [0, 84], "size": 64}) == PAPER_VIEW
    shape = gym.make("CarRacing-v3").observation_space.shape
    assert shape is not None and PAPER_VIEW.source == shape[:2]
    assert View.from_dict({"rows": None, "size": 64}).source is None


def test_the_wrapper_refuses_observations_that_are_no_pixels() -> None:
    with pytest.raises(ValueError, match="AddRenderObservation"):
        ViewObservation(gym.make("CartPole-v1"), View())
