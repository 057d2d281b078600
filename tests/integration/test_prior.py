"""The prior over V's codes is trained on the real game, draws samples and measures surprise."""

import json
import shutil
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
from torch import Tensor

from envs.make import make_env
from tests.fixtures.command import CommandResult, wm, wm_json
from worldmodels.prior.surprise import episode_surprise, load_surprise
from worldmodels.runs.episode_seeds import episode_seeds
from worldmodels.runs.json_files import read_json
from worldmodels.runs.run import Run


@pytest.fixture(scope="module")
def quantized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a run whose V has codes, with few episodes and with hardly trained models."""
    folder = tmp_path_factory.mktemp("prior") / "quantized"
    run = ("--run", folder)
    few = ("--episodes", 11, "--max-steps", 160, "--workers", 1)
    wm_json("collect", *run, "--preset", "tiny", *few)
    wm_json("train-vision", *run, "--quantized", "--train-steps", 80)
    wm_json("train-memory", *run, "--train-steps", 5)
    wm_json("train-prior", *run, "--train-steps", 150)
    return folder


@pytest.fixture(scope="module")
def continuous(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a run whose V has no codes."""
    folder = tmp_path_factory.mktemp("prior") / "continuous"
    few = ("--episodes", 2, "--max-steps", 16, "--workers", 1)
    wm_json("collect", "--run", folder, "--preset", "tiny", *few)
    wm_json("train-vision", "--run", folder, "--train-steps", 3)
    return folder


@pytest.fixture
def run(quantized: Path, tmp_path: Path) -> Path:
    """Make a copy of the run, which a test may damage."""
    return Path(shutil.copytree(quantized, tmp_path / "run"))


def refused(*arguments: object, expected: str) -> CommandResult:
    done = wm(*arguments)
    assert done.code == 2, done
    assert done.error.startswith("wm: ") and len(done.error.strip().splitlines()) == 1
    assert expected in done.error
    return done


def test_the_prior_beats_what_training_says_of_each_position_alone(quantized: Path) -> None:
    result = json.loads((quantized / "prior" / "result.json").read_text())
    assert result["nats_per_code"] < 0.8 * result["position_cross_entropy"]
    assert result["position_cross_entropy"] < result["unigram_cross_entropy"] < result["log_k"]
    # Knowing the held-out frequencies can only help.
    assert result["position_entropy"] < result["position_cross_entropy"]
    expected = 1 - result["nats_per_code"] / result["position_entropy"]
    assert result["gain_over_position"] == pytest.approx(expected)
    bits = result["nats_per_code"] * 16 / np.log(2)
    assert result["bits_per_frame"] == pytest.approx(bits)
    # 9 training episodes of 160 steps, every fourth frame; 2 held out.
    assert (result["frames"], result["held_out_frames"]) == (9 * 41, 2 * 41)
    assert iio.imread(quantized / "prior" / "prior.png").std() > 1


def test_a_second_training_finds_it_done_and_info_shows_it(quantized: Path) -> None:
    before = (quantized / "prior" / "prior.safetensors").stat().st_mtime_ns
    result = wm_json("train-prior", "--run", quantized, "--train-steps", 150)
    assert (quantized / "prior" / "prior.safetensors").stat().st_mtime_ns == before
    summary = wm_json("info", "--run", quantized)["prior"]
    assert summary["nats_per_code"] == result["nats_per_code"] and "stale" not in summary


def test_samples_are_frames_that_never_were(quantized: Path, tmp_path: Path) -> None:
    out = tmp_path / "samples.png"
    arguments = ("sample", "--run", quantized, "--prior", "--out", out, "--count", 7)
    result = wm_json(*arguments)
    picture = iio.imread(out)
    assert picture.shape[0] == 3 * 130 and picture.std() > 5  # 7 frames are 3 rows of 3
    assert picture[-130:, -130:].max() == 0, "the place of frame 9 is filled with black"
    assert result["frames"] == 7 and result["nats_per_frame"] > 0
    wm_json(*arguments)
    assert np.array_equal(iio.imread(out), picture)
    wm_json(*arguments, "--seed", 1)
    assert not np.array_equal(iio.imread(out), picture)
    sharper = wm_json(*arguments, "--temperature", 0.3)
    assert sharper["nats_per_frame"] < result["nats_per_frame"]


