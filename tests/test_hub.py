"""Loading from the hub's cache: a tiny checkpoint in the hub's own folder layout, no network."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from emo.models.tiny import tiny_model, tiny_tokenizer

ROOT = Path(__file__).resolve().parent.parent
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


def run(cache: Path, out: Path, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run the command line on the given hub cache."""
    line = [sys.executable, str(ROOT / "run.py"), "model=hub", f"paths.outputs={out}", "evaluator=projection", *args]
    environment = {**os.environ, "HF_HUB_CACHE": str(cache), "HF_HUB_DISABLE_TELEMETRY": "1", **env}
    return subprocess.run(line, capture_output=True, text=True, env=environment, timeout=120, cwd=out, check=False)


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
