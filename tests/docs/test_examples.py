"""Every example in the documentation runs, and every public name is in the API reference."""

import ast
import doctest
import importlib
import re
from pathlib import Path
from typing import Any

import pytest

import worldmodels
from tests.fixtures.tiny_run import tiny_run
from worldmodels.controller.agent import save_agent
from worldmodels.controller.new_agent import new_agent
from worldmodels.dream.load import load_world_model

ROOT = Path(__file__).parents[2]
API = sorted((ROOT / "docs" / "api").glob("*.md"))
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ENTRY = re.compile(r"^\.\. (?:auto\w+|py:data):: (\S+)$", re.MULTILINE)
PAGES = [
    page
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
    if "_build" not in page.parts and BLOCK.search(page.read_text(encoding="utf-8"))
]
PACKAGES = ("worldmodels", "worldmodels.bbvi", "worldmodels.memory", "worldmodels.vision")


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a finished run, and return its folder. No example writes into this folder."""
    run = tiny_run(tmp_path_factory.mktemp("runs") / "demo")
    work = run.begin("controller", {}, 0, 1)
    assert work is not None
    agent = new_agent(run, *load_world_model(run))
    save_agent(work.partial / "agent.safetensors", agent, {})
    work.commit({}, 0.0)
    return run.folder


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_examples_of_a_page_run(
    page: Path, demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "demo").symlink_to(demo, target_is_directory=True)
    monkeypatch.chdir(tmp_path)
    run_examples(page)


def run_examples(page: Path) -> None:
    """Run the Python blocks of a page in order, in one namespace.

    A block with prompts must print the output that the block shows.
    """
    text = page.read_text(encoding="utf-8")
    namespace: dict[str, Any] = {"__name__": page.stem}
    for match in BLOCK.finditer(text):
        line = text.count("\n", 0, match.start(1))
        source = match[1]
        if not source.startswith(">>> "):
            exec(compile("\n" * line + source, str(page), "exec"), namespace)
            continue
        example = doctest.DocTestParser().get_doctest(source, namespace, page.name, str(page), line)
        report: list[str] = []
        failed = doctest.DocTestRunner(verbose=False).run(
            example, out=report.append, clear_globs=False
        )
        assert failed.failed == 0, "".join(report)
        namespace.update(example.globs)


def test_an_example_that_prints_something_else_fails(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```python\nx = 2\n```\n\n```python\n>>> x\n3\n```\n", encoding="utf-8")
    with pytest.raises(AssertionError, match=r"Expected:\s+3\s+Got:\s+2"):
        run_examples(page)


@pytest.mark.parametrize("name", worldmodels.__all__)
def test_every_name_of_the_package_is_used_in_an_example(name: str) -> None:
    assert name in {name for page in API for name in names_used(page)}


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_has_an_entry(package: str) -> None:
    entries = {entry for page in API for entry in ENTRY.findall(page.read_text(encoding="utf-8"))}
    module = importlib.import_module(package)
    public = {
        f"{package}.{name}"
        for name in getattr(module, "__all__", vars(module))
        if not name.startswith("_")
        and getattr(getattr(module, name), "__doc__", None)
        and str(getattr(getattr(module, name), "__module__", "")).startswith(package)
    }
    assert public - entries == set()


def names_used(page: Path) -> set[str]:
    """Return the attributes of `worldmodels` that are used in the examples of a page."""
    names: set[str] = set()
    for source in BLOCK.findall(page.read_text(encoding="utf-8")):
        if source.startswith(">>> "):
            examples = doctest.DocTestParser().get_examples(source)
            source = "".join(example.source for example in examples)
        names |= {
            node.attr
            for node in ast.walk(ast.parse(source))
            if isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id == "worldmodels"
        }
    return names