def driven_frames(perturbation: str | None = None) -> np.ndarray:
    """Drive a validation track with a constant action, and return every fifth late frame."""
    env = make_env("worldmodels/CarRacing-v3", perturbation=perturbation)
    env.reset(seed=1_000_000)
    frames = [env.step(np.array((0.1, 0.3, 0.0), np.float32))[0] for _ in range(120)]
    env.close()
    return np.stack(frames[50::5])


def chance_of_more(higher: Tensor, lower: Tensor) -> float:
    """Return the probability that a number of `higher` is above a number of `lower`."""
    return (higher[:, None] > lower[None]).float().mean().item()


def test_frames_unlike_those_collected_are_more_surprising(quantized: Path) -> None:
    surprise = load_surprise(Run(quantized))
    usual, error = surprise.surprise_and_error(driven_frames())
    for perturbation in ("bars", "color", "blob"):
        changed, changed_error = surprise.surprise_and_error(driven_frames(perturbation))
        assert chance_of_more(changed, usual) > 0.7, perturbation
        assert chance_of_more(changed_error, error) > 0.9, perturbation
    noise = np.random.default_rng(0).integers(0, 256, (20, 64, 64, 3), dtype=np.uint8)
    # The codes of noise depend on chance, but no codes describe noise well.
    assert surprise.surprise_and_error(noise)[1].min() > error.max()


def meadow_frames(tracks: int) -> np.ndarray:
    """Return frames of a car far off the road, where exploring cars often are."""
    env = make_env("worldmodels/CarRacing-v3")
    frames = []
    for track in range(tracks):
        env.reset(seed=1_000_000 + track)
        frames += [[env.step(np.array([0, 1, 0], np.float32))[0] for _ in range(150)][-1]]
    env.close()
    return np.stack(frames)


def test_what_most_episodes_show_is_not_surprising(quantized: Path) -> None:
    surprise = load_surprise(Run(quantized))
    stored = [episode.load().frames[20::10] for episode in Run(quantized).store.split(True)]
    usual = surprise.surprise(np.concatenate(stored))
    assert chance_of_more(usual, surprise.surprise(meadow_frames(8))) > 0.6


def test_collecting_keeps_what_v_knows_least_and_goes_on_where_it_was_cut(run: Path) -> None:
    arguments = ("collect", "--run", run, "--max-steps", 80, "--select-by-surprise")
    result = wm_json(*arguments, "--episodes", 14, "--workers", 2)
    assert result["episodes"] == 14
    # The best of three candidates; a random choice would give a ratio of about 1.
    assert result["mean_surprise"] > 1.05 * result["candidates_mean_surprise"]
    store = Run(run).store
    surprise = load_surprise(Run(run))
    for episode in store.episodes[11:]:
        measured = episode_surprise(surprise, episode.load().frames, 4)
        assert episode.meta["surprise"] == pytest.approx(measured, abs=1e-2)
        assert episode.meta["seed"] in episode_seeds(0, episode.index, 3)
    assert any(episode.meta["seed"] != episode.index for episode in store.episodes[11:])
    assert all("surprise" not in episode.meta for episode in store.episodes[:11])
    kept = {episode.index: episode.digest for episode in store}
    store.episodes[12].path.unlink()
    wm_json(*arguments, "--episodes", 14, "--workers", 1)
    assert {episode.index: episode.digest for episode in Run(run).store} == kept


def test_surprise_is_refused_before_anything_is_played(continuous: Path, run: Path) -> None:
    more = ("--episodes", 20, "--select-by-surprise")
    refused("collect", "--run", continuous, *more, expected="a prior needs codes")
    shutil.rmtree(run / "prior")
    refused("collect", "--run", run, *more, expected=f'run "wm train-prior --run {run}" first')
    assert len(Run(run).store) == 11


