"""A search logs its time, its figures and its curves."""

import time
from collections.abc import Container
from pathlib import Path
from typing import NoReturn

import imageio.v3 as iio
import numpy as np
import pytest

from tests.fixtures.fake_scores import scores
from worldmodels.controller.search_context import SearchContext
from worldmodels.controller.search_log import SearchLog, Stopwatch, draw_history
from worldmodels.progress import Report
from worldmodels.runs.stage_folder import StageFolder


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return a list whose only number is the time, which a test may set."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_time_spent_looking_is_no_time_of_the_search(clock: list[float]) -> None:
    watch = Stopwatch()
    clock[0] += 5.0
    assert watch.seconds == 5.0
    with watch.paused():
        clock[0] += 70.0
    assert watch.seconds == 5.0
    clock[0] += 2.0
    assert watch.seconds == 7.0
    with watch.paused():
        clock[0] += 70.0
    watch.steps += 14
    assert watch.seconds == 7.0 and watch.steps_per_second == 2.0


def test_a_look_that_fails_does_not_stop_the_watch(clock: list[float]) -> None:
    watch = Stopwatch()

    def evaluation() -> NoReturn:
        with watch.paused():
            clock[0] += 70.0
            raise KeyboardInterrupt("now")

    with pytest.raises(KeyboardInterrupt, match="now"):
        evaluation()
    clock[0] += 3.0
    assert watch.seconds == 3.0


def test_a_resumed_search_counts_on_and_its_speed_is_its_own(clock: list[float]) -> None:
    watch = Stopwatch(seconds=40.0, steps=1000)
    clock[0] += 10.0
    watch.steps += 500
    assert watch.seconds == 50.0 and watch.steps == 1500
    assert watch.steps_per_second == 50.0


def cmaes(*, evaluations: Container[int]) -> list[dict[str, float]]:
    return [
        {
            "generation": generation,
            "best": 3.0 * generation,
            "mean": 2.0 * generation,
            "std": 0.5,
            "sigma": 0.1 / generation,
            "steps_per_second": 1000.0 + generation,
            **({"real_score": 100.0 * generation} if generation in evaluations else {}),
        }
        for generation in range(1, 6)
    ]


def gradient(count: int = 3, **more: float) -> list[dict[str, float]]:
    return [
        {
            "step": 10 * evaluation,
            "dreamed_return": float(evaluation) ** 2,
            "real_score": 50.0 * evaluation,
            "steps_per_second": 900.0,
            **more,
        }
        for evaluation in range(1, count + 1)
    ]


HISTORIES = {
    "cmaes without an evaluation": (cmaes(evaluations=()), "generation"),
    "cmaes with some": (cmaes(evaluations=(2, 5)), "generation"),
    "cmaes, one entry": (cmaes(evaluations=(1,))[:1], "generation"),
    "gradient": (gradient(), "step"),
    "gradient, one look": (gradient(1), "step"),
    "scores alone": ([{"step": 1, "real_score": 2.0}, {"step": 2, "real_score": 3.0}], "step"),
    "a speed unknown": (gradient(steps_per_second=float("nan")), "step"),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", HISTORIES)
def test_every_history_has_its_curves(tmp_path: Path, name: str) -> None:
    history, unit = HISTORIES[name]
    draw_history(tmp_path / "curve.png", history, unit)
    picture = iio.imread(tmp_path / "curve.png")
    assert picture[..., :3].std() > 5 and picture.shape[1] > 500


def colored(path: Path, rgb: tuple[int, int, int]) -> int:
    """Count the pixels of a color."""
    picture = iio.imread(path)[..., :3].astype(int)
    return int((np.abs(picture - np.array(rgb)).sum(-1) < 30).sum())


@pytest.mark.parametrize("made", [cmaes(evaluations=(2, 5)), gradient()], ids=["cmaes", "gradient"])
def test_the_real_score_is_drawn_beside_what_is_climbed(
    tmp_path: Path, made: list[dict[str, float]]
) -> None:
    unit = "step" if "step" in made[0] else "generation"
    blind = [{k: v for k, v in entry.items() if k != "real_score"} for entry in made]
    draw_history(tmp_path / "both.png", made, unit)
    draw_history(tmp_path / "blind.png", blind, unit)
    climbed, real = (255, 127, 14), (44, 160, 44)  # C1 and C2
    assert (
        colored(tmp_path / "both.png", real) > 20 and colored(tmp_path / "both.png", climbed) > 20
    )
    assert colored(tmp_path / "blind.png", real) == 0


class Output:
    """A writer of TensorBoard events that keeps the events in a list."""

    def __init__(self) -> None:
        self.scalars: list[tuple[str, float, int]] = []

    def add_scalar(self, name: str, value: float, step: int) -> None:
        self.scalars.append((name, value, step))


def test_of_many_short_steps_only_some_are_told(tmp_path: Path) -> None:
    events = Output()
    with Report(quiet=True).progress("controller", total=100) as meter:
        log = SearchLog(tmp_path, "step", meter, events)
        for step in range(1, 51):
            log.progress(step, {"norm": float(step)}, sparse=True)
        log.record(50, {"real_score": 7.0})
    assert events.scalars == [
        ("controller/norm", 20.0, 20),
        ("controller/norm", 40.0, 40),
        ("controller/real_score", 7.0, 50),
    ]


def test_a_log_leaves_events_and_a_curve_in_the_stage_s_folder(tmp_path: Path) -> None:
    work = StageFolder(tmp_path / "partial", tmp_path / "final", {})
    context = SearchContext(work, 0, 1, lambda parameters: scores(0.0), Report(quiet=True))
    with context.log("generation", total=5) as log:
        for entry in cmaes(evaluations=(5,)):
            log.progress(int(entry["generation"]), {"mean": entry["mean"]})
        log.draw(cmaes(evaluations=(5,)))
    assert list((work.partial / "events").glob("events.*"))
    assert iio.imread(work.partial / "controller.png").std() > 5
