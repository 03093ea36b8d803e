"""Loading from the hub's cache: a tiny checkpoint in the hub's own folder layout, no network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from emo.config.check import REPOSITORY
from emo.model.tiny import tiny_model, tiny_tokenizer

ROOT = REPOSITORY
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a hub cache that holds owner/tiny at one commit."""
    home = tmp_path_factory.mktemp("hub")
    repo = home / "models--owner--tiny"
    snapshot = repo / "snapshots" / COMMIT
    tiny_model("qwen2").save_pretrained(snapshot)
    tiny_tokenizer("qwen2").save_pretrained(snapshot)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(COMMIT)
    return home


@pytest.fixture(scope="module")
def with_code(cache: Path) -> Path:
    """Return the folder of owner/code, a repository whose own code would leave a file in it."""
    folder = cache / "models--owner--code" / "snapshots" / COMMIT
    folder.mkdir(parents=True)
    (folder.parents[1] / "refs").mkdir()
    (folder.parents[1] / "refs" / "main").write_text(COMMIT)
    told = {"auto_map": {"AutoConfig": "own.C", "AutoModelForCausalLM": "own.M"}, "model_type": "its_own"}
    (folder / "config.json").write_text(json.dumps(told))
    (folder / "own.py").write_text(f"open({str(folder / 'was_here')!r}, 'w').close()\n")
    return folder


def run(cache: Path, out: Path, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run the command line on the given hub cache."""
    line = [sys.executable, str(ROOT / "run.py"), "model=hub", f"paths.outputs={out}", "evaluator=projection", *args]
    environment = {**os.environ, "HF_HUB_CACHE": str(cache), "HF_HUB_DISABLE_TELEMETRY": "1", **env}
    how = {"capture_output": True, "text": True, "timeout": 120, "check": False}
    return subprocess.run(line, env=environment, cwd=out, input="y\n" * 20, **how)  # yes to whatever is asked


def test_cached_commit_is_used_offline(cache: Path, tmp_path: Path) -> None:
    """The offline switch is honoured, and the commit of the cache stands in the report."""
    args = ("model.id=owner/tiny", "dataset.limit=1", "intervention.alpha=1", "intervention.layers=1")
    done = run(cache, tmp_path, *args, HF_HUB_OFFLINE="1")
    assert done.returncode == 0, done.stderr
    assert COMMIT[:12] in next(tmp_path.glob("run/*/report.html")).read_text()


def test_uncached_model_offline_is_one_line(cache: Path, tmp_path: Path) -> None:
    """No traceback, exit code 2, nothing written."""
    done = run(cache, tmp_path, "model.id=owner/other", HF_HUB_OFFLINE="1")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "HF_HUB_OFFLINE" in done.stderr
    assert not any(tmp_path.iterdir())


@pytest.mark.slow
def test_code_of_a_repository_never_runs(cache: Path, with_code: Path, tmp_path: Path) -> None:
    """Not even when somebody pipes yes: one line, exit code 2, nothing written, no file left."""
    done = run(cache, tmp_path, "model.id=owner/code", HF_HUB_OFFLINE="1")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1 and not done.stdout
    assert done.stderr.startswith("error: model.id=owner/code: needs code of its own repository, which is never run")
    assert not any(tmp_path.iterdir())
    assert not (with_code / "was_here").exists()
