"""`wm compare`: runs side by side, as a table and as curves; its refusals."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import pytest

from tests.fixtures.command import wm, wm_json
from worldmodels.runs.json_files import read_json, write_json

BEST: dict[str, Any] = {
    "round": 2,
    "mean": 512.5,
    "std": 30.0,
    "protocol": {"split": "selection", "episodes": 20},
}
ROWS = [
    {"round": 1, "seconds": 60, "score": 100.0, "std": 9.0, "env_steps": 4_000},
    {"round": 2, "seconds": 90, "score": 512.5, "std": 30.0, "env_steps": 9_000},
]


@pytest.fixture
def runs(tmp_path: Path) -> tuple[Path, Path]:
    """Two runs with an agent each; the second one was scored on fewer episodes."""
    first, second = tmp_path / "first", tmp_path / "second"
    wm_json("collect", "--run", first, "--preset", "tiny", "--episodes", 2, "--max-steps", 20)
    shutil.copytree(first, second)
    for folder, episodes, mean in ((first, 20, 512.5), (second, 8, -3.0)):
        protocol = {**BEST["protocol"], "episodes": episodes}
        write_json(folder / "best.json", {"best": {**BEST, "mean": mean, "protocol": protocol}})
    write_json(first / "rounds.json", ROWS)
    return first, second


def test_a_row_per_run_and_curves_of_those_with_rounds(runs: tuple[Path, Path]) -> None:
    out = runs[0].parent / "out"
    before = {path: path.read_bytes() for path in runs[0].rglob("*") if path.is_file()}
    result = wm_json("compare", *runs, "--out", out)
    with (out / "comparison.csv").open() as file:
        first, second = csv.DictReader(file)
    assert (first["run"], first["score"], first["round"]) == (str(runs[0]), "512.5", "2")
    assert (second["score"], second["vision_error"]) == ("-3.0", "")
    assert first["env_steps"] == "40" and first["latents"] == "continuous"
    assert result["comparable"] is False and "20 selection" in first["protocol"]
    assert iio.imread(out / "comparison.png").std() > 1
    assert before == {path: path.read_bytes() for path in before}


def test_scores_of_one_protocol_are_comparable(runs: tuple[Path, Path]) -> None:
    best = read_json(runs[1] / "best.json")
    best["best"]["protocol"]["episodes"] = 20
    write_json(runs[1] / "best.json", best)
    out = runs[0].parent / "out"
    assert wm_json("compare", *runs, "--out", out)["comparable"] is True
    printed = wm("compare", *runs, "--out", out, "--quiet").output
    assert "not comparable" not in printed and "512.5" in printed and "-3.0" in printed


def test_what_cannot_be_compared_is_one_line(runs: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    for given, expected in (
        ((runs[0], tmp_path / "none"), "no run in"),
        ((runs[0], runs[0]), "got one of them twice"),
    ):
        done = wm("compare", *given, "--out", out)
        assert done.code == 2 and expected in done.error and done.error.count("\n") == 1
    (runs[1] / "best.json").write_text(json.dumps({}))
    done = wm("compare", *runs, "--out", out)
    assert done.code == 2 and "has no agent that could be compared" in done.error
    assert not out.exists()
