"""Functions are short and have few parameters; a comment explains every exception."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("worldmodels", "agents", "envs", "scripts", "tests")
MAX_LINES, MAX_PARAMETERS = 60, 7
EXCUSE = "# Long"  # begins the comment directly above a function that is longer or wider


def large_functions(path: Path) -> Iterator[str]:
    """Yield the size of each function that is too large and has no comment that excuses it."""
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        names = [each.arg for each in (*node.args.posonlyargs, *node.args.args)]
        parameters = len(names) + len(node.args.kwonlyargs) - (names[:1] in (["self"], ["cls"]))
        length = (node.end_lineno or node.lineno) - node.lineno + 1
        if length > MAX_LINES or parameters > MAX_PARAMETERS:
            first = min([node.lineno, *(each.lineno for each in node.decorator_list)])
            if not excused(lines, first):
                yield f"{node.lineno} {node.name}: {length} lines, {parameters} parameters"


def excused(lines: list[str], first: int) -> bool:
    """Whether the comment above line `first`, counted from 1, begins with `EXCUSE`."""
    above = first - 1
    while above > 0 and lines[above - 1].lstrip().startswith("#"):
        above -= 1
    return above < first - 1 and lines[above].lstrip().startswith(EXCUSE)


def test_functions_are_small() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{each}"
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
        for each in large_functions(path)
    ]
    assert found == []


def test_a_large_function_is_found_and_excused_by_a_comment(tmp_path: Path) -> None:
    body = "    x = 1\n" * 60
    wide = "def g(a, b, c, d, e, f, g, *, h): ...\n"
    method = "class A:\n    def m(self, a, b, c, d, e, f, g): ...\n"
    path = tmp_path / "a.py"
    path.write_text(f"def f():\n{body}{wide}{method}", encoding="utf-8")
    assert list(large_functions(path)) == [
        "1 f: 61 lines, 0 parameters",
        "62 g: 1 lines, 8 parameters",
    ]
    path.write_text(f"# Long: a table.\n# Of two lines.\n@dec\ndef f():\n{body}", encoding="utf-8")
    assert list(large_functions(path)) == []
    path.write_text(f"# A comment.\ndef f():\n{body}", encoding="utf-8")
    assert len(list(large_functions(path))) == 1
