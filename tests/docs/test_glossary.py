"""docs/glossary.md defines every key of a result in the section of the result's stage."""

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.fixtures.command import wm_json
from tests.fixtures.tiny_run import tiny_run
from tests.fixtures.trained_run import train_tiny_run
from worldmodels.runs.env_steps import PURPOSES
from worldmodels.runs.run import Run
from worldmodels.stages.info import HEADLINES

GLOSSARY = Path(__file__).parents[2] / "docs" / "glossary.md"
COMMON = ("Any command", "Training, any stage")
# Below these keys, names come from the data: files, digests, estimators and the like.
NAMED_BY_DATA = {"digests", "versions", "scores", "damaged", "foreign", "inconsistent"}


def glossary_keys() -> dict[str, set[str]]:
    """Return a dict from section titles to the words in backticks in the section's columns "key".

    The title is the part of the heading before a colon. Columns "tag" count as columns "key".
    """
    sections: dict[str, set[str]] = defaultdict(set)
    title, column = "", None
    for line in GLOSSARY.read_text().splitlines():
        if line.startswith("#"):
            title = line.strip("# ").partition(":")[0]
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("|"):
            column = None
        elif column is None:
            column = next((i for i, name in enumerate(cells) if name in ("key", "tag")), -1)
        elif column >= 0:
            sections[title].update(re.findall(r"`([^`]+)`", cells[column]))
    return sections


def keys_of(value: Any) -> Iterator[str]:
    """Yield all keys of a result and of the objects within the result."""
    if isinstance(value, dict):
        for key, each in value.items():
            if not key.isdigit():  # a number of steps
                yield key
            if key not in NAMED_BY_DATA:
                yield from keys_of(each)
    elif isinstance(value, list):
        for each in value:
            yield from keys_of(each)


def check_defined(section: str, result: Any) -> None:
    """Check that the section, or a section for all stages, defines every key of the result."""
    sections = glossary_keys()
    known = set().union(*(sections[name] for name in (section, *COMMON)))
    missing = sorted(set(keys_of(result)) - known)
    assert not missing, f'docs/glossary.md, section "{section}", does not define {missing}'


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Make a run with latents, whose stages are trained for a few steps."""
    folder = tmp_path_factory.mktemp("runs") / "latents"
    train_tiny_run(folder)
    return Run(folder)


@pytest.fixture(scope="module")
def codes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a run with codes, and return its folder."""
    run = tiny_run(tmp_path_factory.mktemp("runs") / "codes", "fsq")
    run.write_json("run.json", asdict(replace(run.settings, quantized=True)))
    return run.folder


@pytest.mark.parametrize("stage", HEADLINES)
def test_headlines_are_defined(stage: str) -> None:
    check_defined(stage.capitalize(), dict.fromkeys(HEADLINES[stage].split()))


def test_results_of_stages_are_defined(run: Run) -> None:
    for section in ("Vision", "Memory", "Controller"):
        result = run.result(section.lower())
        assert result is not None
        env_steps = result.pop("env_steps", {})
        check_defined(section, result)
        check_defined("Run", env_steps)
    check_defined("Data", run.read_json("collect/result.json"))
    check_defined("Data", run.store.episodes[0].meta)


def test_files_of_a_run_are_defined(run: Run) -> None:
    check_defined("Run", [run.settings.__dict__, dict.fromkeys(PURPOSES)])
    best = run.read_json("best.json")
    protocol = best["best"].pop("protocol")
    check_defined("Run", best)
    assert protocol["episodes"] == 2
    for stage in ("collect", "vision", "controller"):
        check_defined("Run", dict.fromkeys(run.manifest(stage) or {}))


def test_what_commands_print_is_defined(run: Run) -> None:
    arguments = ("--run", run)
    check_defined("Data", wm_json("data", "info", *arguments))
    check_defined("Run", wm_json("info"))
    printed = wm_json("info", *arguments)
    for stage in HEADLINES.keys() & printed.keys():
        stages = printed.pop(stage)
        if isinstance(stages, dict):
            known = {"round", "seconds", "stale", "damaged"}
            headlines = {name: value for name, value in stages.items() if name not in known}
            check_defined(stage.capitalize(), headlines)
    check_defined("Run", printed)
    check_defined("Run", wm_json("compare", run, "--out", run.folder.parent / "compared"))
    evaluated = wm_json("evaluate", *arguments, "--episodes", 1, "--workers", 1, "--no-baselines")
    check_defined("Evaluation", evaluated)
    video = ("--horizon", 2, "--out", run.folder.parent / "dream.gif")
    check_defined("Evaluation", wm_json("dream", *arguments, *video))
    lengths = ("--horizon", 8, "--starts", 2, "--samples", 1)
    check_defined("Memory", wm_json("evaluate-memory", *arguments, *lengths))


def test_results_over_codes_are_defined(codes: Path) -> None:
    arguments = ("--run", codes)
    check_defined("Prior", wm_json("train-prior", *arguments, "--train-steps", 2))
    check_defined("Prior", wm_json("surprise", *arguments, "--starts", 2, "--horizon", 2))
    picture = ("--out", codes / "samples.png", "--count", 4)
    check_defined("Prior", wm_json("sample", *arguments, "--prior", *picture))
    check_defined("Vision", wm_json("train-vision", *arguments, "--quantized", "--train-steps", 2))


@pytest.mark.parametrize("stage", ["vision", "memory", "controller"])
def test_tensorboard_events_are_defined(run: Run, stage: str) -> None:
    events = EventAccumulator(str(run.folder / stage / "events"))
    events.Reload()
    tags = events.Tags()["scalars"]
    sections = glossary_keys()
    known = sections[stage.capitalize()] | sections["Training, any stage"]
    missing = [
        tag
        for tag in tags
        if tag not in sections["TensorBoard"]
        and tag.removeprefix(f"{stage}/").removeprefix("val/") not in known
    ]
    assert tags and not missing


@pytest.mark.slow
def test_results_of_experiments_are_defined(run: Run, tmp_path: Path) -> None:
    lengths = ("--agents", 2, "--episodes", 1, "--starts", 2, "--samples", 1, "--workers", 1)
    check_defined("Evaluation", wm_json("dream-check", "--run", run, *lengths))
    search = ("--evaluations", 4, "--batch", 4, "--cells", 2, "--episodes", 1, "--max-steps", 10)
    drive = wm_json("elites", "drive", "--run", run, *search, "--workers", 1)
    check_defined("Run", drive.pop("env_steps"))
    check_defined("Elites", drive)
    arm = ("--joints", 4, "--operator", "vae", "--evaluations", 500, "--out", tmp_path / "arm")
    check_defined("Elites", wm_json("elites", "arm", *arm))
    solve = ("--archive", tmp_path / "arm", "--evaluations", 20)
    check_defined("Elites", wm_json("elites", "solve", *solve))
    result = wm_json("bbvi", "--train-steps", 20, "--out", tmp_path / "bbvi")
    for where in ("gradient_variance", "cut"):
        for estimators in result["variance"][where].values():
            estimators.clear()  # named by data
    check_defined("Variational inference", result)
