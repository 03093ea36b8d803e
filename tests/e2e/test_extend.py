"""The recipes of docs/extend.md: each is a diff of new files that applies to the clone, whose own tests pass."""

from __future__ import annotations

import importlib
import inspect
import subprocess
from pathlib import Path

import pytest
from support.command import run

from emo.config.check import REPOSITORY

EXTEND = REPOSITORY / "docs" / "extend"
RECIPES = {  # name of the diff -> module of its test
    "evaluator": "test_keyword_labeller",
    "metric": "test_question_marks",
}


def apply(name: str, folder: Path) -> Path:
    """Apply a diff to an empty folder, which takes new files only; return the folder ``mine``."""
    subprocess.run(["git", "apply", str(EXTEND / f"{name}.diff")], cwd=folder, check=True, capture_output=True)
    return folder / "mine"


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_short_and_its_tests_pass(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("emo.report.job_page.draw", lambda *_: [])
    assert len((EXTEND / f"{name}.diff").read_text(encoding="utf-8").splitlines()) < 60
    monkeypatch.syspath_prepend(apply(name, tmp_path))
    module = importlib.import_module(RECIPES[name])
    tests = [test for key, test in vars(module).items() if key.startswith("test_")]
    for i, test in enumerate(tests):
        (tmp_path / str(i)).mkdir()
        test(**({"tmp_path": tmp_path / str(i)} if "tmp_path" in inspect.signature(test).parameters else {}))
    assert len(tests) == 2
    assert EXTEND.with_suffix(".md").read_text(encoding="utf-8").count(f"(extend/{name}.diff)") == 1


def test_the_command_line_takes_them_from_a_folder(tmp_path: Path) -> None:
    """In a sweep: composed, swept over and kept with its line, which names the folder; nothing has to be installed."""
    for name in RECIPES:
        apply(name, tmp_path)
    words = ("model=tiny_llama", "intervention=none", "emotions.names=[anger,fear]", "dataset.limit=1", "device=cpu")
    outputs = f"paths.outputs={tmp_path / 'outputs'}"
    sweep = ("evaluator=keyword_labeller,margin_and_questions", "elicitation.judge=none", "task=plan")
    done = run(tmp_path, "--config-dir", "mine/conf", "-m", *words, outputs, *sweep, PYTHONPATH="mine")
    assert done.returncode == 0, done.stderr
    assert "plan of 2 jobs" in done.stdout and "python run.py --config-dir mine/conf -m model=tiny_llama" in done.stdout
