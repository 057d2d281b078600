"""A user's own package that shadows `agents` or `envs` is named in an error of one line."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

HOME = Path(__file__).parents[2]


def python(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(HOME)},
        capture_output=True,
        text=True,
    )


def own_package(folder: Path, name: str) -> Path:
    (folder / name).mkdir()
    (folder / name / "__init__.py").touch()
    return folder / name


def own_module(folder: Path, name: str) -> Path:
    (folder / f"{name}.py").touch()
    return folder / f"{name}.py"


@pytest.mark.parametrize("name", ["agents", "envs"])
@pytest.mark.parametrize("make", [own_package, own_module])
def test_a_shadow_is_one_line_of_an_import_and_of_the_command(
    tmp_path: Path, name: str, make: Callable[..., Any]
) -> None:
    line = f'"import {name}" finds {make(tmp_path, name)}, not the package next to worldmodels: '
    imported = python(tmp_path, "-c", "import worldmodels")
    assert imported.returncode == 1
    assert imported.stderr.splitlines()[-1].startswith(f"ImportError: {line}")
    command = tmp_path / "wm"
    command.write_text("from worldmodels.cli import main\nmain()\n")
    for started in (("-m", "worldmodels", "info"), (command, "info")):
        done = python(tmp_path, *started)
        assert done.returncode == 2
        assert done.stderr.startswith(f"wm: {line}")
        assert len(done.stderr.splitlines()) == 1


# Each begins with what a user's program may have done before; all run in one process.
IMPORTED_BEFORE = """
import sys, types
import worldmodels

def is_refused(name, module):
    for each in [each for each in sys.modules if each.split(".")[0] in ("worldmodels", name)]:
        del sys.modules[each]
    sys.modules[name] = module
    try:
        import worldmodels
    except ImportError as error:
        return f'"import {name}" finds' in str(error)
    finally:
        del sys.modules[name]

other = types.ModuleType("envs")
assert is_refused("envs", other)
other.__file__ = "/somewhere/envs.py"
assert is_refused("envs", other)
other = types.ModuleType("agents")
other.__path__ = ["/somewhere/agents"]
assert is_refused("agents", other)
"""


def test_what_was_imported_before_counts(tmp_path: Path) -> None:
    done = python(tmp_path, "-c", IMPORTED_BEFORE)
    assert done.returncode == 0, done.stderr


def test_a_folder_without_init_file_is_no_shadow(tmp_path: Path) -> None:
    for name in ("agents", "envs"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine.py").touch()
    done = python(tmp_path, "-c", "import worldmodels, agents; print(agents.__file__)")
    assert done.stdout.strip() == str(HOME / "agents" / "__init__.py"), done.stderr


def test_a_namespace_package_where_ours_are_missing_is_named(tmp_path: Path) -> None:
    """This happens if our package is missing, for example because another install removed it."""
    home = tmp_path / "home"
    home.mkdir()
    for name in ("worldmodels", "agents"):
        (home / name).mkdir()
        for file in (HOME / name).glob("*.py"):
            (home / name / file.name).write_bytes(file.read_bytes())
    (tmp_path / "work" / "envs").mkdir(parents=True)
    script = "import sys; sys.path.insert(0, sys.argv[1])\nimport worldmodels"
    done = subprocess.run(
        [sys.executable, "-c", script, str(home)],
        cwd=tmp_path / "work",
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert '"import envs" finds' in done.stderr.splitlines()[-1]
