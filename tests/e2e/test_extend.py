"""The recipes of docs/extend: each a diff of under 60 lines that applies to the repository, and whose tests pass."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from emo.config.check import REPOSITORY

FOLDER, PAGE = REPOSITORY / "docs" / "extend", REPOSITORY / "docs" / "extend.md"
DIFFS = sorted(FOLDER.glob("*.diff"))
MOST = 60  # lines of a diff
LEFT_OUT = (".*", "outputs", "multirun", "__pycache__", "bench")
NEW = re.compile(r"^\+\+\+ b/(\S+)$", re.MULTILINE)
TEST = re.compile(r"(^|/)test_\w+\.py$")
FAMILY = re.compile(r"conf/model/tiny_(\w+)\.yaml$")
CONTRACT = "tests/contract/test_contract_models.py"  # of those that find a family by its name: the quick ones
PASSED = ("test_residual_contract", "test_neurons_sum_to_the_mlp_output", "test_verify_passes")


def files(diff: Path) -> list[str]:
    """Return the files that a diff changes or makes."""
    return NEW.findall(diff.read_text(encoding="utf-8"))


@pytest.mark.parametrize("diff", DIFFS, ids=lambda path: path.stem)
def test_a_recipe_is_short_and_shown(diff: Path) -> None:
    assert len(diff.read_text(encoding="utf-8").splitlines()) < MOST
    assert any(TEST.search(name) or FAMILY.search(name) for name in files(diff))
    if PAGE.is_file():
        assert diff.name in PAGE.read_text(encoding="utf-8")


@pytest.mark.slow
def test_every_recipe_works(tmp_path: Path) -> None:
    """All on one copy, so that no two are in each other's way; their own tests run in one process."""
    copy = tmp_path / "repository"
    shutil.copytree(REPOSITORY, copy, ignore=shutil.ignore_patterns(*LEFT_OUT))
    alone = os.environ | {"GIT_CEILING_DIRECTORIES": str(tmp_path)}  # the copy is no part of a repository
    for diff in DIFFS:
        done = subprocess.run(
            ["git", "apply", str(diff)], cwd=copy, env=alone, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{diff.name}: {done.stderr}"
    names = [name for diff in DIFFS for name in files(diff)]
    own = [name for name in names if TEST.search(name)]
    families = [found[1] for name in names if (found := FAMILY.search(name))]
    ids = [
        f"{CONTRACT}::{test}[{name}]" for test in ("test_residual_contract", "test_verify_passes") for name in families
    ]
    ids += [f"tests/config/test_options.py::test_every_family_runs[{name}]" for name in families]
    extra = {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(copy)}
    line = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *own, *ids]
    done = subprocess.run(line, cwd=copy, env=os.environ | extra, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(own) + len(families) >= len(DIFFS)
