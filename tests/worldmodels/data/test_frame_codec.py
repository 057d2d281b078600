import numpy as np
import pytest
import zstandard

from envs.make import make_env
from envs.tasks import DEFAULT_ENV_ID
from tests.fixtures.tiny_models import frames
from worldmodels.data.frame_codec import LEVEL, compress_frames, decompress_frames


@pytest.mark.parametrize("shape", [(1, 64, 64, 3), (5, 3, 7, 3), (4, 9, 2, 1)])
@pytest.mark.parametrize("stride", [1, 2, 4])
def test_every_kept_frame_comes_back(shape: tuple[int, ...], stride: int) -> None:
    written = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    room = np.zeros_like(written[::stride])
    decompress_frames(compress_frames(written), room, len(written), stride)
    assert np.array_equal(room, written[::stride])


def test_driving_shrinks_tenfold_and_more_than_without_the_layout() -> None:
    env = make_env(DEFAULT_ENV_ID)
    driven = [np.array(env.reset(seed=0)[0])]
    for _ in range(100):
        driven.append(np.array(env.step(np.array([0.1, 0.5, 0.0], np.float32))[0]))
    env.close()
    written = np.stack(driven)
    ours = len(compress_frames(written))
    assert written.nbytes / ours > 10
    plain = len(zstandard.ZstdCompressor(level=LEVEL).compress(written.tobytes()))
    assert ours < 0.9 * plain


def test_another_number_or_size_of_frames_is_an_error() -> None:
    data = compress_frames(frames(3))
    for count, shape in ((2, (2, 64, 64, 3)), (4, (4, 64, 64, 3)), (3, (3, 64, 32, 3))):
        with pytest.raises((ValueError, zstandard.ZstdError), match=r"expected|error"):
            decompress_frames(data, np.zeros(shape, np.uint8), count)
    with pytest.raises(ValueError, match="expected 3 frames"):
        decompress_frames(data, np.zeros((2, 64, 64, 3), np.uint8), 3)
