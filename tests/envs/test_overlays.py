"""A rectangle blended into a shrunk picture looks as if it was drawn before the shrinking."""

import cv2
import numpy as np

from envs.overlays import WindowRectangle, blend
from envs.views import PAPER_VIEW

GREY = (100, 100, 100)


def test_a_pixel_takes_the_part_that_is_covered() -> None:
    picture = np.full((4, 4, 3), 205, np.uint8)
    # A quarter of the first pixel, half of the next two, none of the fourth; rounded.
    blended = blend(picture, (WindowRectangle(0.125, 0.125, 0.75, 0.25),), (0, 100, 205))
    np.testing.assert_array_equal(blended[0, :, 0], [154, 103, 103, 205])
    np.testing.assert_array_equal(blended[0, :, 1], [179, 153, 153, 205])
    assert (blended[..., 2] == 205).all() and (blended[1:] == 205).all()
    assert (picture == 205).all(), "the picture itself was drawn on"


def test_blending_is_what_shrinking_a_drawn_window_gives() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        (left, right), (top, bottom) = np.sort(rng.integers(0, 81, (2, 2)))
        window = np.full((80, 80, 3), GREY, np.uint8)
        window[top:bottom, left:right] = (250, 0, 30)
        shrunk = cv2.resize(window, (16, 10), interpolation=cv2.INTER_AREA)
        rectangle = WindowRectangle(left / 80, top / 80, right / 80, bottom / 80)
        blended = blend(np.full((10, 16, 3), GREY, np.uint8), (rectangle,), (250, 0, 30))
        assert np.abs(blended.astype(int) - shrunk).max() <= 1  # halves round either way


def test_blending_into_a_view_is_viewing_the_blended_frame() -> None:
    rng, view = np.random.default_rng(1), PAPER_VIEW
    for _ in range(20):
        (left, right), (top, bottom) = np.sort(rng.uniform(size=(2, 2)))
        rectangle = (WindowRectangle(left, top, right, bottom),)
        frame = np.full((96, 96, 3), GREY, np.uint8)
        blended = blend(view(frame), rectangle, (250, 0, 30), view=view)
        viewed = view(blend(frame, rectangle, (250, 0, 30)))
        assert np.abs(blended.astype(int) - viewed).max() <= 1


def test_what_lies_outside_the_picture_is_not_drawn() -> None:
    picture = np.full((64, 64, 3), 7, np.uint8)
    below = WindowRectangle(0.0, 0.9, 1.0, 1.0)
    next_to = WindowRectangle(1.5, 0.0, 2.0, 1.0)
    assert (blend(picture, (below, next_to), GREY, view=PAPER_VIEW) == 7).all()


def test_transposed_frames_are_blended_like_others() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (12, 9, 3), np.uint8)
    transposed = np.ascontiguousarray(picture.transpose(1, 0, 2)).transpose(1, 0, 2)
    half = (WindowRectangle(0.1, 0.2, 0.6, 0.7),)
    np.testing.assert_array_equal(blend(transposed, half, GREY), blend(picture, half, GREY))
