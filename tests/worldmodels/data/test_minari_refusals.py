"""Datasets and requests that do not fit are refused in one line, and leave no files."""

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.spaces.box import Box
from gymnasium.spaces.dict import Dict
from gymnasium.spaces.discrete import Discrete
from gymnasium.spaces.multi_discrete import MultiDiscrete

from tests.fixtures.command import wm
from tests.fixtures.counting_env import BOX_ID
from tests.fixtures.minari_datasets import (
    BOX,
    NAME,
    box_actions,
    collected,
    export,
    made_by_others,
    pictures,
    pixels,
    read,
)
from tests.fixtures.tiny_models import rollout
from worldmodels.errors import UserError
from worldmodels.runs.run import Run
from worldmodels.runs.run_settings import RunSettings

h5py = pytest.importorskip("h5py")


@pytest.mark.parametrize(
    ("observations", "actions", "spaces_", "expected"),
    [
        (np.zeros((5, 4), np.float32), box_actions(4), (spaces.Box(-1, 1, (4,)), BOX), "pixels"),
        (
            pictures(5)[..., :1],
            box_actions(4),
            (spaces.Box(0, 255, (64, 64, 1), np.uint8), BOX),
            "pixels",
        ),
        (
            {"left": pictures(5), "right": pictures(5)},
            box_actions(4),
            (spaces.Dict(left=pixels(), right=pixels()), BOX),
            "one such Box",
        ),
        (
            pictures(5),
            np.zeros((4, 2), np.int64),
            (pixels(), spaces.MultiDiscrete([2, 2])),
            "1-D Box or a Discrete action space",
        ),
        (pictures(4), box_actions(4), (pixels(), BOX), "episode 0 of .* is incomplete.*length 5"),
        (pictures(1), box_actions(0), (pixels(), BOX), "the episode has no steps"),
    ],
)
def test_what_does_not_fit_is_one_line_and_leaves_nothing(
    tmp_path: Path,
    observations: np.ndarray | dict[str, np.ndarray],
    actions: np.ndarray,
    spaces_: tuple[Box | Dict, Box | MultiDiscrete],
    expected: str,
) -> None:
    if len(actions) == 0:
        name = empty_episode(tmp_path, spaces_)
    else:
        name = made_by_others(tmp_path, [observations], [actions], spaces_)
    with pytest.raises(UserError, match=expected) as caught:
        read(tmp_path / "run", tmp_path, name, env="LunarLanderContinuous-v3")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("env_id", "space"),
    [
        ("CarRacing-v3", spaces.Discrete(5)),
        ("CartPole-v1", spaces.Discrete(3)),
        ("CarRacing-v3", spaces.Box(-1, 1, (2,))),
        ("CarRacing-v3", spaces.Box(-1, 1, (3,))),
    ],
)
def test_actions_that_are_not_the_envs_are_one_line(
    tmp_path: Path, env_id: str, space: Discrete | Box
) -> None:
    actions = np.stack([space.sample() for _ in range(4)])
    name = made_by_others(
        tmp_path, [pictures(5)], [actions], (pixels(), space), env=gym.spec(env_id)
    )
    with pytest.raises(
        UserError, match=rf"actions of .*{env_id}, .* got {re.escape(str(space))}"
    ) as caught:
        read(tmp_path / "run", tmp_path, name)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("env", "words"),
    [
        (None, r"does not name the environment .* --env to .* whose action space is Box"),
        ("Nowhere-v0", "Nowhere-v0, the environment of others/some-v0, cannot be used"),
        ("lab/Nowhere-v0", "Namespace lab not found"),
        ("no_such_module:Nowhere-v0", "cannot be used: .*no_such_module"),
        ("CartPole-v1", r"actions of CartPole-v1, in Discrete\(2\), got Box.* own env with --env"),
        ("CarRacing-v3", r"actions of CarRacing-v3, in Box.*, got Box"),
    ],
)
def test_a_data_set_needs_an_env_with_its_actions(
    tmp_path: Path, env: str | None, words: str
) -> None:
    name = made_by_others(tmp_path, [pictures(5)], [box_actions(4)], (pixels(), BOX))
    with pytest.raises(UserError, match=words) as caught:
        read(tmp_path / "run", tmp_path, name, env=env)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def change(key: str, index: int | tuple[int, int], value: float) -> Callable[[Any], None]:
    def changed(episode: Any) -> None:
        episode[key][index] = value

    return changed


def shorten(episode: Any) -> None:
    episode["terminations"].resize(7, axis=0)


