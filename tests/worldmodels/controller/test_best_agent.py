"""A run keeps its best agent until a better agent replaces it."""

import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest
import torch
from torch import Tensor

from agents.evaluation import Scores
from agents.protocol import EvaluationProtocol
from tests.fixtures.fake_scores import scores
from worldmodels.controller.agent_file import agent_file
from worldmodels.controller.best_agent import Selection, keep_best
from worldmodels.errors import UserError
from worldmodels.runs import checkpoint
from worldmodels.runs.checkpoint import load_checkpoint, save_checkpoint
from worldmodels.runs.env_steps import env_steps
from worldmodels.runs.run import Run
from worldmodels.runs.run_lock import write_lock
from worldmodels.runs.run_settings import RunSettings

ENV_ID = "Tiny-v0"


@pytest.fixture
def run(tmp_path: Path) -> Run:
    made = Run(tmp_path / "a", new=RunSettings(ENV_ID, "demo", 0))
    made.create()
    return made


def protocol(episodes: int) -> EvaluationProtocol:
    return EvaluationProtocol(ENV_ID, "selection", episodes)


def finish_search(run: Run, score: float, *, round_: int = 1, episodes: int = 20) -> Path:
    """Save the agent of a round, with only the parts that selecting the best agent needs."""
    selection = Selection(protocol(episodes), score, 1.0).to_dict()
    details = {"selection": selection, "made_by": {"round": round_}}
    parameters = {"controller.parameters": torch.tensor([[float(round_)]])}
    save_checkpoint(run.weights("controller"), parameters, {"metadata": details})
    return run.weights("controller")


def round_in(file: Path) -> int:
    return int(load_checkpoint(file, hint="none").tensors["controller.parameters"])


def selected_round(run: Run) -> int:
    return round_in(run.folder / "best.safetensors")


def never(path: Path, protocol: EvaluationProtocol) -> NoReturn:
    raise AssertionError(f"{path} was evaluated under {protocol}")


class Plays:
    """Evaluates agents by given returns, and records the agent and the episodes of each call."""

    def __init__(self, returns: dict[tuple[int, int], float]) -> None:
        self.returns = returns
        self.played: list[tuple[int, int]] = []

    def __call__(self, path: Path, protocol: EvaluationProtocol) -> Scores:
        key = round_in(path), protocol.episodes
        self.played.append(key)
        return scores(*[self.returns[key]] * protocol.episodes)


def test_the_first_agent_is_the_best_one(run: Run) -> None:
    newest = finish_search(run, -5.0)
    best = keep_best(run, never)
    assert (best.round, best.selection.mean) == (1, -5.0)
    assert (run.folder / "best.safetensors").read_bytes() == newest.read_bytes()


def test_a_better_agent_replaces_the_best_one_and_a_worse_one_does_not(run: Run) -> None:
    kept = []
    for round_, score in enumerate((10.0, 12.0, 11.0, 12.0, 13.0), start=1):
        finish_search(run, score, round_=round_)
        best = keep_best(run, never)
        assert best.round == selected_round(run)
        kept.append((best.round, best.selection.mean))
    # An agent that is equally good does not replace the earlier agent.
    assert kept == [(1, 10.0), (2, 12.0), (2, 12.0), (2, 12.0), (5, 13.0)]
    assert sorted(path.name for path in run.folder.iterdir()) == [
        "best.json",
        "best.safetensors",
        "controller",
        "run.json",
    ]


@pytest.mark.parametrize(
    ("first", "second"),
    # Agent of round 1 and of round 2: score and episodes of its own selection.
    [((924.0, 100), (950.0, 20)), ((950.0, 20), (924.0, 100))],
)
@pytest.mark.parametrize("returns", [(900.0, 901.0), (901.0, 900.0), (900.0, 900.0)])
def test_scores_over_different_numbers_of_episodes_are_not_compared(
    run: Run, first: tuple[float, int], second: tuple[float, int], returns: tuple[float, float]
) -> None:
    """The agent with fewer episodes is evaluated again under the protocol of the other agent."""
    (score_1, episodes_1), (score_2, episodes_2) = first, second
    finish_search(run, score_1, episodes=episodes_1)
    keep_best(run, never)
    finish_search(run, score_2, round_=2, episodes=episodes_2)
    plays = Plays({(1, 100): returns[0], (2, 100): returns[1]})
    best = keep_best(run, plays)
    again = 1 if episodes_1 == 20 else 2
    assert plays.played == [(again, 100)]
    true = {1: score_1, 2: score_2} | {again: returns[again - 1]}
    expected = max(true, key=lambda round_: (true[round_], -round_))
    assert (best.round, best.selection.mean) == (expected, true[expected])
    assert selected_round(run) == expected
    assert best.selection.protocol == protocol(100)
    # What was evaluated is written down, so that the next agent finds it.
    assert env_steps(run)["selected"] == 100 * 10
    saved = load_checkpoint(run.folder / "best.safetensors", hint="none").metadata["metadata"]
    assert saved["selection"] == best.selection.to_dict()
    assert keep_best(run, never).round == expected
    finish_search(run, 10_000.0, round_=3, episodes=100)
    assert keep_best(run, never).round == 3


