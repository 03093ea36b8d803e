"""Models of random weights are named before anything is found in their numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.class_jobs import done

from emo.core import console
from emo.report.sweep_files import summarize_sweep
from emo.results.random_weights import random_weights


def result(name: str, source: str, status: str = "done") -> dict[str, Any]:
    """Return what is read of a job's result.json."""
    return {"status": status, "config": {"model": {"name": name, "source": source}}}


def test_all_or_some() -> None:
    tiny, other = result("tiny_llama", "tiny"), result("smollm2_135m", "embedded")
    assert random_weights([tiny, result("tiny_gpt2", "tiny"), tiny, None]) == (
        "tiny_llama, tiny_gpt2: random weights, so the numbers of this sweep mean nothing, whatever is found in them "
        "below."
    )
    assert random_weights([tiny, other]).startswith("tiny_llama: random weights, so its numbers, and what")
    assert random_weights([other, result("tiny_llama", "tiny", "failed")]) == ""


def test_page_and_terminal_begin_with_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also where the table is printed again from what is kept of it."""
    console.setup("quiet")
    job, _, _ = done(tmp_path, "control.seeds=1")
    console.setup("rich")
    told = "random weights, so the numbers of this sweep mean nothing"
    for _ in range(2):
        summarize_sweep(tmp_path / "run", job.config.tracker)
        said = capsys.readouterr().out
        assert told in said and said.index(told) < said.index("test: mean")
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    found = page.partition("<h2>Finding</h2>")[2].lstrip()
    assert found.startswith(f"<p><strong>{job.config.model.name}: {told}")
