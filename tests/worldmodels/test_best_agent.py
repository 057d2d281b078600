"""The best agent of a run: what takes its place, and where it is found."""

import os
import shutil

import pytest
import torch

from worldmodels import best_agent
from worldmodels.best_agent import keep_best
from worldmodels.checkpoint import load_checkpoint, save_checkpoint
from worldmodels.errors import UserError
from worldmodels.run import Run, RunSettings, agent_file


@pytest.fixture
def run(tmp_path):
    made = Run(tmp_path / "a", new=RunSettings("Tiny-v0", "demo", 0))
    made.create()
    return made


def finish(run, score, *, round_=1, episodes=20):
    """A round's agent, as far as choosing looks at it."""
    facts = {"real_score": score, "choice_episodes": episodes, "made_by": {"round": round_}}
    parameters = {"controller.parameters": torch.tensor([[float(round_)]])}
    save_checkpoint(run.weights("controller"), parameters, {"facts": facts})
    return run.weights("controller")


def round_kept(run):
    best = load_checkpoint(run.folder / "best.safetensors", remedy="none")
    return int(best.tensors["controller.parameters"])


def test_the_first_agent_is_the_best_one(run):
    newest = finish(run, -5.0)
    assert keep_best(run) == {"real_score": -5.0, "choice_episodes": 20, "round": 1}
    assert (run.folder / "best.safetensors").read_bytes() == newest.read_bytes()


def test_a_better_agent_replaces_the_best_one_and_a_worse_one_does_not(run):
    kept = []
    for round_, score in enumerate((10.0, 12.0, 11.0, 12.0, 13.0), start=1):
        finish(run, score, round_=round_)
        told = keep_best(run)
        assert told["round"] == round_kept(run)
        kept.append((told["round"], told["real_score"]))
    # As good is no better: the earlier one stays.
    assert kept == [(1, 10.0), (2, 12.0), (2, 12.0), (2, 12.0), (5, 13.0)]
    assert sorted(path.name for path in run.folder.iterdir()) == [
        "best.safetensors",
        "controller",
        "run.json",
    ]


@pytest.mark.parametrize("episodes", [10, 40])
def test_a_score_of_other_episodes_is_no_score_to_beat(run, episodes):
    finish(run, 100.0)
    keep_best(run)
    finish(run, 3.0, round_=2, episodes=episodes)
    assert keep_best(run) == {"real_score": 3.0, "choice_episodes": episodes, "round": 2}
    assert round_kept(run) == 2


def test_keeping_again_changes_nothing(run):
    finish(run, 1.0)
    first = keep_best(run)
    before = (run.folder / "best.safetensors").stat().st_mtime_ns
    assert keep_best(run) == first
    assert (run.folder / "best.safetensors").stat().st_mtime_ns == before


@pytest.mark.parametrize("earlier", [False, True])
def test_a_copy_that_fails_leaves_what_was_there(run, monkeypatch, earlier):
    if earlier:
        finish(run, 1.0)
        keep_best(run)
    finish(run, 2.0, round_=2)

    def fill_the_disk(source, target):
        target.write_bytes(source.read_bytes()[:20])
        raise OSError("no space left on device")

    monkeypatch.setattr(best_agent.shutil, "copyfile", fill_the_disk)
    with pytest.raises(OSError, match="no space left"):
        keep_best(run)
    monkeypatch.undo()
    assert not list(run.folder.glob(".*"))
    best = run.folder / "best.safetensors"
    assert best.exists() == earlier
    assert agent_file(run.folder) == (best if earlier else run.weights("controller"))
    if earlier:
        assert round_kept(run) == 1
    assert keep_best(run)["round"] == round_kept(run) == 2


def test_what_a_kill_left_half_copied_is_no_agent(run):
    finish(run, 1.0)
    partial = run.folder / ".best.safetensors.partial"
    partial.write_bytes(b"half")
    assert agent_file(run.folder) == run.weights("controller")
    keep_best(run)
    assert round_kept(run) == 1 and not partial.exists()


def test_a_damaged_best_agent_is_named(run):
    finish(run, 1.0)
    best = run.folder / "best.safetensors"
    best.write_bytes(b"half")
    with pytest.raises(UserError, match=rf"cannot read .*best\.safetensors .*: delete {best}"):
        keep_best(run)


def test_an_agent_s_file_is_the_run_s_best_or_else_its_newest_one(run):
    newest = run.folder / "controller" / "agent.safetensors"
    assert agent_file(run.folder) == newest and not newest.exists()
    finish(run, 1.0)
    assert agent_file(run.folder) == newest
    keep_best(run)
    assert agent_file(str(run.folder)) == run.folder / "best.safetensors"
    assert agent_file(newest) == newest
    assert agent_file("elsewhere/any.safetensors").name == "any.safetensors"


def test_the_newest_agent_is_found_after_a_kill_between_two_renames(run):
    newest = finish(run, 1.0)
    os.replace(run.folder / "controller", run.folder / ".controller.old")
    assert agent_file(run.folder) == newest and newest.is_file()
    shutil.copytree(run.folder / "controller", run.folder / ".controller.old")
    assert agent_file(run.folder).is_file() and not (run.folder / ".controller.old").exists()