def test_the_surprise_of_dreams(quantized: Path) -> None:
    arguments = ("surprise", "--run", quantized, "--starts", 16, "--horizon", 12)
    result = wm_json(*arguments)
    assert list(result["at"]) == ["1", "10", "12"]
    assert [row["agent_step"] for row in result["history"]] == list(range(1, 13))
    for name in ("dreamed", "real"):
        assert result["at"]["10"][name] == result["history"][9][name]
        assert 0 < result["history"][9][f"{name}_error"] < result["history"][9][name]
    # A hardly trained M drifts, but even so keeps more order than codes drawn one by one.
    assert result["at"]["1"]["real"] < result["independent_positions"]
    assert result["prior_samples"] < result["independent_positions"]
    written = read_json(quantized / "evaluation" / "surprise.json")
    assert written == result
    assert iio.imread(quantized / "evaluation" / "surprise.png").std() > 1
    assert wm_json(*arguments) == result
    assert wm_json("info", "--run", quantized)["scores"] == "none"


def test_a_continuous_v_has_no_prior_but_samples(continuous: Path, tmp_path: Path) -> None:
    out = tmp_path / "samples.png"
    words = "has a continuous V, but a prior needs codes: train V with --quantized"
    refused("train-prior", "--run", continuous, "--quiet", expected=words)
    refused("surprise", "--run", continuous, expected=words)
    refused("sample", "--run", continuous, "--prior", "--out", out, expected=words)
    assert not out.exists() and not list(continuous.glob("*prior*"))
    assert "prior" not in wm_json("info", "--run", continuous)
    assert wm_json("sample", "--run", continuous, "--out", out, "--count", 4)["frames"] == 4
    assert iio.imread(out).std() > 1


def test_what_is_missing_is_named_with_its_command(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "samples.png"
    refused("sample", "--run", run, "--out", out, expected="add --prior")
    shutil.rmtree(run / "prior")
    for command in (["surprise"], ["sample", "--prior", "--out", out]):
        refused(*command, "--run", run, expected=f'run "wm train-prior --run {run}" first')
    assert "optional, not made yet" in wm_json("info", "--run", run)["prior"]
    shutil.rmtree(run / "vision")
    refused("train-prior", "--run", run, expected=f'run "wm train-vision --run {run} --quantized"')


def test_a_prior_for_an_earlier_v_is_not_used(run: Path) -> None:
    wm_json("train-vision", "--run", run, "--quantized", "--train-steps", 2)
    refused("surprise", "--run", run, expected="is for an earlier V")
    refused("sample", "--run", run, "--prior", expected="is for an earlier V")
    assert "vision changed" in wm_json("info", "--run", run)["prior"]["stale"]
    wm_json("train-prior", "--run", run, "--train-steps", 2)
    refused("surprise", "--run", run, expected=f'run "wm train-memory --run {run}" again')


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["sample", "--prior", "--count", 0], "expected 1 to 4,096 frames, got 0"),
        (["sample", "--prior", "--temperature", -1], "temperature of at least 0, got -1"),
        (["sample", "--prior", "--seed", -1], "seed must be at least 0, got -1"),
        (["sample", "--prior", "--out", "samples.jpg"], "ends in .png, got samples.jpg"),
        (["sample", "--prior", "--out", "none/samples.png"], "no folder none"),
        (["surprise", "--starts", 0], "starts must be at least 1, got 0"),
        (["surprise", "--horizon", 0], "horizon must be at least 1, got 0"),
        (["surprise", "--horizon", 100], "has 40 agent steps, expected at least 100"),
        (["train-prior", "--train-steps", 0], "num_steps must be at least 1, got 0"),
    ],
)
def test_wrong_options_are_one_line(
    quantized: Path, arguments: list[str | int], expected: str
) -> None:
    refused(*arguments, "--run", quantized, "--quiet", expected=expected)


@pytest.mark.parametrize("command", ["train-prior", "sample", "surprise"])
def test_a_run_that_is_not_there(tmp_path: Path, command: str) -> None:
    refused(command, "--run", tmp_path / "none", expected="wm collect --run")
    assert not (tmp_path / "none").exists()
