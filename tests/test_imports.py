"""Imports go only from worldmodels to agents to envs, and within worldmodels down its layers."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ALLOWED = {
    "worldmodels": {"worldmodels", "agents", "envs"},
    "agents": {"agents", "envs"},
    "envs": {"envs"},
}
OURS = {*ALLOWED, "scripts", "tests"}
# Libraries that a package must not import.
FOREIGN = {"envs": {"torch"}}
# The layers of worldmodels, from the top down: each imports only itself and later ones.
LAYERS = (
    "cli",
    "pipeline",
    "presets",
    "stages",
    "map_elites",
    "controller",
    "dream",
    "prior",
    "memory",
    "vision",
    "bbvi",
    "training",
    "runs",
    "data",
    "progress",
    "plotting",
    "hardware",
    "errors",
)
MAX_ENTRIES = 22


def forbidden_imports(root: Path) -> list[str]:
    """Return every import in the wrong direction, as "file:line imports module"."""
    found = []
    for package, allowed in ALLOWED.items():
        for path in sorted((root / package).rglob("*.py")):
            for line, imported in imported_modules(path, root):
                top = imported.partition(".")[0]
                is_forbidden = top in OURS and top not in allowed
                if is_forbidden or top in FOREIGN.get(package, ()):
                    found.append(f"{path.relative_to(root)}:{line} imports {imported}")
    return found


def upward_imports(root: Path) -> list[str]:
    """Return the imports within worldmodels from a higher layer, or from another stage."""
    found = []
    for path in sorted((root / "worldmodels").rglob("*.py")):
        own = path.relative_to(root).with_suffix("").parts
        if own[1] not in LAYERS:
            continue  # the package's own file, which offers names from all layers
        for line, imported in imported_modules(path, root):
            other = imported.split(".")
            if other[0] != "worldmodels" or len(other) < 2 or other[1] not in LAYERS:
                continue
            is_higher = LAYERS.index(other[1]) < LAYERS.index(own[1])
            is_another_stage = own[1] == other[1] == "stages" and other[2:3] != [own[-1]]
            if is_higher or is_another_stage:
                found.append(f"{path.relative_to(root)}:{line} imports {imported}")
    return found


def imported_modules(path: Path, root: Path) -> Iterator[tuple[int, str]]:
    """Yield the line and the absolute dotted name of every import in a file."""
    package = path.relative_to(root).parent.parts
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            named = (node.module or "").split(".") if node.module else []
            if node.level:
                # One dot is the file's own package; each further dot one folder up.
                named = [*package[: len(package) - node.level + 1], *named]
            for alias in node.names:
                yield node.lineno, ".".join([*named, alias.name])


def test_imports_run_one_way() -> None:
    assert all((ROOT / package).is_dir() for package in ALLOWED)
    assert forbidden_imports(ROOT) == []


def test_imports_within_worldmodels_run_down_its_layers() -> None:
    assert upward_imports(ROOT) == []


def test_whatever_lies_in_worldmodels_belongs_to_a_layer() -> None:
    entries = {path.name for path in (ROOT / "worldmodels").iterdir()} - {"__pycache__"}
    assert len(entries) <= MAX_ENTRIES
    assert {entry.removesuffix(".py") for entry in entries} - {"py.typed"} == {
        "__init__",
        "__main__",
        *LAYERS,
    }


@pytest.mark.parametrize(
    ("file", "statement", "imported"),
    [
        ("envs/a.py", "import agents.policy", "agents.policy"),
        ("envs/a.py", "def f():\n    from worldmodels.dream import D", "worldmodels.dream.D"),
        ("envs/deep/a.py", "from ...agents import policy", "agents.policy"),
        ("envs/deep/a.py", "from ... import agents", "agents"),
        ("agents/a.py", "from worldmodels import runs", "worldmodels.runs"),
        ("worldmodels/a.py", "import os, tests.fixtures", "tests.fixtures"),
        ("worldmodels/stages/a.py", "from scripts import benchmark", "scripts.benchmark"),
        ("envs/a.py", "import torch", "torch"),
    ],
)
def test_an_import_that_runs_back_is_caught(
    tmp_path: Path, file: str, statement: str, imported: str
) -> None:
    write(tmp_path / file, statement)
    line = statement.count("\n") + 1
    assert forbidden_imports(tmp_path) == [f"{file}:{line} imports {imported}"]


@pytest.mark.parametrize(
    ("file", "statement", "imported"),
    [
        ("worldmodels/vision/a.py", "import worldmodels.memory.b", "worldmodels.memory.b"),
        ("worldmodels/data/a.py", "from ..runs import run", "worldmodels.runs.run"),
        ("worldmodels/errors.py", "from worldmodels import cli", "worldmodels.cli"),
        ("worldmodels/presets/named.py", "from worldmodels.cli.b import c", "worldmodels.cli.b.c"),
        ("worldmodels/stages/a.py", "from . import b", "worldmodels.stages.b"),
        ("worldmodels/stages/a.py", "from worldmodels.stages.b import c", "worldmodels.stages.b.c"),
    ],
)
def test_an_import_that_runs_up_the_layers_is_caught(
    tmp_path: Path, file: str, statement: str, imported: str
) -> None:
    write(tmp_path / file, statement)
    assert upward_imports(tmp_path) == [f"{file}:1 imports {imported}"]


def test_imports_along_the_arrows_are_not_caught(tmp_path: Path) -> None:
    for file, text in {
        "worldmodels/__init__.py": "from worldmodels.controller.agent import Agent",
        "worldmodels/stages/a.py": "import agents, envs\nfrom ..runs.run import Run",
        "worldmodels/memory/a.py": "from . import b\nfrom worldmodels.memory.c import d",
        "agents/a.py": "from envs.tasks import task_for\nimport torch\nfrom .policy import Policy",
        "envs/a.py": "import numpy\nfrom envs import views",
    }.items():
        write(tmp_path / file, text)
    assert forbidden_imports(tmp_path) == []
    assert upward_imports(tmp_path) == []


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
