"""The recipes of docs/extend.md: each is a diff of under 60 lines that applies to the clone, whose own tests pass."""

from __future__ import annotations

import importlib
import inspect
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.command import run

from emo.config.check import REPOSITORY

PAGE = REPOSITORY / "docs" / "extend.md"
DIFFS = {path.stem: path for path in sorted((REPOSITORY / "docs" / "extend").glob("*.diff"))}
OUTSIDE = [name for name in DIFFS if name != "family"]  # the package stays as it is
LEFT_OUT = (".*", "outputs", "multirun", "__pycache__", "bench")
MOST = 60  # lines
CONTRACT = ("test_residual_contract", "test_neurons_sum_to_the_mlp_output", "test_verify_passes")


def files(name: str) -> list[str]:
    """Return the files that a diff changes or makes."""
    return re.findall(r"^\+\+\+ b/(\S+)$", DIFFS[name].read_text(encoding="utf-8"), re.MULTILINE)


def apply(name: str, folder: Path) -> None:
    """Apply a diff to a folder."""
    alone = os.environ | {"GIT_CEILING_DIRECTORIES": str(folder.parent)}  # the folder is no part of a repository
    subprocess.run(["git", "apply", str(DIFFS[name])], cwd=folder, env=alone, check=True, capture_output=True)


@pytest.mark.parametrize("name", DIFFS)
def test_a_recipe_is_short_and_shown(name: str) -> None:
    text = DIFFS[name].read_text(encoding="utf-8")
    added = [line for line in text.splitlines() if line.startswith("+") and not line.startswith("+++")]
    assert len(added) < MOST
    assert PAGE.read_text(encoding="utf-8").count(f"(extend/{name}.diff)") == 1
    assert name == "family" or all(path.startswith("mine/") for path in files(name))


@pytest.mark.parametrize("name", OUTSIDE)
def test_the_tests_of_a_recipe_pass(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("emo.report.job_page.draw", lambda *_: [])
    apply(name, tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    [path] = [path for path in files(name) if Path(path).name.startswith("test_")]
    module = importlib.import_module(path.removesuffix(".py").replace("/", "."))
    tests = [test for key, test in vars(module).items() if key.startswith("test_")]
    for i, test in enumerate(tests):
        (tmp_path / str(i)).mkdir()
        test(**({"tmp_path": tmp_path / str(i)} if "tmp_path" in inspect.signature(test).parameters else {}))
    assert tests


def test_the_command_line_takes_them_from_a_folder(tmp_path: Path) -> None:
    """In a sweep: composed, swept over and kept with its line, which names the folder; nothing has to be installed."""
    for name in ("evaluator", "metric"):
        apply(name, tmp_path)
    words = ("model=tiny_llama", "intervention=none", "emotions.names=[anger,fear]", "dataset.limit=1", "device=cpu")
    outputs = f"paths.outputs={tmp_path / 'outputs'}"
    sweep = ("evaluator=keyword_labeller,margin_and_questions", "elicitation.judge=none", "task=plan")
    done = run(tmp_path, "--config-dir", "mine/conf", "-m", *words, outputs, *sweep)
    assert done.returncode == 0, done.stderr
    assert "plan of 2 jobs" in done.stdout and "python run.py --config-dir mine/conf -m model=tiny_llama" in done.stdout


@pytest.mark.slow
def test_all_of_them_on_one_copy(tmp_path: Path) -> None:
    """No two are in each other's way, and the contract tests take up the family by themselves."""
    copy = tmp_path / "repository"
    shutil.copytree(REPOSITORY, copy, ignore=shutil.ignore_patterns(*LEFT_OUT))
    for name in DIFFS:
        apply(name, copy)
    tests = [path for name in DIFFS for path in files(name) if Path(path).name.startswith("test_")]
    tests += [f"tests/contract/test_contract_models.py::{test}[stablelm]" for test in CONTRACT]
    tests += ["tests/config/test_options.py::test_every_family_runs[stablelm]", "tests/docs/test_families.py"]
    extra = {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(copy)}
    line = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests]
    done = subprocess.run(line, cwd=copy, env=os.environ | extra, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
