"""Ctrl-C and `kill` end a command, and all processes of the command, within seconds."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from signal import Signals
from typing import Any

import pytest

from tests.fixtures.process_watch import is_running, wait_until

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/task").exists(), reason="finds processes as Linux lists them"
)
SECONDS = 3.0


def start(*arguments: object, **settings: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # a terminal of its own, as to Ctrl-C
        # A shell that runs the tests in the background has its children ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        **settings,
    )


def collect(run: Path, *options: object) -> subprocess.Popen[str]:
    """Start a collection that would take an hour."""
    command = ("-m", "worldmodels", "collect", "--run", run, "--env", "CartPole-v1", "--quiet")
    return start(*command, "--policy", "random", "--episodes", 20_000, *options)


def children(process_id: int) -> list[int]:
    """Return the ids of the processes that a process started, directly or through others."""
    found = []
    for path in Path(f"/proc/{process_id}/task").glob("*/children"):
        for child in map(int, path.read_text().split()):
            found += [child, *children(child)]
    return found


def spawned(process: subprocess.Popen[str]) -> list[int]:
    """Return the ids of the child processes that are workers or will become workers."""
    return [each for each in children(process.pid) if b"spawn_main" in command_line(each)]


def command_line(process_id: int) -> bytes:
    try:
        return Path(f"/proc/{process_id}/cmdline").read_bytes()
    except OSError:
        return b""


def assert_ends(
    begin: Callable[[], subprocess.Popen[str]],
    sent: signal.Signals,
    code: int,
    to_group: bool = False,
) -> str:
    """Assert that a process started by `begin` ends in time, and return its output on stderr.

    Two of three tries may take too long, because some machines stand still for seconds.
    """
    seconds: list[float] = []
    while min(seconds, default=SECONDS) >= SECONDS:
        assert len(seconds) < 3, seconds
        process = begin()
        started = children(process.pid)
        sent_at = time.monotonic()
        (os.killpg if to_group else os.kill)(process.pid, sent)
        _, error_output = process.communicate(timeout=60)
        wait_until(lambda: not any(map(is_running, started)), 60)  # noqa: B023  called at once
        seconds.append(time.monotonic() - sent_at)
        assert process.returncode == code, error_output
    return error_output


@pytest.mark.parametrize(
    ("sent", "to_group", "code"),
    [
        (signal.SIGINT, False, 130),
        (signal.SIGINT, True, 130),
        (signal.SIGTERM, False, -signal.SIGTERM),
    ],
    ids=["interrupt", "ctrl-c in a terminal", "kill"],
)
@pytest.mark.parametrize("when", ["importing", "playing"])
def test_a_collection_with_workers_ends_at_once(
    tmp_path: Path, sent: Signals, to_group: bool, code: int, when: str
) -> None:
    def begin() -> subprocess.Popen[str]:
        run = Path(tempfile.mkdtemp(dir=tmp_path))
        process = collect(run, "--workers", 2)
        wait_until(lambda: len(spawned(process)) == 2, 60)
        if when == "playing":
            wait_until(lambda: len(list((run / "episodes").glob("*.npz"))) > 8, 60)
        return process

    error_output = assert_ends(begin, sent, code, to_group)
    if code == 130:  # a process that was being started when its parent was killed may complain
        assert error_output == "stopped: run the same command again\n"


@pytest.mark.parametrize(
    ("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM)]
)
def test_a_collection_in_this_process_ends_at_once(
    tmp_path: Path, sent: Signals, code: int
) -> None:
    def begin() -> subprocess.Popen[str]:
        run = Path(tempfile.mkdtemp(dir=tmp_path))
        process = collect(run, "--workers", 1)
        wait_until(lambda: len(list((run / "episodes").glob("*.npz"))) > 8, 60)
        return process

    assert_ends(begin, sent, code)


WITHIN_EXEC = """
import sys
import worldmodels.stages.info
worldmodels.stages.info.install_info = lambda: exec("raise KeyboardInterrupt")
sys.argv = ["wm", "info"]
from worldmodels.cli import main
main()
"""


def test_ctrl_c_while_a_library_is_imported_is_130() -> None:
    done = start("-c", WITHIN_EXEC)
    done.communicate(timeout=60)
    assert done.returncode == 130


# Draws at once, then each step takes a minute: as long as the slowest of environments.
SLOW_ENVS = """
import time
import gymnasium as gym
from envs.vector import ProcessVectorEnv

