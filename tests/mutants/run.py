"""Do the tests notice planted errors? Apply every diff here to a copy of the repository and run its tests.

A diff's first line names the tests that must fail (``# tests: FILE::TEST ...``), the second says what is wrong.
Exit code 0: the tests pass on the repository as it is, and every error is caught.

    python tests/mutants/run.py [NAME ...]
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
LEFT_OUT = (".*", "outputs", "multirun", "__pycache__", "bench", "docs")
LIMIT = 300  # seconds for the tests of one diff
PASSED, FAILED = 0, 1  # exit codes of pytest; any other: the tests did not run


class Mutant(NamedTuple):
    """One planted error."""

    path: Path
    tests: list[str]
    error: str

    @classmethod
    def read(cls, path: Path) -> Mutant:
        """Read the two lines at the head of a diff."""
        first, second = path.read_text(encoding="utf-8").splitlines()[:2]
        if not first.startswith("# tests: ") or not second.startswith("# error: "):
            raise SystemExit(f"{path}: the first two lines must be '# tests: ...' and '# error: ...'")
        return cls(path, first.removeprefix("# tests: ").split(), second.removeprefix("# error: "))


@contextmanager
def copy() -> Iterator[Path]:
    """Copy what the tests need to a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        target = Path(folder) / "repository"
        shutil.copytree(REPOSITORY, target, ignore=shutil.ignore_patterns(*LEFT_OUT))
        yield target


def test(folder: Path, tests: list[str]) -> tuple[int, str]:
    """Run tests in a copy; returns the exit code and what they wrote."""
    line = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
    extra = {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(folder)}
    try:
        done = subprocess.run(
            line, cwd=folder, env=os.environ | extra, capture_output=True, text=True, timeout=LIMIT, check=False
        )
    except subprocess.TimeoutExpired:
        return -1, f"no end after {LIMIT} s"
    return done.returncode, done.stdout + done.stderr


def apply(folder: Path, mutant: Mutant) -> str:
    """Apply a diff; returns why it could not be, or an empty string."""
    line = ["git", "apply", "-C1", "--whitespace=nowarn", str(mutant.path)]
    own = os.environ | {"GIT_CEILING_DIRECTORIES": str(folder.parent)}  # the copy is no part of a repository
    done = subprocess.run(line, cwd=folder, env=own, capture_output=True, text=True, check=False)
    return done.stderr.strip()


def caught(mutant: Mutant) -> bool:
    """Return whether the named tests notice the error; prints one line."""
    start = time.perf_counter()
    with copy() as folder:
        why = apply(folder, mutant)
        code, said = (None, "") if why else test(folder, mutant.tests)
    if why:
        verdict = f"NO LONGER APPLIES ({why.splitlines()[0]})"
    elif code == FAILED:
        verdict = "caught"
    elif code == PASSED:
        verdict = "NOT CAUGHT"
    else:
        verdict = f"TESTS DID NOT RUN ({(said.strip().splitlines() or ['?'])[-1]})"
    seconds = time.perf_counter() - start
    sys.stdout.write(f"{mutant.path.stem:28} {verdict:10} {seconds:5.1f} s  {mutant.error}\n")
    sys.stdout.flush()
    return verdict == "caught"


def main(names: list[str]) -> int:
    """Check the tests on the repository as it is, then every mutant."""
    mutants = [Mutant.read(path) for path in sorted(HERE.glob("*.diff")) if not names or path.stem in names]
    if not mutants:
        sys.stderr.write(f"no diff of this name in {HERE}\n")
        return 2
    with copy() as folder:
        code, said = test(folder, sorted({name for mutant in mutants for name in mutant.tests}))
    if code != PASSED:
        sys.stdout.write(f"{said}\nthe tests fail without any planted error: nothing can be said about mutants\n")
        return 1
    found = [caught(mutant) for mutant in mutants]
    sys.stdout.write(f"{sum(found)} of {len(found)} caught\n")
    return 0 if all(found) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
