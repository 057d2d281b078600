import time
from pathlib import Path

import pytest

from worldmodels import progress as report
from worldmodels.errors import UserError


@pytest.fixture
def output(monkeypatch: pytest.MonkeyPatch) -> tuple[list[str], list[float]]:
    """Return the lines that a report prints, and a clock that a test may set."""
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    lines = []
    monkeypatch.setattr(report.Report, "log", lambda self, text: lines.append(text))
    return lines, clock


def test_the_remaining_time_is_logged_once_from_the_speed_so_far(
    output: tuple[list[str], list[float]],
) -> None:
    lines, clock = output
    with report.Report(quiet=True).progress("train", total=100) as meter:
        for done in range(1, 101):
            clock[0] = 0.5 * done
            meter.to(done)
    assert lines == ["train: about 0:00:44 to go"]  # at step 11, after 5.5 s


def test_a_burst_of_episodes_is_no_speed(output: tuple[list[str], list[float]]) -> None:
    lines, clock = output
    with report.Report(quiet=True).progress("evaluate", total=100) as meter:
        for burst in range(3):
            clock[0] = 50.0 * (burst + 1)
            for _ in range(8):
                meter.advance()
    # At the second burst 9 of 100 are done after 100 s; not 1 after 50 s.
    assert lines == ["evaluate: about 0:16:51 to go"]


def test_a_resumed_stage_counts_only_what_it_did_itself(
    output: tuple[list[str], list[float]],
) -> None:
    lines, clock = output
    with report.Report(quiet=True).progress("train", total=100, done=50) as meter:
        for done in range(51, 101):
            clock[0] = 1.0 * (done - 50)
            meter.to(done)
    assert lines == ["train: about 0:00:39 to go"]


def test_what_does_not_fit_the_disk_is_refused(
    output: tuple[list[str], list[float]], tmp_path: Path
) -> None:
    lines, _ = output
    estimate = report.Report(quiet=True).estimate
    estimate("a little", disk_bytes=1e6, folder=tmp_path / "run")
    assert lines == ["a little; about 1.0 MB on disk"]
    with pytest.raises(UserError, match=r"needs about 1.0 PB, but the disk has only .* free: make"):
        estimate("too much", disk_bytes=1e15, folder=tmp_path / "run")


def test_a_plan_states_disk_and_memory(
    output: tuple[list[str], list[float]], tmp_path: Path
) -> None:
    lines, _ = output
    report.Report(quiet=True).estimate("M", disk_bytes=2e6, memory_bytes=1.26e9, folder=tmp_path)
    assert lines == ["M; about 2.0 MB on disk, 1.3 GB of RAM"]
