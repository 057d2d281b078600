"""Worker processes report errors, end with their parent process and leave nothing behind."""

import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest

from envs.processes import WorkerDiedError
from envs.vector import ProcessVectorEnv
from tests.fixtures.process_watch import is_running, wait_until
from tests.fixtures.talking_env import NUM_ENVS, Do, TalkingEnv, factories, random_actions


class UnwillingEnv(TalkingEnv):
    """An environment that takes a minute to close, if it is in a worker process."""

    def close(self) -> None:
        if multiprocessing.parent_process() is not None:
            time.sleep(60)


pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="kills by POSIX signals")


def test_workers_are_prepared() -> None:
    envs = ProcessVectorEnv(factories(), 2)
    expected = {
        "has torch": False,
        "threads of cv2": 1,
        "threads": 2,
        "driver": "dummy",
        "ignores ctrl-c": True,
    }
    assert envs.call("surroundings") == (expected,) * NUM_ENVS
    envs.close()


def test_closed_is_closed() -> None:
    envs = ProcessVectorEnv(factories(2), 2)
    envs.reset()
    workers = envs.get_attr("process_id")
    envs.close()
    envs.close()
    assert not any(map(is_running, workers))
    assert_closed(envs)


@pytest.mark.parametrize(
    ("action", "error", "message"),
    [(Do.RAISE, LookupError, "not that"), (Do.RAISE_PICKY, RuntimeError, "PickyError: not that")],
    ids=["as it is", "cannot be pickled"],
)
def test_an_environments_exception_is_raised_here(action: Do, error: Any, message: str) -> None:
    envs = ProcessVectorEnv(factories(), 2)
    envs.reset(seed=0)
    workers = envs.get_attr("process_id")
    actions = random_actions(1)[0]
    actions[3, 0] = action
    with pytest.raises(error, match=f"^{message}") as caught:
        envs.step(actions)
    assert type(caught.value) is error
    (note,) = caught.value.__notes__
    assert note.startswith("raised in a worker process:\nTraceback") and "in step" in note
    assert not any(map(is_running, workers))
    assert_closed(envs)


def test_a_factorys_exception_is_raised_here() -> None:
    def broken() -> Any:
        if multiprocessing.parent_process() is not None:
            raise LookupError("no such track")
        return TalkingEnv(0)

    with pytest.raises(LookupError, match="no such track"):
        ProcessVectorEnv([broken] * 2, 2)


@pytest.mark.parametrize(("index", "working"), [(0, False), (4, False), (0, True), (4, True)])
def test_a_killed_worker_is_an_error_at_once(
    index: int, working: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("envs.processes._CLOSE_SECONDS", 60.0)
    envs = ProcessVectorEnv(factories(), 2)
    envs.reset(seed=0)
    workers = envs.get_attr("process_id")
    actions = random_actions(1)[0]
    if working:
        actions[index, 0] = Do.DIE
    else:
        os.kill(workers[index], signal.SIGKILL)
        wait_until(lambda: not is_running(workers[index]), seconds=5)
    start = time.monotonic()
    with pytest.raises(WorkerDiedError, match=r"of 2 died with exit code -9 .*: run again with"):
        envs.step(actions)
    assert time.monotonic() - start < 30
    assert not any(map(is_running, workers))
    assert_closed(envs)


def test_after_an_exception_nobody_waits_for_the_other_workers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("envs.processes._CLOSE_SECONDS", 60.0)
    envs = ProcessVectorEnv(factories(), 2)
    envs.reset(seed=0)
    workers = envs.get_attr("process_id")
    actions = random_actions(1)[0]
    actions[0, 0], actions[4, 0] = Do.RAISE, Do.HANG
    start = time.monotonic()
    with pytest.raises(LookupError, match="that"):
        envs.step(actions)
    assert time.monotonic() - start < 30
    assert not any(map(is_running, workers))


def test_a_worker_that_does_not_close_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("envs.processes._CLOSE_SECONDS", 0.2)
    envs = ProcessVectorEnv([partial(UnwillingEnv, 0)], 1)
    (worker,) = envs.get_attr("process_id")
    envs.close()
    assert not is_running(worker)


def assert_closed(envs: ProcessVectorEnv) -> None:
    for use in (
        envs.reset,
        partial(envs.step, random_actions(1)[0]),
        envs.render,
        partial(envs.set_attr, "left", 1),
    ):
        with pytest.raises(gym.error.ClosedEnvironmentError, match="expected an open vector"):
            use()


def test_workers_end_when_nobody_holds_the_vector() -> None:
    envs = ProcessVectorEnv(factories(2), 2)
    workers = envs.get_attr("process_id")
    del envs
    gc.collect()
    assert not any(map(is_running, workers))


SCRIPT = """
import sys
from envs.vector import ProcessVectorEnv
from tests.fixtures.talking_env import factories, random_actions

if __name__ == "__main__":
    print("starting", flush=True)
    envs = ProcessVectorEnv(factories(), 2)
    envs.reset(seed=0)
    print(*sorted(set(envs.get_attr("process_id"))), flush=True)
    if sys.argv[1] == "raise":
        raise SystemExit("enough")
    while sys.argv[1] == "step":
        envs.step(random_actions(1)[0])
"""


def start_script(tmp_path: Path, what: str) -> subprocess.Popen[str]:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    return subprocess.Popen(
        [sys.executable, script, what],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # a terminal of its own, as to Ctrl-C
        # A shell that runs the tests in the background has its children ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def assert_nothing_is_left(script: subprocess.Popen[str], workers: list[int]) -> None:
    wait_until(lambda: not any(map(is_running, workers)), seconds=10)
    memory = Path("/dev/shm")
    if memory.exists():
        assert [path for path in memory.iterdir() if str(script.pid) in path.name] == []


@pytest.mark.parametrize(
    ("what", "sent", "error"),
    [
        ("return", None, ""),
        ("raise", None, "enough\n"),
        ("step", signal.SIGKILL, ""),
        ("step", signal.SIGINT, "KeyboardInterrupt\n"),
    ],
    ids=["not closed", "exception", "killed", "ctrl-c"],
)
def test_nothing_is_left_behind(tmp_path: Path, what: str, sent: Any, error: str) -> None:
    script = start_script(tmp_path, what)
    assert script.stdout is not None and script.stdout.readline() == "starting\n"
    workers = [int(word) for word in script.stdout.readline().split()]
    assert len(workers) == 2
    if sent == signal.SIGINT:
        os.killpg(script.pid, sent)  # as a terminal does: to workers, too
    elif sent is not None:
        script.send_signal(sent)
    _, error_output = script.communicate(timeout=20)
    assert error_output.endswith(error) and error_output.count("Traceback") == (
        sent == signal.SIGINT
    )
    assert "resource_tracker" not in error_output and (error or error_output == "")
    assert_nothing_is_left(script, workers)


@pytest.mark.parametrize("seconds", [0.1, 0.3])
def test_ctrl_c_while_workers_start_is_the_parents_alone(tmp_path: Path, seconds: float) -> None:
    script = start_script(tmp_path, "step")
    assert script.stdout is not None and script.stdout.readline() == "starting\n"
    time.sleep(seconds)
    os.killpg(script.pid, signal.SIGINT)
    out, error_output = script.communicate(timeout=20)
    assert error_output.endswith("KeyboardInterrupt\n") and error_output.count("Traceback") == 1, (
        error_output
    )
    assert_nothing_is_left(script, [int(word) for word in out.split()])
