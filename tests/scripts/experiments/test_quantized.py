"""The study of quantized latents computes intervals, bits, verdicts and the frames of a code."""

import copy
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from scripts.experiments.estimates import difference, mean_over
from scripts.experiments.experiment import Result
from scripts.experiments.quantized.code_gallery import (
    code_gallery,
    explained_variance_by_code,
    frame_codes,
    framed,
)
from scripts.experiments.quantized.kinds import ABLATIONS, KINDS, RUNS
from scripts.experiments.quantized.metrics import METRICS, RunsByKind
from scripts.experiments.quantized.page import draw_page, verdicts_on
from scripts.experiments.quantized.rates import rates
from tests.fixtures.tiny_models import vae, vqvae
from worldmodels.data.sequences import SequenceBatch
from worldmodels.presets import STUDY
from worldmodels.runs.json_files import write_json
from worldmodels.vision import VQVAEConfig

OURS, THEIRS = [812.0, 790.0, 845.0], [700.0, 731.0, 688.0]


def test_intervals_are_students() -> None:
    mean = mean_over(OURS)
    low, high = stats.t.interval(0.95, 2, np.mean(OURS), stats.sem(OURS))
    assert (mean.value, mean.half_width) == pytest.approx(
        ((low + high) / 2, (high - low) / 2), rel=1e-9
    )
    found = difference(OURS, THEIRS)
    interval = stats.ttest_ind(OURS, THEIRS).confidence_interval()
    assert found.value - found.half_width == pytest.approx(interval.low, rel=1e-9)
    assert found.value + found.half_width == pytest.approx(interval.high, rel=1e-9)


def test_one_seed_has_no_interval_and_is_not_significant() -> None:
    alone = mean_over([5.0])
    assert math.isnan(alone.half_width) and not alone.significant and alone.text() == "5"


def episodes_of(posteriors: Tensor) -> SequenceBatch:
    """Make two episodes; the second episode is padded after its first agent step."""
    mask = torch.tensor([[True, True, True], [True, False, False]])
    terminated = torch.zeros_like(mask)
    return SequenceBatch(posteriors, torch.zeros(2, 3, 3), torch.zeros(2, 3), terminated, mask)


def test_bits_of_latents_under_their_own_prior_are_their_kl_divergence() -> None:
    """An M whose predictions equal V's prior saves no bits, however wide the posteriors are."""
    torch.manual_seed(0)
    posteriors = torch.randn(2, 4, 2 * 32)
    episodes = episodes_of(posteriors)
    mu, logvar = posteriors[:, 1:][episodes.mask].chunk(2, dim=-1)
    prior_nll = 0.5 * (mu.square() + logvar.exp() + math.log(2 * math.pi)).sum(-1).mean()
    output = rates(
        vae(), episodes, persistence_nll=float(prior_nll) + math.log(2), nll=float(prior_nll)
    )
    assert output["memory"] == pytest.approx(output["alone"], rel=1e-4)
    assert output["persistence"] == pytest.approx(output["memory"] + 1.0, rel=1e-4)


def test_bits_of_codes_are_nats_in_another_unit() -> None:
    vision = vqvae("fsq")
    episodes = episodes_of(torch.zeros(2, 4, vision.config.num_codes, dtype=torch.int64))
    output = rates(vision, episodes, persistence_nll=8 * math.log(2), nll=math.log(2))
    bits = vision.config.num_codes * math.log2(vision.config.num_values)
    assert output == pytest.approx({"alone": bits, "persistence": 8.0, "memory": 1.0})


def run_result(kind: str, seed: int, score: float) -> Result:
    """Make the content of a result file, with every figure."""
    horizon = {
        "real_mean": 30.0,
        "dreamed": {"bias": 1.5, "rank_correlation": 0.9, "good_rank_correlation": None},
    }
    rows = [
        {"score": score - 300.0, "env_steps": 40_000, "search": "gradient", "reward_r2": 0.5},
        {"score": score, "env_steps": 80_000, "search": "cmaes", "reward_r2": 0.5},
    ]
    return {
        "kind": kind,
        "seed": seed,
        "minutes": 20.0,
        "agent_steps_to_threshold": 20_000,
        "rounds": rows,
        "scores": {name: {"mean": score} for name in ("none", "color", "bars", "blob")},
        "vision": {"error": 20.0 - seed, "foreground_error": 10.0},
        "memory": {"reward_r2": -0.1},
        "bits": {"alone": 120.0, "persistence": 80.0, "memory": 60.0},
        "open_loop": {
            "action_repeat": 4,
            **{n: [9.0] * 25 for n in ("predicted", "persistence", "reconstruction")},
        },
        "dream": {"horizons": {"48": horizon, "200": horizon}},
    }


