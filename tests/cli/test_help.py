"""What a new user sees first: one screen of help, all options behind it, and options with TAB in a real shell."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from support.command import run

from emo.config.check import REPOSITORY
from emo.config.error_text import GROUPS

pytestmark = pytest.mark.long


def test_the_help_is_one_screen(tmp_path: Path) -> None:
    done = run(tmp_path, "--help")
    lines = done.stdout.rstrip("\n").split("\n")
    assert done.returncode == 0 and done.stderr == ""
    assert len(lines) <= 40 and max(map(len, lines)) <= 100
    assert "python run.py --help groups" in done.stdout
    assert 'eval "$(python run.py -sc install=bash)"' in done.stdout
    named = set(re.findall(r"\w+", done.stdout))
    assert named >= {*GROUPS}, {*GROUPS} - named
    assert list(tmp_path.iterdir()) == []


def test_every_line_of_the_help_may_be_typed(tmp_path: Path) -> None:
    """Those that run a job are shown as they would run; nothing starts."""
    template = yaml.safe_load((REPOSITORY / "conf" / "hydra" / "help" / "emo.yaml").read_text())["template"]
    [block] = re.findall(r"Five lines to type:\n\n(.*?)\n\n", template, re.DOTALL)
    lines = [line.partition("#")[0].split()[1:] for line in block.splitlines()]
    assert len(lines) == 5 and ["experiment=first_look"] in lines
    for words in lines:
        if "sweeps=budget" not in words:  # 34 jobs, which tests/e2e/test_presets.py looks at
            kept = [word for word in words if not word.startswith(("model=", "task="))]
            more = ["model=tiny_llama", "task=plan", f"paths.outputs={tmp_path / 'outputs'}"]
            done = run(tmp_path, *kept, *more)
            assert done.returncode == 0 and "nothing has started" in done.stdout, (words, done.stderr)


def test_all_options_are_behind_it(tmp_path: Path) -> None:
    said = run(tmp_path, "--help", "groups").stdout
    for group in GROUPS:
        options = ", ".join(sorted(path.stem for path in (REPOSITORY / "conf" / group).glob("*.yaml")))
        assert f"\n{group}: {options}\n" in said, group
    assert "intervention.layers=RANGE" in said and "task=report" in said
    wrong = run(tmp_path, "--help", "gruops")
    assert (wrong.returncode, wrong.stderr) == (
        2, "error: --help gruops: type --help (one screen) or --help groups (all options)\n",
    )  # fmt: skip


def completed(script: str, program: str, typed: str, path: Path) -> list[str]:
    """Return what bash offers for a line that ends where TAB is pressed, with the completion of a program installed."""
    at = len(typed.split()) - (not typed.endswith(" "))
    lines = [
        f'eval "$({program} -sc install=bash)"', f"COMP_LINE='{typed}'", "COMP_POINT=${#COMP_LINE}", f"COMP_CWORD={at}",
        f"complete -p {program.split()[0]}", "hydra_bash_completion", 'printf "%s\\n" "${COMPREPLY[@]}"',
    ]  # fmt: skip
    variables = os.environ | {"PATH": f"{path}:{os.environ['PATH']}", "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        ["bash", "-c", "\n".join(lines)], cwd=script, env=variables, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and done.stderr == "", done.stderr
    registered, *offered = done.stdout.splitlines()
    assert registered.endswith(f"-F hydra_bash_completion {program.split()[0]}")
    return offered


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with ``python`` and an ``emo`` as pip installs it."""
    folder = tmp_path_factory.mktemp("bin")
    (folder / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (folder / "emo").write_text(f"#!{sys.executable}\nimport sys\nfrom emo.__main__ import main\nsys.exit(main())\n")
    for path in folder.iterdir():
        path.chmod(0o755)
    return folder


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash here")
@pytest.mark.parametrize(
    ("program", "typed", "offered"),
    [
        ("python run.py", "python run.py intervention=ste", ["intervention=steer"]),
        ("emo", "emo model=smollm2_135m sweeps=al", ["sweeps=alpha"]),
        ("emo", "emo experiment=first_look generation.max", ["generation.max_new_tokens="]),
        ("python run.py", "python run.py seed=[1 inter", []),  # and no error in the middle of the line
    ],
)
def test_bash_offers_options(programs: Path, program: str, typed: str, offered: list[str]) -> None:
    found = completed(str(REPOSITORY), program, typed, programs)
    assert [word for word in found if word] == offered
