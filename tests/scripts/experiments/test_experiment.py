"""All experiments do their missing runs, write one result file per run, and refuse bad input."""

from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import pytest

from scripts.experiments import __main__ as command
from scripts.experiments.experiment import Context, Experiment, Result, Results
from scripts.experiments.markdown import per_seed, write_page
from worldmodels.errors import UserError
from worldmodels.runs.json_files import read_json

TABLE = {"a-1": 1, "a-2": 2, "b-1": 10}


@dataclass(frozen=True)
class Sums(Experiment):
    """An experiment each of whose runs adds `added` to its number in `TABLE`."""

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
        (("--page-only", "--all"), "expected --page-only without --only or --all, got both"),
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


def test_what_is_empty_is_left_out_and_rows_are_repeated(tmp_path: Path) -> None:
    with mock.patch("scripts.experiments.markdown.TEMPLATES", tmp_path):
        row = "| {table[a]:.1f} | {table[b][c]} |\n"
        template = f"# A\n\nNo {{a}}.\n\n## B\n\n{{none[a]}}\n\n## C {{n}}\n\n| a | b |\n{row}"
        (tmp_path / "page.md").write_text(template)
        out = tmp_path / "out"
        out.mkdir()
        results = [{"a": 1, "b": {"c": 2}}, {"a": 3}]
        write_page(out / "page.md", a="", none=[], table=results, n=3)
    text = (out / "page.md").read_text()
    assert text == "# A\n\n## C 3\n\n| a | b |\n| 1.0 | 2 |\n| 3.0 |  |\n"


def test_a_figure_of_seeds_shows_each() -> None:
    figures = per_seed([{"a": 1.04, "b": 1}, {"a": 2.0, "b": 2}])
    assert "{a:.1f} and {b[1]}".format(**figures) == "1.0, 2.0 and 2"