@pytest.fixture
def results() -> RunsByKind:
    """Make results in which codes score higher by the same amount in three seeds.

    All other figures are equal.
    """
    return {
        kind: [run_result(kind, seed, 100.0 * (kind == "fsq") + 700 + seed) for seed in (1, 2, 3)]
        for kind in ("vae", "fsq")
    }


def test_verdicts_follow_the_intervals(results: RunsByKind, tmp_path: Path) -> None:
    verdicts = verdicts_on(results, "fsq")
    assert set(verdicts["improved"]) == {"score", "color", "bars", "blob"}
    assert not verdicts["worsened"]
    assert {"error", "dream_error_52", "agent_steps_to_threshold"} <= set(verdicts["inconclusive"])
    assert "minutes" not in verdicts["inconclusive"]  # has no better direction
    assert verdicts["improved"]["score"].value == pytest.approx(100.0)
    text = drawn(tmp_path, results)
    assert "(FSQ) are significantly better than latents in: score (100 ± 2)" in text
    assert "learned codebook" not in text and "Too few runs" not in text
    for result in results["fsq"]:  # an error is better where it is lower
        result["vision"]["error"] += 50.0
    assert set(verdicts_on(results, "fsq")["worsened"]) == {"error"}


def test_every_kind_of_codes_has_its_own_verdicts(results: RunsByKind, tmp_path: Path) -> None:
    results = {**results, "vq": [run_result("vq", seed, 700.0 + seed) for seed in (1, 2, 3)]}
    for result in results["vq"]:
        result["bits"]["memory"] += 20.0
    text = drawn(tmp_path, results)
    assert (
        "Codes of a learned codebook (VQ-VAE) are significantly better than latents in: nothing. "
        "Codes of a learned codebook (VQ-VAE) are significantly worse than latents in: bits per"
        in text
    )
    assert "(3 of VAE, 3 of FSQ, 3 of VQ)" in text
    inconclusive = (
        text.split("not significant for either kind of codes: ")[1].split(".")[0].split(", ")
    )
    assert "error of dreams after 20 env steps" in inconclusive
    assert "score" not in inconclusive
    assert "bits per frame given M's state" not in inconclusive


def test_a_difference_smaller_than_that_between_seeds_is_inconclusive(results: RunsByKind) -> None:
    for result, score in zip(results["fsq"], (300.0, 1200.0, 900.0), strict=True):
        result["scores"]["none"]["mean"] = score
    assert "score" in verdicts_on(results, "fsq")["inconclusive"]


def drawn(docs: Path, results: RunsByKind, others: dict[str, Result] | None = None) -> str:
    """Draw the page from `results`, and from `others` by file name; return the page's text."""
    files = {f"results/quantized/{r['kind']}-{r['seed']}": r for rs in results.values() for r in rs}
    for file, result in {**files, **(others or {})}.items():
        write_json(docs / f"{file}.json", result)
    docs.mkdir(exist_ok=True)
    draw_page(docs)
    return (docs / "results.md").read_text()


def test_page_has_a_row_per_metric_and_quotes_result_files(
    results: RunsByKind, tmp_path: Path
) -> None:
    ablation = {
        "kind": "vae",
        "ablation": "z",
        "score": 512.0,
        "std": 99.0,
        "evaluations": [{"steps": 2.5e6}],
    }
    agent = {
        "command": "wm run", "minutes": 58.2, "env_steps": 1234,
        "scores": {"mean": 901.25, "std": 20.0, "interval": [897.3, 905.2]},
    }  # fmt: skip
    others = {"results/ablation/vae-1-z": ablation, "results/carracing": agent}
    text = drawn(tmp_path, results, others)
    for metric in METRICS.values():
        assert f"| {metric.label} |" in text
    assert "**901.2 ± 20.0** | 897.3 to 905.2" in text
    assert "| z only | 512 ± 99 |  | 632 ± 251 |" in text
    assert "about 2.5 million env steps" in text
    assert "![How each run learned](results/quantized/learning.png)" in text
    assert "| score | 702 ± 2 |  | 802 ± 2 | **100 ± 2** |  |" in text
    assert "Which frames V and M learn from" not in text  # has no results


def test_page_of_nothing_says_so(tmp_path: Path) -> None:
    text = drawn(tmp_path, {})
    assert text.endswith("Too few runs to compare kinds: none.\n") and "##" not in text


def test_missing_figures_are_left_out(results: RunsByKind, tmp_path: Path) -> None:
    results = copy.deepcopy(results)
    results["fsq"][0]["agent_steps_to_threshold"] = None
    assert len(METRICS["agent_steps_to_threshold"].values(results["fsq"])) == 2
    assert METRICS["codes_used"].values(results["vae"]) == []
    text = drawn(tmp_path, results)
    assert (
        "| agent steps until a score of 500 | 20000 ± 0 |  | 20000 ± 0 (2 of 3 runs) |  |  |"
        in text
    )
    assert "agent_steps_to_threshold" not in verdicts_on(results, "fsq")["inconclusive"]


