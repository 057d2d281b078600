"""The commands that evaluate M, record dreams, and compare dreams with the real game."""

import shutil
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest

from tests.fixtures.command import wm, wm_json
from worldmodels.dream.load import load_world_model
from worldmodels.memory import MemoryEnsemble
from worldmodels.runs.json_files import read_json
from worldmodels.runs.run import Run

KINDS = {"continuous": [], "quantized": ["--quantized"]}


@pytest.fixture(scope="module", params=KINDS)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a run of one kind with few episodes, and with V, M and C that are hardly trained."""
    folder: Path = tmp_path_factory.mktemp("dreaming") / request.param
    run = ("--run", folder)
    few = ("--episodes", 12, "--max-steps", 240, "--workers", 2)
    wm_json("collect", *run, "--preset", "tiny", *few)
    wm_json("train-vision", *run, "--train-steps", 150, *KINDS[request.param])
    members = 2 if request.param == "continuous" else 1
    wm_json("train-memory", *run, "--train-steps", 80, "--ensemble-size", members)
    wm_json("train-controller", *run, "--dream", "--train-steps", 2)
    return folder


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    """Make a copy of the run, which a test may damage."""
    return Path(shutil.copytree(made, tmp_path / made.name))


def refused(*arguments: object, expected: str) -> None:
    done = wm(*arguments)
    assert done.code == 2, done
    assert done.error.startswith("wm: ") and len(done.error.strip().splitlines()) == 1
    assert expected in done.error


def test_m_is_evaluated_beside_two_baselines_and_the_last_frame(made: Path) -> None:
    arguments = ("--run", made, "--horizon", 60, "--starts", 8, "--samples", 4)
    result = wm_json("evaluate-memory", *arguments)
    assert result["nll"] < result["persistence_nll"]
    assert result["bits_per_frame"] == pytest.approx(result["nll"] / np.log(2))
    # There are few agent steps to train on, so this baseline is about as good as persistence.
    assert result["memoryless_nll"] == pytest.approx(result["persistence_nll"], rel=0.3)
    assert result["memoryless_nll"] != result["nll"]
    loop = result["open_loop"]
    assert len(loop["predicted"]) == len(loop["persistence"]) == len(loop["reconstruction"]) == 15
    below = [d < f for d, f in zip(loop["predicted"], loop["persistence"], strict=True)] + [False]
    assert loop["steps_below_persistence"] == 4 * below.index(False)
    assert np.mean(loop["reconstruction"]) < np.mean(loop["predicted"])
    written = read_json(made / "evaluation" / "memory.json")
    assert written == result
    for name in ("memory", "dreams"):
        assert iio.imread(made / "evaluation" / f"{name}.png").std() > 1
    assert "memory" not in wm_json("info", "--run", made)["scores"]


def test_m_is_trained_with_as_many_members_as_asked(made: Path) -> None:
    _, memory = load_world_model(made)
    expected = 2 if made.name == "continuous" else 1
    assert len(getattr(memory, "members", [memory])) == expected


def test_a_dream_is_filmed_under_the_actions_of_an_agent_a_policy_or_a_file(
    made: Path, tmp_path: Path
) -> None:
    videos = {}
    np.save(tmp_path / "left.npy", np.tile([-1.0, 1.0, 0.0], (7, 1)))
    np.save(tmp_path / "right.npy", np.tile([1.0, 1.0, 0.0], (7, 1)))
    for name, flags in {
        "agent": (),
        "named": ("--agent", made / "controller" / "agent.safetensors"),
        "policy": ("--policy", "full gas"),
        "left": ("--actions", tmp_path / "left.npy"),
        "right": ("--actions", tmp_path / "right.npy"),
        "hot": ("--actions", tmp_path / "right.npy", "--temperature", 3),
    }.items():
        out = tmp_path / f"{name}.mp4"
        result = wm_json("dream", "--run", made, "--out", out, "--horizon", 12, *flags)
        videos[name] = iio.imread(out)
        assert result["frames"] == len(videos[name])
        assert np.isfinite(result["dreamed_return"]) and result["dreamed_return"] != 0
    assert len(videos["agent"]) == 12 and len(videos["left"]) == 7, "a file's actions run out"
    assert np.array_equal(videos["agent"], videos["named"])
    assert not np.array_equal(videos["agent"], videos["policy"])
    assert not np.array_equal(videos["left"], videos["right"])
    assert not np.array_equal(videos["hot"], videos["right"])
    first = [videos[name][0].astype(int) for name in ("left", "right")]
    assert np.abs(first[0] - first[1]).mean() < 2, "one moment to begin at, but for the codec"


def test_recording_in_the_dream_is_filming_the_agents_dream(made: Path, tmp_path: Path) -> None:
    wm_json("record", "--dream", "--run", made, "--out", tmp_path / "a.mp4", "--max-steps", 24)
    wm_json("dream", "--run", made, "--out", tmp_path / "b.mp4", "--horizon", 6)
    assert np.array_equal(iio.imread(tmp_path / "a.mp4"), iio.imread(tmp_path / "b.mp4"))


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (("--policy", "perfect"), "expected a policy among exploring, random, brownian"),
        (("--policy", "random", "--actions", "a.npy"), "at most one of --agent, --policy and"),
        (("--actions", "none.npy"), "none.npy is not a readable .npy file of actions"),
        (("--temperature", -1), "expected a finite temperature of at least 0, got -1.0"),
        (("--temperature", "nan"), "expected a finite temperature of at least 0, got nan"),
        (("--horizon", 0), "horizon must be at least 1, got 0"),
        (("--out", "dream.txt"), "expected a video name ending in .mp4 or .gif, got dream.txt"),
        (("--agent", "nobody"), "nobody"),
    ],
)
def test_bad_wishes_for_a_dream_are_refused(
    made: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    flags: tuple[str | int, ...],
    expected: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    refused("dream", "--run", made, *flags, expected=expected)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "actions", [np.zeros((4, 2)), np.zeros(3), np.full((4, 3), np.nan), np.array(["a"])]
)
def test_actions_of_another_shape_are_refused(
    made: Path, tmp_path: Path, actions: np.ndarray
) -> None:
    np.save(tmp_path / "actions.npy", actions)
    where = ("--actions", tmp_path / "actions.npy", "--out", tmp_path / "dream.mp4")
    refused("dream", "--run", made, *where, expected="expected finite actions of shape")
    assert not (tmp_path / "dream.mp4").exists()


def test_what_a_dream_promises_is_held_against_the_game(made: Path) -> None:
    few = ("--agents", 2, "--episodes", 1, "--starts", 4, "--samples", 2, "--workers", 1)
    result = wm_json("dream-check", "--run", made, *few)
    # Whole agent steps of four steps, near 10, 20, 50, 100 and 200 steps.
    assert list(result["horizons"]) == ["8", "20", "48", "100", "200"]
    assert len(result["scores"]) == 2
    for figures in result["horizons"].values():
        assert figures["start_states"] == 8
        for kind in ("dreamed", "unconstrained"):
            bias = figures[kind]["mean"] - figures["real_mean"]
            assert figures[kind]["bias"] == pytest.approx(bias, abs=1e-6)
            assert figures[kind]["rank_correlation"] in (
                None,
                pytest.approx(-1.0),
                pytest.approx(1.0),
            )
    assert iio.imread(made / "evaluation" / "dream-check.png").std() > 1
    assert wm_json("info", "--run", made)["memory"]["nll"] > 0


def test_an_agents_file_dreams_without_a_run(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(made / "controller" / "agent.safetensors", tmp_path)
    result = wm_json("dream", "--agent", "agent.safetensors", "--horizon", 3)
    assert result["frames"] == len(iio.imread("dream.mp4")) == 3


def test_a_temperature_is_refused_where_nothing_dreams(made: Path, tmp_path: Path) -> None:
    arguments = ("--run", made, "--out", tmp_path / "a.mp4", "--temperature", 1.15)
    refused("record", *arguments, expected="--temperature is an option of dreams: add --dream or")
    assert not list(tmp_path.iterdir())


def test_an_m_of_another_size_starts_a_later_round_anew(run: Path) -> None:
    store = Run(run).store
    store.add(len(store), store.episodes[0].load(), round=2)
    done = wm("train-memory", "--run", run, "--train-steps", 2, "--ensemble-size", 3)
    assert done.code == 0, done.error
    assert "the earlier M has another size or version" in done.output + done.error
    memory = load_world_model(run)[1]
    assert isinstance(memory, MemoryEnsemble) and len(memory.members) == 3


def test_a_dream_check_needs_agents_to_compare(made: Path) -> None:
    refused(
        "dream-check", "--run", made, "--agents", 1, expected="agents must be at least 2, got 1"
    )


def test_a_memory_of_another_v_is_refused_everywhere(run: Path) -> None:
    before = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
    wm_json("train-vision", "--run", run, "--train-steps", 3, *KINDS[run.name])
    words = "was trained on another V than"
    refused("evaluate-memory", "--run", run, expected=words)
    refused("train-controller", "--dream", "--run", run, expected=words)
    refused("dream", "--policy", "random", "--run", run, expected=words)
    memory = Run(run).weights("memory")
    assert memory.read_bytes() == before[memory]


def test_dreams_longer_than_the_episodes_are_refused(made: Path) -> None:
    refused(
        *("evaluate-memory", "--run", made, "--horizon", 400, "--quiet"),
        expected="shorten the dreams with --horizon",
    )
