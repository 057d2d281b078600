"""The shape of all experiments: which runs are done, what their files hold, what is refused."""

from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import pytest

from scripts.experiments import __main__ as command
from scripts.experiments.experiment import Context, Experiment, Result, Results
from scripts.experiments.markdown import markdown_table, results_table, write_page
from worldmodels.errors import UserError
from worldmodels.runs.json_files import read_json

TABLE = {"a-1": 1, "a-2": 2, "b-1": 10}


@dataclass(frozen=True)
class Sums(Experiment[int]):
    """Adds a number.

    Attributes:
        added: to every run's.
    """

    name = "sums"
    table = TABLE
    added: int = 5

    def run(self, name: str, spec: int, context: Context) -> Result:
        if spec == 2:
            raise UserError("no two")
        return {"sum": spec + self.added}

    def draw(self, results: Results, docs: Path) -> None:
        (docs / "sums.md").write_text(", ".join(f"{n}: {r['sum']}" for n, r in results.items()))


def run_main(docs: Path, *options: str) -> int:
    with mock.patch.dict(command.EXPERIMENTS, sums=Sums):
        return command.main(["sums", "--docs", str(docs), "--runs", str(docs), *options])


def test_a_call_does_one_missing_run_and_none_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_main(tmp_path) == 0
    assert capsys.readouterr().out == "missing: a-2, b-1\n"
    first = tmp_path / "results/sums/a-1.json"
    result, before = read_json(first), first.stat().st_mtime_ns
    assert result["sum"] == 6
    assert result["command"] == "python -m scripts.experiments sums --only a-1"
    assert result["threads"] >= 1 and "torch" in result["versions"]
    assert run_main(tmp_path, "--only", "b-*", "--added", "7") == 0
    assert read_json(tmp_path / "results/sums/b-1.json")["command"].endswith("b-1 --added 7")
    assert (tmp_path / "sums.md").read_text() == "a-1: 6, b-1: 17"
    assert first.stat().st_mtime_ns == before


def test_all_does_every_missing_run_that_matches(tmp_path: Path) -> None:
    assert run_main(tmp_path, "--all", "--only", "*-1") == 0
    assert Sums().missing(tmp_path) == ["a-2"]


def test_page_only_does_no_run(tmp_path: Path) -> None:
    assert run_main(tmp_path, "--page-only") == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--only", "c-1"), 'expected one of a-1, a-2, b-1, got "c-1"'),
        (("--page-only", "--all"), "expected --page-only, or --only and --all, got both"),
        (("--only", "a-2"), "no two"),
    ],
)
def test_bad_input_is_one_line(
    options: tuple[str, ...], expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        run_main(tmp_path, *options)
    assert capsys.readouterr().err.splitlines()[-1].endswith(expected)
    assert not (tmp_path / "results/sums/a-2.json").exists()


def test_every_experiment_draws_its_page_from_committed_results(tmp_path: Path) -> None:
    docs = Path(__file__).parents[3] / "docs"
    for kind in command.EXPERIMENTS.values():
        experiment = kind()
        assert experiment.results(docs), kind.name
        assert {path.stem for path in (docs / kind.folder).glob("*.json")} & set(kind.table)


def test_a_section_without_a_table_and_an_empty_paragraph_are_left_out(tmp_path: Path) -> None:
    with mock.patch("scripts.experiments.markdown.TEMPLATES", tmp_path):
        template = "# A\n\nNo {a}.\n\n## B\n\n{b_table}\n\n## C {n}\n\n{c_table}\n"
        (tmp_path / "page.md").write_text(template)
        out = tmp_path / "out"
        out.mkdir()
        write_page(out / "page.md", a="", b_table="", c_table=markdown_table(["x"], [["1"]]), n=3)
        assert (out / "page.md").read_text() == "# A\n\n## C 3\n\n| x |\n|---|\n| 1 |\n"
    assert markdown_table(["x"], []) == ""


def test_a_cell_is_empty_where_a_result_lacks_the_figure() -> None:
    table = results_table({"a": "{a:.1f}", "b": "{b[c]}"}, [{"a": 1, "b": {"c": 2}}, {"a": 3}])
    assert table == "| a | b |\n|---|---|\n| 1.0 | 2 |\n| 3.0 |  |"
