"""A whole run from the command line: files, exit codes, what is printed, and that nothing is done twice."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from support.jobs import read_result, read_rows
from support.runs import Done, start

TOP = {
    *(
        "status",
        "address",
        "config",
        "versions",
        "arms",
        "settings",
        "comparisons",
        "smallest_p",
        "chosen",
        "verdicts",
        "wall_s",
        "peak_mb",
        "languages",
    ),
    *("model", "dtype", "model_family", "model_commit", "directions", "budget", "parameters", "facts", "figures"),
    *("clusters", "exploded", "shuffled", "files", "artifacts", "seal"),
}
ARMS = ["none", "prompt", "steer", "random", "shuffled"]
METRICS = {
    *("delta_s", "delta_s_rel", "delta_s_last", "logprob_margin", "kl", "degenerate", "refusal", "cosine", "length"),
    *("ppl_ratio", "ppl_ratio_prompt", "ppl_ratio_p95", "dose"),
}


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Done:
    """Return one run that several tests look at."""
    made = start(tmp_path_factory.mktemp("elsewhere"), "console=rich")
    assert made.process.returncode == 0, made.process.stderr
    return made


def test_the_table_has_every_arm(done: Done) -> None:
    """One row per arm, where the report is, and a line to type next; nothing on stderr."""
    lines = done.process.stdout.splitlines()
    assert done.process.stderr == ""
    assert lines[0].startswith("tiny_llama x sev (5 scenarios for directions, 5 dev, 5 test) x steer x margin")
    assert [line.split()[1] for line in lines if line.startswith("│")] == ARMS
    assert f"report: {done.result_folder / 'report.html'}" in lines
    assert any(line.startswith("next, try: python run.py model=tiny_llama ") for line in lines)


def test_the_result_has_the_published_shape(done: Done) -> None:
    """Scripts read these names: no key more or less, an interval around every value."""
    result = read_result(done.folder / "outputs")
    assert set(result) == TOP
    assert result["status"] == "done" and result["chosen"] is None
    assert len(result["address"]) == 64 and done.result_folder.name == result["address"][:16]
    assert result["config"]["model"]["name"] == "tiny_llama"
    assert {"python", "torch", "transformers"} <= set(result["versions"])
    assert result["wall_s"] >= 0 and result["peak_mb"] > 0
    assert list(result["arms"]) == ARMS
    for arm, metrics in result["arms"].items():
        assert {name.partition("/")[0] for name in metrics} == METRICS - (
            {"kl", "dose"} if arm in ("none", "prompt") else set()
        )
        for name, x in metrics.items():
            assert set(x) == {"value", "ci", "n"}
            assert math.isfinite(x["value"]) and x["n"] > 0
            assert x["ci"] is None or x["ci"][0] - 1e-9 <= x["value"] <= x["ci"][1] + 1e-9
            assert all(p in ("anger", "sadness", "fear", "positive", "negative") for p in name.split("/")[1:])
    whole, part = (result["arms"]["steer"][f"delta_s{suffix}"] for suffix in ("", "/anger/positive"))
    assert (whole["n"], part["n"]) == (5 * 2 * 3, 5)
    assert whole["ci"] is not None


def test_the_files_of_a_result(done: Done) -> None:
    """The table again as rows, every reply with what was measured on it, figures, and a report that stands alone."""
    result, folder = read_result(done.folder / "outputs"), done.result_folder
    rows = read_rows(folder / "metrics.jsonl")
    assert len(rows) == sum(map(len, result["arms"].values()))
    for row in rows:
        name = "/".join(part for part in (row["metric"], row["emotion"], row["valence"]) if part)
        assert {k: row[k] for k in ("value", "ci", "n")} == result["arms"][row["arm"]][name]
    samples = read_rows(folder / "samples.jsonl")
    entries = {"none": 1, "prompt": 3, "steer": 3, "random": 2, "shuffled": 3 * 4}  # emotions x draws
    assert {arm: sum(r["arm"] == arm for r in samples) for arm in ARMS} == {a: 10 * n for a, n in entries.items()}
    needed = {"sample", "emotion", "seed", "reply", "nll", "kl", "cosine", "degenerate", "refusal", "theme", "valence"}
    assert needed | {"scenario", "event"} <= set(samples[0])
    figures = {path.name for path in folder.glob("*.png")}
    assert figures == {"arms.png", "delta_s.png", "probes.png", "reliability.png", "pca.png", "cosines.png"}
    html = (folder / "report.html").read_text(encoding="utf-8")
    assert "<html" in html and all(arm in html for arm in ARMS)
    assert html.count("data:image/png") == len(figures)
    assert not [p for p in (done.folder / "outputs").rglob(".writing-*")]
    assert {p.name for p in done.folder.iterdir()} == {"outputs"}


def state(folder: Path) -> dict[str, int]:
    """Return when every file below ``folder`` was written."""
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_the_same_line_again_computes_nothing(done: Done) -> None:
    """Found by its address: no model, no file, the same table."""
    before = state(done.folder)
    again = start(done.folder, "console=rich", "batch_size=3")
    lines = again.process.stdout.splitlines()
    assert again.process.returncode == 0
    assert lines[0].startswith("already done")
    assert lines[0].endswith(f": {done.result_folder}")
    assert not any("loaded in" in line or "replies in" in line for line in lines)
    cells: list[Any] = [[line for line in d.process.stdout.splitlines() if line.startswith("│")] for d in (done, again)]
    assert cells[0] == cells[1]
    assert state(done.folder) == before


def test_quiet_prints_where_the_result_is_and_projection_writes_no_reply(done: Done, tmp_path: Path) -> None:
    """Another evaluator starts from what is there: no direction and no projection is computed again."""
    words = (f"paths.store={done.folder / 'outputs' / 'store'}", "evaluator=projection", "intervention.alpha=[0.5,1]")
    before = state(done.folder)
    quiet = start(tmp_path, *words)
    assert (quiet.process.returncode, quiet.process.stderr) == (0, "")
    assert quiet.process.stdout == f"{quiet.result_folder}\n"
    result = read_result(tmp_path / "outputs")
    steered = [f"{arm}@alpha={alpha}" for arm in ARMS[2:] for alpha in ("0.5", "1")]
    assert list(result["arms"]) == ["none", "prompt", *steered]
    names = {name.partition("/")[0] for metrics in result["arms"].values() for name in metrics}
    assert names == {"delta_s", "delta_s_rel", "delta_s_last", "dose"}
    [folder] = (tmp_path / "outputs" / "run").iterdir()
    assert not (folder / "samples.jsonl").exists()
    new = {Path(path).parent.parent.name for path in state(done.folder) if path not in before}
    assert new <= {"projections", "doses", "store"}
    full = read_result(done.folder / "outputs")["arms"]
    for arm in ARMS[2:]:
        assert result["arms"][f"{arm}@alpha=1"]["delta_s"] == full[arm]["delta_s"]
        half = result["arms"][f"{arm}@alpha=0.5"]["delta_s"]
        assert abs(half["value"]) != abs(full[arm]["delta_s"]["value"])
