"""The code uses the field's names and no retired names; see `scripts/check_names.py`."""

from pathlib import Path

import pytest

from scripts.check_names import ALLOWED, ROOT, retired_names


def test_no_retired_name_is_used() -> None:
    assert retired_names(ROOT) == []


def test_every_exception_is_still_needed() -> None:
    for exception in ALLOWED:
        file, _, name = exception.partition(" ")
        assert name in (ROOT / file).read_text(encoding="utf-8"), exception


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("remedy = 1", "remedy"),
        ("def f(luck): ...", "luck"),
        ("x = {'stay_nll': 1}", "stay_nll"),
        ("class Body: ...", "Body"),
        ('option("--draw")', "--draw"),
    ],
)
def test_a_retired_name_is_found(tmp_path: Path, line: str, name: str) -> None:
    (tmp_path / "agents").mkdir()
    (tmp_path / "agents" / "a.py").write_text(f"import os\n{line}\n", encoding="utf-8")
    (found,) = retired_names(tmp_path)
    assert found.startswith(f"agents/a.py:2 {name} (")


def test_words_within_sentences_and_longer_names_are_not_found(tmp_path: Path) -> None:
    (tmp_path / "agents").mkdir()
    text = '"""Those that stay, and a remedy."""\nheld_out = "luck has it"  # told\n'
    (tmp_path / "agents" / "a.py").write_text(text, encoding="utf-8")
    assert retired_names(tmp_path) == []
