"""The rooms of the tests: no module uses another one's tests, and fixtures lie where pytest finds them."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from support.tiers import is_long

TESTS = Path(__file__).resolve().parent.parent
MODULES = sorted(TESTS.glob("*/*.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_what_tests_share_lies_in_support(path: Path) -> None:
    """Of the tests' own files a module imports helpers alone, and a fixture of a helper would be found by nobody."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    rooms = {folder.name for folder in TESTS.iterdir() if folder.is_dir()} - {
        "support",
        "docs",
    }  # docs/figures is a module too
    for node in ast.walk(tree):
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        for name in names:
            first, _, rest = name.partition(".")
            assert not first.startswith("test_") and (first != "tests" and first not in rooms), name
        if path.parent.name == "support" and isinstance(node, ast.FunctionDef):
            assert not [one for one in node.decorator_list if "fixture" in ast.unparse(one)], node.name


def test_no_two_modules_have_one_name() -> None:
    """Pytest imports them by it."""
    names = [path.name for path in MODULES if path.name.startswith("test_")]
    assert len(names) == len(set(names))


def test_every_room_has_quick_tests() -> None:
    """What `make test-quick` runs at every save."""
    tests = [path for path in MODULES if path.name.startswith("test_")]
    assert {path.parent.name for path in tests if not is_long(path)} == {path.parent.name for path in tests}