def shrink(episode: Any) -> None:
    del episode["observations"]
    episode["observations"] = pictures(9, (32, 64))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (shrink, r"the dataset states, \(64, 64, 3\), in .*, got \(32, 64, 3\)"),
        (change("terminations", 4, True), "its last step, got a termination at step 4 of 8"),
        (change("truncations", 0, True), "its last step, got a truncation at step 0 of 8"),
        (shorten, r"expected 8 termination flags in .* shape \(7,\)"),
        (change("rewards", 5, np.nan), "finite rewards .*, got nan at step 5 of 8"),
        (change("rewards", 2, 1e300), "finite rewards of 32 bits .*, got inf at step 2 of 8"),
        (change("actions", (3, 1), -np.inf), "finite actions .*, got -inf at step 3 of 8"),
        (change("actions", (7, 0), np.nan), "finite actions .*, got nan at step 7 of 8"),
    ],
)
def test_what_no_episode_may_hold_is_refused_with_its_place(
    tmp_path: Path, damage: Callable[..., Any], words: str
) -> None:
    name = made_by_others(tmp_path, [pictures(9)] * 2, [box_actions(8)] * 2, (pixels(), BOX))
    with h5py.File(tmp_path / name / "data" / "main_data.hdf5", "a") as file:
        damage(file["episode_1"])
    done = wm(
        *("data", "import", "--run", tmp_path / "run", "--dataset", name, "--root", tmp_path),
        *("--env", "LunarLanderContinuous-v3", "--quiet", "--json"),
    )
    assert (done.code, done.output) == (2, "")
    assert re.fullmatch(f"wm: .*{words}.*\n", done.error)
    assert f"episode 1 of {name}" in done.error
    assert not (tmp_path / "run").exists()


def test_actions_of_another_width_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    run = Run(tmp_path / "run", new=RunSettings(BOX_ID, "tiny", 0))
    run.create()
    for index in range(2):
        run.store.add(index, rollout(4))  # three numbers an action, the env takes two
    with pytest.raises(UserError, match=r"000000\.npz has actions of 3 numbers, .* of 2 numbers"):
        export(run, tmp_path)
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == [
        "episode-000000.npz",
        "episode-000001.npz",
        "run.json",
    ]


@pytest.mark.parametrize("missing", ["episode_3", "episode_3/rewards", "episode_3/observations"])
def test_a_dataset_with_a_part_missing_is_one_line_and_leaves_nothing(
    tmp_path: Path, missing: str
) -> None:
    run = collected(tmp_path / "run", BOX_ID)
    export(run, tmp_path)
    with h5py.File(tmp_path / NAME / "data" / "main_data.hdf5", "a") as file:
        del file[missing]
    with pytest.raises(UserError, match=rf"{NAME} is incomplete: KeyError") as caught:
        read(tmp_path / "back", tmp_path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "back").exists()


def empty_episode(root: Path, spaces_: tuple[spaces.Space[Any], spaces.Space[Any]]) -> str:
    name = made_by_others(root, [pictures(2)], [box_actions(1)], spaces_)
    with h5py.File(root / name / "data" / "main_data.hdf5", "a") as file:
        for key in ("actions", "rewards", "terminations", "truncations"):
            file["episode_0"][key].resize(0, axis=0)
    return name


def test_names_and_folders_that_make_no_sense(tmp_path: Path) -> None:
    run = collected(tmp_path / "run", BOX_ID)
    for name in ("no version", "racing/random"):
        with pytest.raises(
            UserError, match=f'expected a name like "racing/random-v0", got "{name}"'
        ):
            export(run, tmp_path, name)
        with pytest.raises(UserError, match=f'got "{name}"'):
            read(tmp_path / "new", tmp_path, name)
    with pytest.raises(UserError, match=r"no Minari dataset in .*minari download some/none-v0"):
        read(tmp_path / "new", tmp_path, "some/none-v0")
    export(run, tmp_path)
    with pytest.raises(UserError, match="exists already"):
        export(run, tmp_path)
    with pytest.raises(UserError, match="is a run already"):
        read(run.folder, tmp_path)
    with pytest.raises(UserError, match=r'a preset among .* got "huge"'):
        read(tmp_path / "new", tmp_path, preset="huge")
    (tmp_path / NAME / "data" / "main_data.hdf5").unlink()
    with pytest.raises(UserError, match="is not a readable Minari dataset: No data found"):
        read(tmp_path / "new", tmp_path)
    assert not (tmp_path / "new").exists()
    empty = Run(tmp_path / "empty", new=RunSettings(BOX_ID, "tiny", 0))
    with pytest.raises(UserError, match=r'no episodes in .*run "wm collect'):
        export(empty, tmp_path, "empty-v0")


def test_without_minari_the_line_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = collected(tmp_path / "run", BOX_ID)
    for module in ("minari", "h5py"):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, module, None)
            calls: tuple[Callable[[], object], ...] = (
                lambda: export(run, tmp_path),
                lambda: read(tmp_path / "b", tmp_path),
            )
            for call in calls:
                with pytest.raises(UserError, match=r'pip install "worldmodels-gym\[minari\]"'):
                    call()
