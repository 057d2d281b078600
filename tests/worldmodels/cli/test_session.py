from pathlib import Path
from typing import Any

import pytest

from envs.errors import EnvError
from worldmodels.cli.session import open_session
from worldmodels.errors import UserError
from worldmodels.runs.run import Run
from worldmodels.runs.run_settings import RunSettings


@pytest.mark.parametrize(
    ("requested", "message"),
    [
        (
            {"env": "CarRacing-v3"},
            "was made with env Tiny-v0, but CarRacing-v3 was requested: name another",
        ),
        ({"preset": "paper"}, "was made with preset demo, but paper was requested"),
        ({"seed": 1}, "was made with seed 0, but 1 was requested"),
        ({"seed": -1}, r"expected a seed from 0 to 2\*\*62, got -1"),
    ],
)
def test_a_run_is_not_opened_with_other_settings_than_its_own(
    tmp_path: Path, requested: dict[str, Any], message: str
) -> None:
    Run(tmp_path, new=RunSettings("Tiny-v0", "demo", 0)).create()
    with (
        pytest.raises(UserError, match=message),
        open_session(tmp_path, **requested),
    ):
        pass
    with open_session(tmp_path, quiet=True, workers=1, env="Tiny-v0", seed=0) as session:
        assert session.run.settings.env_id == "Tiny-v0"


def test_a_session_needs_a_worker(tmp_path: Path) -> None:
    Run(tmp_path, new=RunSettings("Tiny-v0", "demo", 0)).create()
    with (
        pytest.raises(UserError, match="expected at least 1 worker, got 0"),
        open_session(tmp_path, workers=0),
    ):
        pass


def test_opening_a_missing_run_does_not_create_it(tmp_path: Path) -> None:
    with (
        pytest.raises(UserError, match=r'no run in .*b: run "wm collect --run .*b" first'),
        open_session(tmp_path / "b"),
    ):
        pass
    assert not list(tmp_path.iterdir())


def test_the_env_of_a_new_run_is_tried_before_the_run_is_opened(tmp_path: Path) -> None:
    requested: dict[str, Any] = {
        "env": "tests.fixtures.odd_envs:Odd-v0",
        "env_arg": ["observation=dicts"],
    }
    with (
        pytest.raises(EnvError, match="several pictures"),
        open_session(tmp_path / "new", **requested),
    ):
        pass