def test_an_agent_that_was_better_is_never_lost_whatever_the_numbers_of_episodes(run: Run) -> None:
    """The test makes 50 sequences of searches with 5, 20 or 100 episodes and known true returns."""
    generator = torch.Generator().manual_seed(0)
    for sequence in range(50):
        shutil.rmtree(run.folder)
        run.create()
        best_true, most = -torch.inf, 0
        true = {}
        for round_ in range(1, 6):
            true[round_] = float(torch.rand((), generator=generator))
            episodes = (5, 20, 100)[int(torch.randint(3, (), generator=generator))]
            # With fewer episodes, scores are higher than the true return by a constant.
            returns = {(n, count): true[n] + 10.0 / count for n in true for count in (5, 20, 100)}
            finish_search(run, returns[round_, episodes], round_=round_, episodes=episodes)
            best = keep_best(run, Plays(returns))
            most, best_true = max(most, episodes), max(best_true, true[round_])
            assert true[best.round] == best_true, f"sequence {sequence}, round {round_}"
            assert best.selection.protocol == protocol(most)


def test_files_from_before_protocols_were_recorded_are_compared_by_their_episodes(run: Run) -> None:
    legacy = {
        "spec": {"env_id": ENV_ID},
        "facts": {"real_score": 924.0, "choice_episodes": 100, "made_by": {"round": 25}},
    }
    parameters = {"controller.parameters": torch.tensor([[25.0]])}
    save_checkpoint(run.weights("controller"), parameters, legacy)
    best = keep_best(run, never)
    assert best.selection == Selection(protocol(100), 924.0, None)
    finish_search(run, -50.0, round_=26, episodes=20)
    assert keep_best(run, Plays({(26, 100): -50.0})).round == 25
    assert selected_round(run) == 25


def test_keeping_again_changes_nothing_and_evaluates_nothing(run: Run) -> None:
    finish_search(run, 1.0)
    keep_best(run, never)
    finish_search(run, 3.0, round_=2, episodes=4)
    plays = Plays({(2, 20): 0.0})
    first = keep_best(run, plays)
    before = (run.folder / "best.safetensors").stat().st_mtime_ns
    again = keep_best(run, never)
    assert (again.round, again.selection) == (first.round, first.selection)
    assert plays.played == [(2, 20)]
    assert (run.folder / "best.safetensors").stat().st_mtime_ns == before


@pytest.mark.parametrize("earlier", [False, True])
def test_a_write_that_fails_leaves_what_was_there(
    run: Run, monkeypatch: pytest.MonkeyPatch, earlier: bool
) -> None:
    if earlier:
        finish_search(run, 1.0)
        keep_best(run, never)
    finish_search(run, 2.0, round_=2)

    def fill_the_disk(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> NoReturn:
        path.write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(checkpoint, "save_file", fill_the_disk)
    with pytest.raises(OSError, match="no space left"):
        keep_best(run, never)
    monkeypatch.undo()
    assert not list(run.folder.glob(".*"))
    best = run.folder / "best.safetensors"
    assert best.exists() == earlier
    assert agent_file(run.folder) == (best if earlier else run.weights("controller"))
    if earlier:
        assert selected_round(run) == 1
    assert keep_best(run, never).round == selected_round(run) == 2


def test_a_kill_before_the_comparison_is_written_down_compares_again(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish_search(run, 1.0)
    keep_best(run, never)
    finish_search(run, 3.0, round_=2, episodes=4)
    monkeypatch.setattr(Run, "write_json", lambda self, name, details: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        keep_best(run, Plays({(2, 20): 5.0}))
    monkeypatch.undo()
    assert keep_best(run, Plays({(2, 20): 5.0})).round == selected_round(run) == 2
    assert env_steps(run)["selected"] == 20 * 10, "the same evaluation counts once"


def test_what_a_kill_left_half_written_is_no_agent(run: Run) -> None:
    finish_search(run, 1.0)
    partial = run.folder / ".best.safetensors.partial"
    partial.write_bytes(b"half")
    assert agent_file(run.folder) == run.weights("controller")
    keep_best(run, never)
    assert selected_round(run) == 1 and not partial.exists()


def test_a_damaged_best_agent_is_named(run: Run) -> None:
    finish_search(run, 1.0)
    best = run.folder / "best.safetensors"
    best.write_bytes(b"half")
    with pytest.raises(UserError, match=rf"cannot read .*best\.safetensors .*: delete {best}"):
        keep_best(run, never)


def test_an_agent_s_file_is_the_run_s_best_or_else_its_newest_one(run: Run) -> None:
    newest = run.folder / "controller" / "agent.safetensors"
    assert agent_file(run.folder) == newest and not newest.exists()
    finish_search(run, 1.0)
    assert agent_file(run.folder) == newest
    keep_best(run, never)
    assert agent_file(str(run.folder)) == run.folder / "best.safetensors"
    assert agent_file(newest) == newest
    assert agent_file("elsewhere/any.safetensors").name == "any.safetensors"


def test_the_newest_agent_is_found_after_a_kill_between_two_renames(run: Run) -> None:
    newest = finish_search(run, 1.0)
    before = load_checkpoint(newest, hint="")
    os.replace(run.folder / "controller", run.folder / ".controller.old")
    assert agent_file(run.folder) == newest and not newest.exists()
    assert load_checkpoint(newest, hint="").metadata == before.metadata
    with write_lock(run.folder):  # a writer puts it back
        assert newest.is_file()
    shutil.copytree(run.folder / "controller", run.folder / ".controller.old")
    with write_lock(run.folder):
        assert newest.is_file() and not (run.folder / ".controller.old").exists()
