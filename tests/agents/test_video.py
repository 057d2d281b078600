from collections.abc import Iterator
from pathlib import Path

import imageio.v3
import numpy as np
import pytest

from agents.video import caption, side_by_side, write_video


def clip(count: int = 7, height: int = 64, width: int = 64) -> np.ndarray:
    """Return frames that become brighter from the first to the last."""
    shade = np.linspace(20, 220, count).astype(np.uint8)
    return np.broadcast_to(shade[:, None, None, None], (count, height, width, 3)).copy()


@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
def test_every_frame_comes_back_in_order(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"drive{suffix}"
    write_video(path, iter(clip()), fps=25)
    read = imageio.v3.imread(path)
    assert read.shape[:3] == (7, 64, 64)
    assert np.allclose(read[..., :3].mean(axis=(1, 2, 3)), clip().mean(axis=(1, 2, 3)), atol=6)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_odd_sizes_grow_by_an_edge_and_the_frame_rate_is_kept(tmp_path: Path) -> None:
    write_video(tmp_path / "odd.mp4", clip(5, 33, 51), fps=10)
    assert imageio.v3.imread(tmp_path / "odd.mp4").shape == (5, 34, 52, 3)
    assert imageio.v3.immeta(tmp_path / "odd.mp4")["fps"] == 10
    assert imageio.v3.immeta(tmp_path / "odd.mp4")["pix_fmt"].startswith("yuv420p")


def test_a_failure_leaves_neither_half_a_video_nor_a_hole(tmp_path: Path) -> None:
    def failing() -> Iterator[np.ndarray]:
        yield from clip(3)
        raise RuntimeError("the game crashed")

    path = tmp_path / "drive.mp4"
    path.write_bytes(b"the video before")
    with pytest.raises(RuntimeError, match="the game crashed"):
        write_video(path, failing(), fps=25)
    assert path.read_bytes() == b"the video before"
    assert len(list(tmp_path.iterdir())) == 1


def test_mistakes_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"ending in \.mp4 or \.gif, got 'drive\.avi'"):
        write_video(tmp_path / "drive.avi", clip(), fps=25)
    with pytest.raises(ValueError, match="expected at least 1 frame to write"):
        write_video(tmp_path / "drive.gif", [], fps=25)
    with pytest.raises(ValueError, match="2 frames and 1 labels"):
        side_by_side(list(clip(2)), ["one"])


def test_a_caption_stands_above_the_unchanged_frame() -> None:
    frame = clip(1)[0]
    captioned = caption(frame, ["step 3", "reward 1.5"])
    assert captioned.shape[1:] == (64, 3)
    assert np.array_equal(captioned[-64:], frame)
    assert captioned[:-64].max() > 200  # something is written
    assert not caption(frame, [""])[:-64].any()


def test_side_by_side_keeps_pixels_visible() -> None:
    checkers = np.zeros((2, 2, 3), dtype=np.uint8)
    checkers[0, 0] = checkers[1, 1] = 255
    picture = side_by_side([checkers, clip(1, 96, 192)[0]], ["seen", "stock"], height=64)
    assert picture.shape[1] == 64 + 128
    shown = picture[-64:, :64]
    assert np.array_equal(np.unique(shown), [0, 255])  # interpolation would make grays
    assert np.array_equal(shown[::32, ::32], checkers)