class SlowCartPole(gym.Wrapper):
    def __init__(self):
        super().__init__(gym.make("CartPole-v1", render_mode="rgb_array"))

    def step(self, action):
        time.sleep(60)

if __name__ == "__main__":
    envs = ProcessVectorEnv([SlowCartPole] * 2, 2)
    envs.reset(seed=0)
    envs.render()
    print("ready", flush=True)
    envs.step(envs.action_space.sample())
"""


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, -2), (signal.SIGTERM, -15)])
def test_a_vector_of_slow_environments_ends_at_once(
    tmp_path: Path, sent: Signals, code: int
) -> None:
    script = tmp_path / "slow_envs.py"
    script.write_text(SLOW_ENVS)

    def begin() -> subprocess.Popen[str]:
        process = start(script)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.2)
        return process

    assert_ends(begin, sent, code)


# Results of 200 MB: the signal comes while a worker is in the middle of one.
LARGE_RESULTS = """
from agents.workers import Workers

def zeros(number):
    return bytes(200_000_000)

if __name__ == "__main__":
    with Workers(2) as workers:
        for result in workers.map(zeros, range(10_000)):
            print(len(result), flush=True)
"""


def test_workers_in_the_middle_of_a_large_result_end_at_once(tmp_path: Path) -> None:
    script = tmp_path / "large_results.py"
    script.write_text(LARGE_RESULTS)

    def begin() -> subprocess.Popen[str]:
        process = start(script)
        assert process.stdout is not None
        assert process.stdout.readline() == "200000000\n"
        return process

    assert_ends(begin, signal.SIGINT, -2)


# An import in which Ctrl-C is swallowed, or becomes another exception, as in matplotlib and NumPy.
WITHIN_IMPORT = """
import os, signal, sys, time
import worldmodels.stages.info

def importing():
    try:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1)
    except BaseException:
        {then}
    {afterwards}
    return dict()

worldmodels.stages.info.install_info = importing
sys.argv = ["wm", "info"]
from worldmodels.cli import main
main()
"""


@pytest.mark.parametrize(
    ("then", "afterwards"),
    [
        ("pass", "time.sleep(60)"),
        ("pass", "pass"),
        ("raise ImportError('initialization failed')", "pass"),
        ("raise OSError('initialization failed')", "pass"),
    ],
    ids=["swallowed", "swallowed at the end", "another exception", "a user's mistake"],
)
def test_ctrl_c_that_a_library_keeps_for_itself_still_ends_the_command(
    then: str, afterwards: str
) -> None:
    process = start("-c", WITHIN_IMPORT.format(then=then, afterwards=afterwards))
    begin = time.monotonic()
    _, error_output = process.communicate(timeout=60)
    assert process.returncode == 130 and error_output.splitlines()[-1].startswith("stopped:")
    assert time.monotonic() - begin < 20  # of which most are imports


# Workers that cannot see that their parent has ended, as during a long import: a search of a
# regular expression lets no other thread run. And a command that keeps Ctrl-C for itself.
BUSY_WORKERS = """
import re, sys, time
import worldmodels.stages.info
from agents.workers import Workers

def search(length):
    re.match("(a+)+$", "a" * length + "b")

def keeps_interrupts():
    with Workers(2) as workers:
        for _ in workers.map(search, [1, 1, 40, 40]):
            print("ready", flush=True)
            try:
                time.sleep(60)
            except BaseException:
                time.sleep(60)

if __name__ == "__main__":
    worldmodels.stages.info.install_info = keeps_interrupts
    sys.argv = ["wm", "info"]
    from worldmodels.cli import main
    main()
"""


def test_a_command_ended_by_force_leaves_no_workers(tmp_path: Path) -> None:
    script = tmp_path / "busy_workers.py"
    script.write_text(BUSY_WORKERS)

    def begin() -> subprocess.Popen[str]:
        process = start(script)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.5)
        assert len(spawned(process)) == 2
        return process

    error_output = assert_ends(begin, signal.SIGINT, 130)
    assert error_output == "stopped: run the same command again\n"
