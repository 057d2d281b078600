"""`wm compare` shows runs as a table and as curves, and refuses what it cannot compare."""

import csv
import json
import shutil
from pathlib import Path

import imageio.v3 as iio
import pytest

from agents.protocol import EvaluationProtocol
from envs.config import EnvConfig
from tests.fixtures.command import wm, wm_json
from tests.fixtures.tiny_run import tiny_run
from worldmodels.controller.best_agent import Selection
from worldmodels.runs.json_files import read_json, write_json

ENV = EnvConfig("CarRacing-v3")
ROUNDS = [
    {"round": 1, "seconds": 60, "score": 100.0, "std": 9.0, "env_steps": 4_000, "episodes": 20},
    {"round": 2, "seconds": 90, "score": 512.5, "std": 30.0, "env_steps": 9_000, "episodes": 20},
]


def write_best(run: Path, episodes: int, mean: float) -> None:
    """Write the record of a run's best agent, as `keep_best` writes it."""
    selection = Selection(EvaluationProtocol.of(ENV, "selection", episodes), mean, 30.0)
    write_json(run / "best.json", {"compared": "", "best": {"round": 2, **selection.to_dict()}})


@pytest.fixture
def runs(tmp_path: Path) -> tuple[Path, Path]:
    """Make two runs with V, M and an agent; the second agent was scored on fewer episodes."""
    first, second = tmp_path / "first", tmp_path / "second"
    tiny_run(first)
    shutil.copytree(first, second)
    write_best(first, 20, 512.5)
    write_best(second, 8, -3.0)
    write_json(first / "rounds.json", ROUNDS)
    return first, second


def test_a_row_per_run_and_curves_of_those_with_rounds(runs: tuple[Path, Path]) -> None:
    out = runs[0].parent / "out"
    before = {path: path.read_bytes() for path in runs[0].parent.rglob("*") if path.is_file()}
    result = wm_json("compare", *runs, "--out", out)
    with (out / "comparison.csv").open() as file:
        first, second = csv.DictReader(file)
    assert (first["run"], first["score"], first["best_round"]) == (str(runs[0]), "512.5", "2")
    assert (second["score"], second["vision_error"], second["test_score"]) == ("-3.0", "", "")
    assert (first["rounds"], second["rounds"]) == ("2", "0")
    assert first["env_steps"] == "26" and first["vision"] == "vae" and first["preset"] == "tiny"
    assert first["protocol"] == "20 selection episodes of CarRacing-v3"
    assert result["comparable"] is False
    assert iio.imread(out / "comparison.png").std() > 1
    after = {path for path in runs[0].parent.rglob("*") if path.is_file()}
    assert after == {*before, out / "comparison.csv", out / "comparison.png"}
    assert before == {path: path.read_bytes() for path in before}


def test_scores_of_different_protocols_are_marked(runs: tuple[Path, Path]) -> None:
    out = runs[0].parent / "out"
    printed = wm("compare", *runs, "--out", out, "--quiet").output
    assert "not comparable" in printed and "8 selection episodes of CarRacing-v3" in printed
    write_best(runs[1], 20, -3.0)
    assert wm_json("compare", *runs, "--out", out)["comparable"] is True
    printed = wm("compare", *runs, "--out", out, "--quiet").output
    assert "not comparable" not in printed and "512.5" in printed and "-3.0" in printed


def test_one_run_without_an_agent_has_its_models_compared(runs: tuple[Path, Path]) -> None:
    (runs[1] / "best.json").unlink()
    out = runs[0].parent / "out"
    result = wm_json("compare", runs[1], "--out", out)
    (row,) = result["runs"]
    assert row["score"] is None and row["protocol"] is None and row["vision"] == "vae"
    assert result["comparable"] is True and result["files"] == [str(out / "comparison.csv")]


def test_the_test_score_is_the_unperturbed_one_over_most_episodes(
    runs: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def row(mean: float, episodes: int) -> dict[str, object]:
        return {"mean": mean, "std": 1.0, "returns": [mean] * episodes}

    rows = {
        "test-fast-4-agent": row(1.0, 4),
        "test-stock-8-agent": row(2.0, 8),
        "test-fast-8-agent": row(3.0, 8),
        "test-stock-bars-16-agent": row(4.0, 16),
        "validation-fast-20-agent": row(5.0, 20),
        "test-fast-20-random": row(6.0, 20),
    }
    monkeypatch.setattr("worldmodels.stages.compare.all_evaluations", lambda run: rows)
    (result,) = wm_json("compare", runs[0], "--out", runs[0].parent / "out")["runs"]
    assert (result["test_score"], result["test_protocol"]) == (2.0, "test-stock-8-agent")


def test_what_cannot_be_compared_is_one_line(runs: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    empty = tmp_path / "empty"
    shutil.copytree(runs[0] / "episodes", empty / "episodes")
    shutil.copy(runs[0] / "run.json", empty)
    for given, place, expected in (
        ((runs[0], tmp_path / "none"), out, "no run in"),
        ((runs[0], runs[0]), out, "got the same run twice"),
        ((runs[0], empty), out, "has no result to compare"),
        ((runs[0],), runs[0] / "out", "name another folder with --out"),
    ):
        done = wm("compare", *given, "--out", place)
        assert done.code == 2 and expected in done.error and done.error.count("\n") == 1
    record = read_json(runs[1] / "best.json")
    del record["best"]["protocol"]
    for damaged in ("{}", "[]", json.dumps(record)):
        (runs[1] / "best.json").write_text(damaged)
        done = wm("compare", *runs, "--out", out)
        assert done.code == 2 and "is not what this version expects" in done.error
    assert not out.exists()