def test_kinds_differ_in_the_quantizer_alone() -> None:
    vq, fsq = (KINDS[name].settings(STUDY) for name in ("vq", "fsq"))
    assert isinstance(vq.vqvae.model, VQVAEConfig) and isinstance(fsq.vqvae.model, VQVAEConfig)
    assert vq.vqvae.model.quantizer == "vq" and fsq.vqvae.model.quantizer == "fsq"
    assert vq.memory == fsq.memory and vq.vae == fsq.vae and vq.rounds == fsq.rounds
    assert KINDS["vae"].settings(STUDY) == STUDY
    assert list(RUNS)[:4] == ["vae-1", "vq-1", "fsq-1", "vae-2"] and len(RUNS) == 9
    assert list(ABLATIONS)[:2] == ["vae-1-z", "vae-1-untrained"] and len(ABLATIONS) == 6


def test_answers_give_codes_alone_where_latents_have_no_figure(
    results: RunsByKind, tmp_path: Path
) -> None:
    for result in results["fsq"]:
        result["explained_variance_by_code"] = {"same_cell": 0.7, "other_cells": 0.25}
    text = drawn(tmp_path, results)
    assert "Variance in a code's own cell that the code explains, %: FSQ has 70 ± 0." in text
    assert "Score: FSQ has 802 ± 2 and the VAE has 702 ± 2." in text
    same = (
        "V's error on road and car: FSQ has 10.0 ± 0.0 and the VAE has 10.0 ± 0.0 "
        "(not a significant difference)."
    )
    assert same in text


def test_frames_of_a_row_share_the_code_in_the_framed_cell() -> None:
    vision = vqvae("fsq")
    frames = np.random.default_rng(0).integers(256, size=(40, 64, 64, 3), dtype=np.uint8)
    codes = frame_codes(vision, frames)
    assert codes.shape == (40, 16)
    gallery = code_gallery(frames, codes, grid=4, rows=2, columns=3)
    assert len(gallery) == 2
    places: list[list[int]] = []
    for name, row in gallery.items():
        value, count = (int(part) for part in name.removeprefix("code ").split(": "))
        fitting = []
        for cell in range(16):
            same = np.flatnonzero(codes[:, cell] == value)
            expected = framed(frames[same], cell, 4)
            if all(any(np.array_equal(frame, other) for other in expected) for frame in row):
                fitting.append(cell)
                assert len(same) == count
        places.append(fitting)
    assert len(places[0]) == 1 and places[0] == places[1]


def striped(codes: np.ndarray, cells: tuple[int, ...]) -> np.ndarray:
    """Make black frames in which the brightness of each given cell shows the cell's code."""
    frames = np.zeros((len(codes), 64, 64, 3), np.uint8)
    for cell in cells:
        top, left = cell // 4 * 16, cell % 4 * 16
        frames[:, top : top + 16, left : left + 16] = codes[:, cell, None, None, None] * 60
    return frames


def test_a_code_explains_all_of_the_cell_it_paints_and_nothing_of_another() -> None:
    random = np.random.default_rng(0)
    drives = []
    for _ in range(4):
        codes = random.integers(4, size=(500, 16))
        drives.append((striped(codes, (5, 10)), codes))
    output = explained_variance_by_code(drives, 4)
    assert output[5, 5] == pytest.approx(1.0) and output[10, 10] == pytest.approx(1.0)
    assert abs(output[5, 10]) < 0.02 and abs(output[0, 5]) < 0.02


def test_the_gallery_is_of_the_cell_and_the_codes_that_explain_most() -> None:
    codes = np.zeros((60, 16), np.int64)
    codes[:, 3] = np.arange(60) % 2  # always there, and never in the picture
    codes[40:50, 6], codes[50:, 6] = 1, 4
    gallery = code_gallery(striped(codes, (6,)), codes, grid=4, rows=2, columns=3)
    assert list(gallery) == ["code 4: 10", "code 0: 40"]


def test_frame_of_a_cell_hides_nothing_but_its_border() -> None:
    gray = np.full((1, 64, 64, 3), 7, np.uint8)
    marked = framed(gray, cell=6, grid=4)[0]
    yellow = (marked == (255, 255, 0)).all(-1)
    assert yellow.sum() == 4 * 16 - 4
    assert yellow[16, 32:48].all() and yellow[31, 32:48].all() and yellow[16:32, 32].all()
    assert (marked[~yellow] == 7).all()
    assert (gray == 7).all()
