"""Imports run one way: worldmodels -> agents -> envs; nothing imports scripts or tests."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ALLOWED = {
    "worldmodels": {"worldmodels", "agents", "envs"},
    "agents": {"agents", "envs"},
    "envs": {"envs"},
}
OURS = {*ALLOWED, "scripts", "tests"}
# What the layers below the models may not know at all.
FOREIGN = {"envs": {"torch"}}


def back_running_imports(root: Path) -> list[str]:
    """Every import under `root` that runs against the arrows, as "file:line imports package"."""
    found = []
    for package, allowed in ALLOWED.items():
        for path in sorted((root / package).rglob("*.py")):
            for line, imported in imported_packages(path, root):
                runs_back = imported in OURS and imported not in allowed
                if runs_back or imported in FOREIGN.get(package, ()):
                    found.append(f"{path.relative_to(root)}:{line} imports {imported}")
    return found


def imported_packages(path: Path, root: Path) -> Iterator[tuple[int, str]]:
    """Line and top-level package of every import in a file, relative ones resolved."""
    package = path.relative_to(root).parent.parts
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name.partition(".")[0]
        elif isinstance(node, ast.ImportFrom):
            named = (node.module or "").split(".") if node.module else []
            if node.level:
                # One dot is the file's own package; each further dot one folder up.
                named = [*package[: len(package) - node.level + 1], *named]
            for alias in node.names if not named else [None]:
                yield node.lineno, named[0] if alias is None else alias.name


def test_imports_run_one_way() -> None:
    root = Path(__file__).parents[1]
    assert all((root / package).is_dir() for package in ALLOWED)
    assert back_running_imports(root) == []


@pytest.mark.parametrize(
    ("file", "statement", "imported"),
    [
        ("envs/a.py", "import agents.policy", "agents"),
        ("envs/a.py", "def f():\n    from worldmodels.dream.model import Dream", "worldmodels"),
        ("envs/deep/a.py", "from ...agents import policy", "agents"),
        ("envs/deep/a.py", "from ... import agents", "agents"),
        ("agents/a.py", "from worldmodels import run", "worldmodels"),
        ("worldmodels/a.py", "import os, tests.fixtures.counting_env", "tests"),
        ("worldmodels/stages/a.py", "from scripts import benchmark", "scripts"),
        ("envs/a.py", "import torch", "torch"),
    ],
)
def test_an_import_that_runs_back_is_caught(
    tmp_path: Path, file: str, statement: str, imported: str
) -> None:
    path = tmp_path / file
    path.parent.mkdir(parents=True)
    path.write_text(statement, encoding="utf-8")
    line = statement.count("\n") + 1
    assert back_running_imports(tmp_path) == [f"{file}:{line} imports {imported}"]


def test_imports_along_the_arrows_are_not_caught(tmp_path: Path) -> None:
    for file, text in {
        "worldmodels/stages/a.py": "import agents, envs\nfrom ..run import Run\nfrom . import b",
        "agents/a.py": "from envs.tasks import task_for\nimport torch\nfrom .policy import Policy",
        "envs/a.py": "import numpy\nfrom envs import views",
    }.items():
        (tmp_path / file).parent.mkdir(parents=True)
        (tmp_path / file).write_text(text, encoding="utf-8")
    assert back_running_imports(tmp_path) == []
