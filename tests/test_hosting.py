"""The version, the Python versions and the name of the distribution agree in all files."""

import re
from importlib.metadata import metadata, version
from pathlib import Path

import yaml

import worldmodels

ROOT = Path(__file__).parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *(ROOT / "docs").rglob("*.md"),
]


def test_there_is_one_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert worldmodels.__version__ == version("worldmodels-gym") == citation["version"]


def test_workflows_test_every_python_version_that_the_package_names() -> None:
    classifiers = metadata("worldmodels-gym").get_all("Classifier") or []
    named = {each.split(" :: ")[-1] for each in classifiers if re.search(r":: 3\.\d+$", each)}
    workflow = yaml.safe_load((ROOT / ".github/workflows/tests.yml").read_text(encoding="utf-8"))
    matrix = workflow["jobs"]["tests"]["strategy"]["matrix"]
    assert set(matrix["python-version"]) == named
    assert {"ubuntu-latest", "macos-latest"} <= set(matrix["os"])


def test_workflows_call_files_that_exist() -> None:
    for path in (ROOT / ".github/workflows").glob("*.yml"):
        jobs = yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"]
        commands = [step.get("run", "") for job in jobs.values() for step in job["steps"]]
        scripts = {each for text in commands for each in re.findall(r"scripts/\S+", text)}
        assert all((ROOT / each).is_file() for each in scripts), path.name


def test_no_page_installs_the_distribution_of_another_project() -> None:
    wrong = re.compile(r"pip install \"?worldmodels(?!-gym)\b")
    assert [page.name for page in PAGES if wrong.search(page.read_text(encoding="utf-8"))] == []
    assert wrong.search("pip install worldmodels") and not wrong.search(
        "pip install worldmodels-gym"
    )


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 180
