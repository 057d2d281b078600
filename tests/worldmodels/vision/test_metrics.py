import numpy as np
import pytest
import torch

from tests.fixtures.tiny_models import frames, vae, vqvae
from worldmodels.vision.metrics import code_usage, mean_frame, score_vision
from worldmodels.vision.networks import to_unit
from worldmodels.vision.pictures import code_maps, interpolations, reconstructions

FRAMES = torch.from_numpy(frames(300))  # more than go through V at once


def test_errors_are_sums_over_a_frame_and_means_over_frames() -> None:
    model = vae(common_colors=((128, 128, 128),)).eval()
    scores = score_vision(model, FRAMES, mean_frame(FRAMES))
    images = to_unit(FRAMES).double()
    decoded = to_unit(model.decode(model.mode(model.encode(FRAMES)))).double()
    squares = (decoded - images).square()
    assert scores["error"] == pytest.approx(squares.sum((1, 2, 3)).mean().item(), rel=1e-5)
    base = (images.mean(0) - images).square()
    assert scores["mean_frame_error"] == pytest.approx(base.sum((1, 2, 3)).mean().item(), rel=1e-4)
    assert scores["gain"] == pytest.approx(scores["mean_frame_error"] / scores["error"])
    assert scores["psnr"] == pytest.approx(-10 * np.log10(squares.mean().item()), rel=1e-5)
    apart = ((images - 128 / 255).abs().amax(1, keepdim=True) > 48 / 255).double()
    rare = (squares * apart).sum((1, 2, 3)).mean().item()
    assert scores["rare_error"] == pytest.approx(rare, rel=1e-4)
    assert scores["rare_error"] < scores["foreground_error"] < scores["error"]
    assert "perplexity" not in scores


def test_a_quantized_v_says_how_its_codes_are_used_over_all_frames() -> None:
    model = vqvae("fsq", levels=(4, 3)).eval()
    scores = score_vision(model, FRAMES, mean_frame(FRAMES))
    assert scores["bits_per_frame"] == pytest.approx(16 * np.log2(12))
    expected = code_usage(model.encode(FRAMES), 12)
    assert {name: scores[name] for name in expected} == expected


def test_codes_used_alike_have_the_codebook_as_perplexity() -> None:
    even = torch.arange(12).view(3, 4)
    assert code_usage(even, 12) == {"codes_used": 1.0, "perplexity": pytest.approx(12)}
    assert code_usage(even, 24) == {"codes_used": 0.5, "perplexity": pytest.approx(12)}
    one = torch.full((5, 4), 7)
    assert code_usage(one, 8) == {"codes_used": 1 / 8, "perplexity": pytest.approx(1)}
    # Half the codes are one value, the rest four: exp of 1/2 ln 2 + 1/2 ln 8.
    uneven = torch.tensor([[0, 0, 0, 0, 1, 2, 3, 4]])
    assert code_usage(uneven, 5)["perplexity"] == pytest.approx(4)


def test_a_code_map_gives_like_vectors_like_colors() -> None:
    vectors = torch.tensor([[0.0, 0.0], [0.0, 0.1], [5.0, 3.0], [0.0, 0.0]])
    codes = torch.tensor([[0, 1, 2, 3] * 4])
    picture = code_maps(codes, vectors)
    assert picture.shape == (1, 64, 64, 3)
    assert (picture[0, :16, :16] == picture[0, 0, 0]).all()  # a square a code
    near = np.abs(picture[0, 0, 0].astype(int) - picture[0, 0, 16]).max()
    far = np.abs(picture[0, 0, 0].astype(int) - picture[0, 0, 32]).max()
    assert 0 < near < far
    assert np.array_equal(picture[0, 0, 0], picture[0, 0, 48])  # the same vector


def test_pictures_hold_the_frames_and_what_v_makes_of_them() -> None:
    few = FRAMES[:4]
    for model, extra in ((vae().eval(), "drawn from N(0, 1)"), (vqvae("fsq").eval(), "codes")):
        rows = reconstructions(model, few)
        assert list(rows) == ["frame", "decoded", extra]
        assert np.array_equal(rows["frame"], few.numpy())
        latent = model.mode(model.encode(few))
        assert np.array_equal(rows["decoded"], model.decode(latent).numpy())


def test_interpolations_lead_from_frame_to_frame() -> None:
    model = vae().eval()
    rows = interpolations(model, FRAMES[:4])
    assert list(rows) == ["path 1", "path 2"]
    decoded = model.decode(model.mode(model.encode(FRAMES[:4]))).numpy()
    for number, row in enumerate(rows.values()):
        assert np.array_equal(row[0], FRAMES[number]) and np.array_equal(
            row[-1], FRAMES[2 + number]
        )
        for place, drawn in ((1, decoded[number]), (-2, decoded[2 + number])):
            assert np.abs(row[place].astype(int) - drawn).max() <= 1
        assert len(row) == 13
