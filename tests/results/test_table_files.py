"""The table of a sweep is read from its own files where these are of just the results on disk, and is the same."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from pandas.testing import assert_frame_equal
from support.jobs import config

from emo.cli import plan
from emo.cli.run import run_job
from emo.core.sealed import changed
from emo.pipeline.jobs import make_job
from emo.report.sweep_files import summarize_sweep
from emo.results import table, table_files
from emo.results.result_file import RESULT, write_json
from emo.results.table_files import CSV, JSONL, PARQUET, has_parquet

pytestmark = pytest.mark.usefixtures("quiet")
FILES = [CSV, pytest.param(PARQUET, marks=pytest.mark.skipif(not has_parquet(), reason="pyarrow is not installed"))]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of one finished job without replies."""
    folder = tmp_path_factory.mktemp("one")
    assert run_job(config(folder, "intervention=none", "evaluator=projection")) == 0
    return folder


@pytest.fixture
def swept(tmp_path: Path, finished: Path) -> Path:
    """Return the folder of a sweep of three jobs, whose axes hold numbers, texts, lists and null."""
    [source] = (finished / "run").glob("*/")
    jobs = [
        config(tmp_path, "evaluator=projection", *words)
        for words in (
            ["intervention.alpha=1", "dataset.limit=2"],
            ["intervention.alpha=[0.1,0.30000000000000004]", "dataset.limit=3"],
            ["intervention.alpha=2.5", "dataset.limit=null", "intervention.layers=middle"],
        )
    ]
    for n, one in enumerate(jobs):
        job = make_job(one)
        target = tmp_path / "run" / job.result_address[:16]
        shutil.copytree(source, target)
        result = json.loads((target / RESULT).read_text(encoding="utf-8"))
        arms = {
            arm: {m: x | {"value": (x["value"] or 0) / 3 + n} for m, x in ms.items()}
            for arm, ms in result["arms"].items()
        }
        write_json(target / RESULT, result | {"address": job.result_address, "config": asdict(one), "arms": arms})
    made = plan.make([([f"n={n}"], one) for n, one in enumerate(jobs)], "python run.py")
    assert plan.announce(made) == []
    plan.conclude(made)
    return tmp_path / "run"


def from_results(root: Path) -> pd.DataFrame:
    sweep = table.read_sweep(root)
    assert sweep is not None
    return table.table_of([r for f in table.job_folders(root, sweep) if (r := table.read_result(f))], sweep)


def refuse(*_: Any, **__: Any) -> None:
    raise AssertionError("a result was read")


@pytest.mark.parametrize("name", FILES)
def test_the_same_table_from_either_file(swept: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the last digit, kind of column and axis; no result.json is read for it."""
    twin = from_results(swept)
    for other in {CSV, PARQUET} - {name}:
        (swept / other).unlink(missing_ok=True)
    with monkeypatch.context() as patch:
        patch.setattr(table, "read_result", refuse)
        got = table.load_results(swept)
    assert_frame_equal(got, twin, check_exact=True)
    assert got.attrs == twin.attrs
    assert {"null", "2", "3"} == set(
        map(str, got["dataset.limit"].map(lambda x: f"{x:g}" if isinstance(x, float) else x))
    )


def test_a_huge_table_has_no_lines_of_json(swept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And none of an earlier, smaller table stays beside it."""
    assert (swept / JSONL).is_file()
    monkeypatch.setattr(table_files, "MANY", 3)
    summarize_sweep(swept, config(swept.parent).tracker, anew=True)
    assert not (swept / JSONL).exists()
    assert_frame_equal(table.load_results(swept), from_results(swept))


def test_a_table_of_other_results_is_not_read(swept: Path) -> None:
    """A result that was added, changed or lost since: the table is made of what there is."""
    [first, *_] = table.job_folders(swept, table.read_sweep(swept))
    result = json.loads((first / RESULT).read_text(encoding="utf-8"))
    result["arms"]["none"]["delta_s"]["value"] = 17.0
    write_json(first / RESULT, result)
    assert 17.0 in set(table.load_results(swept)["value"])
    shutil.rmtree(first)
    assert first.name not in set(table.load_results(swept)["job"])


def test_a_damaged_table_is_not_read(swept: Path) -> None:
    twin = from_results(swept)
    for name in (CSV, PARQUET):
        if (path := swept / name).is_file():
            raw = bytearray(path.read_bytes())
            raw[len(raw) // 2] ^= 1
            path.write_bytes(bytes(raw))
    assert_frame_equal(table.load_results(swept), twin)


def test_a_second_call_reads_no_result_and_writes_nothing(swept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = {path: path.stat().st_mtime_ns for path in swept.iterdir() if path.is_file()}
    from emo.report import sweep_files as summarize

    with monkeypatch.context() as patch:
        patch.setattr(summarize, "read_any", refuse)
        summarize_sweep(swept, config(swept.parent).tracker)
    assert {path: path.stat().st_mtime_ns for path in swept.iterdir() if path.is_file()} == kept
    (swept / "report.html").unlink()
    summarize_sweep(swept, config(swept.parent).tracker)
    assert (swept / "report.html").is_file()
    assert not changed(swept, json.loads((swept / ".table.json").read_text(encoding="utf-8"))["files"])
