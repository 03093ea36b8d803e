"""Every option runs on a tiny model, in this process; failures are recorded and mended by the same call."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.jobs import config, read_result, read_rows

from emo.cli.run import run_job
from emo.config.check import REPOSITORY
from emo.config.schema import Config
from emo.core import console
from emo.core.errors import UserError
from emo.data.texts import TEXTS
from emo.measure.batch import Measure
from emo.model.load import load
from emo.model.tiny import FAMILY_NAMES
from emo.pipeline import extracted

LITTLE = ("emotions.names=[anger,fear]", "dataset.valences=[positive]", "generation.max_new_tokens=3")
PUBLISHED = REPOSITORY.parent / "shared" / "golden" / "published_sev.jsonl"
NEVER = "tests must not reach this"


@pytest.fixture(autouse=True)
def _own_model() -> Iterator[None]:
    """Let no test see a model, or prompts read by it, that another one used; and leave the console as it was."""
    load.cache_clear()
    yield
    load.cache_clear()
    console.setup("rich")


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the figures, where a test is about numbers."""
    monkeypatch.setattr("emo.report.job_page.draw", lambda *_: [])


def run(made: Config) -> dict[str, Any]:
    """Run one job and return its result."""
    assert run_job(made) == 0
    return read_result(Path(made.paths.outputs))


def values(result: dict[str, Any]) -> dict[tuple[str, str], float]:
    """Return every number of a result by arm and metric."""
    return {(arm, name): x["value"] for arm, metrics in result["arms"].items() for name, x in metrics.items()}


INTERVENTIONS = {
    "none": [],
    "prompt": ["prompt"],
    "random": ["prompt", "random"],
    "shuffled": ["prompt", "shuffled"],
    "prompt_steer": ["prompt", "steer", "prompt_steer", "prompt_random", "prompt_shuffled"],
}


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize("kind", INTERVENTIONS)
def test_every_intervention_runs(kind: str, tmp_path: Path) -> None:
    """One job holds its arms and their controls, each with replies that are measured."""
    result = run(config(tmp_path, *LITTLE, f"intervention={kind}"))
    assert list(result["arms"]) == ["none", *INTERVENTIONS[kind]]
    assert all({"logprob_margin", "ppl_ratio", "degenerate"} <= set(metrics) for metrics in result["arms"].values())


@pytest.mark.parametrize("more", ["elicitation=persona", "elicitation=few_shot", "directions.tokens=reply_mean"])
def test_every_elicitation_runs(more: str, tmp_path: Path) -> None:
    """With figures: their captions and panels hang on the options."""
    found = values(run(config(tmp_path, *LITTLE, more, "evaluator=projection")))
    assert abs(found["prompt", "delta_s_rel"]) == pytest.approx(1)


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_every_family_runs(family: str, tmp_path: Path) -> None:
    """Chat templates without a system role, or none at all, sliding windows, unlike head widths."""
    result = run(config(tmp_path, *LITTLE, f"model=tiny_{family}", "evaluator=projection", "control=none"))
    assert list(result["arms"]) == ["none", "prompt", "steer"]


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize(
    "more", ["directions.tokens=reply_mean", "directions.baseline=neutral", "intervention.dose=rel"]
)
def test_other_directions_are_others(more: str, tmp_path: Path) -> None:
    """A key that is read but not used would give the same numbers."""
    plain = values(run(config(tmp_path / "plain", *LITTLE, "evaluator=projection")))
    other = values(run(config(tmp_path / "other", *LITTLE, "evaluator=projection", more)))
    assert plain.keys() == other.keys()
    assert plain["steer", "delta_s"] != pytest.approx(other["steer", "delta_s"], rel=1e-3)


@pytest.mark.usefixtures("no_figures")
def test_paper_decoding_is_for_steered_arms_only(tmp_path: Path) -> None:
    """At least ten tokens where a model is steered, plain elsewhere."""
    words = ("generation.max_new_tokens=12", "generation.decoding=paper", "control=none")
    made = config(tmp_path, *LITTLE[:2], *words)
    run(made)
    lengths: dict[str, list[int]] = {}
    for path in (tmp_path / "store" / "replies").glob("*/manifest.json"):
        arm = json.loads(path.read_text())["config"]["arm"]
        assert arm["decoding"] == ("steering" if arm["kind"] == "steer" else "plain")
        lengths[arm["kind"]] = [len(row["ids"]) for row in read_rows(path.parent / "rows.jsonl")]
    assert set(lengths) == {"none", "prompt", "steer"}
    assert min(lengths["steer"]) >= 10


@pytest.mark.usefixtures("no_figures")
def test_the_batch_size_changes_no_number(tmp_path: Path) -> None:
    """Padding, sharing and neighbours must not be seen in a result."""
    results = []
    for size in (1, 16):
        load.cache_clear()
        results.append(values(run(config(tmp_path / str(size), f"batch_size={size}"))))
    assert results[0].keys() == results[1].keys()
    assert len(results[0]) > 300
    for key, value in results[0].items():
        # A shuffled direction is what permuting leaves beside the true one: short, so rounding is a larger part of it.
        assert value == pytest.approx(results[1][key], rel=1e-5, abs=5e-5 if key[0] == "shuffled" else 1e-5), key


@pytest.mark.skipif(not PUBLISHED.is_file(), reason="the published file is not here")
def test_the_published_file_warns_and_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It breaks its own rules: one warning line with counts, and a result as from any other file."""
    words = ("dataset=jsonl", f"dataset.path={PUBLISHED}", "dataset.limit=4", "console=rich", "evaluator=projection")
    result = run(config(tmp_path, *LITTLE, *words))
    warned = [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning:")]
    assert len(warned) == 1
    assert "scenario not 15-25 words: 124" in warned[0] and "event lengths spread over 20 %: 97" in warned[0]
    assert result["arms"]["steer"]["delta_s"]["n"] == 4 * 2


def test_one_scenario_has_no_interval(tmp_path: Path) -> None:
    """One theme, one scenario in each split: everything is computed, ci is null, probes are not measured."""
    lines = (TEXTS / "sev.jsonl").read_text(encoding="utf-8").splitlines()
    path = tmp_path / "mine.jsonl"
    path.write_text("\n".join(line for line in lines if '"Work/Job"' in line), encoding="utf-8")
    words = ("dataset=jsonl", f"dataset.path={path}", "dataset.limit=1")
    result = run(config(tmp_path / "out", *LITTLE, *words))
    assert all(x["ci"] is None for metrics in result["arms"].values() for x in metrics.values())
    assert result["arms"]["steer"]["logprob_margin"]["n"] == 2
    [folder] = (tmp_path / "out" / "run").iterdir()
    assert json.loads((folder / "geometry.json").read_text())["probes"] is None
    assert not (folder / "probes.png").exists()


NO_MORE = "intervention.select.extend=0"  # of strengths beyond the grid


@pytest.mark.usefixtures("no_figures")
def test_strength_and_layers_chosen_on_dev(tmp_path: Path) -> None:
    """What was chosen stands in the result, from among what was to be tried."""
    auto = ("intervention.alpha=auto", "intervention.layers=auto", "intervention.select.max_ppl_ratio=1e9")
    tried = ("intervention.select.alpha=[0.5,1]", "intervention.select.layers=[bottom,top]")
    words = (*auto, *tried, "intervention.select.max_degenerate=1", "intervention.select.prompts=1", NO_MORE)
    chosen = run(config(tmp_path, *LITTLE, *words))["chosen"]
    assert len(chosen["tried"]) == 4
    [row] = [row for row in chosen["tried"] if row["chosen"]]
    assert (row["alpha"], row["score"]) == (chosen["alpha"], max(r["score"] for r in chosen["tried"]))
    assert chosen["layers"] == ([0] if row["layers"] == "bottom" else [2, 3])


@pytest.mark.usefixtures("no_figures")
def test_a_failure_is_recorded_and_the_same_call_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Status failed and code 1; finished stages are kept, and the next call is an ordinary one."""
    made = config(tmp_path, *LITTLE)

    def fail(*_: object) -> None:
        raise RuntimeError("no memory")

    with monkeypatch.context() as patch:
        patch.setattr(Measure, "reply", fail)
        assert run_job(made) == 1
    failed = read_result(tmp_path)
    assert (failed["status"], failed["arms"], failed["error"]) == ("failed", {}, "RuntimeError: no memory")
    assert "Traceback" in capsys.readouterr().err
    kept = {path.parent.name for path in (tmp_path / "store").glob("*/*/manifest.json")}
    assert {path.name for path in (tmp_path / "store").iterdir()} >= {"directions", "projections", "margins"}
    with monkeypatch.context() as patch:
        patch.setattr(extracted, "extract", lambda *_: pytest.fail(NEVER))
        patch.setattr(Measure, "margin", lambda *_: pytest.fail(NEVER))
        assert run_job(made) == 0
    result = read_result(tmp_path)
    assert (result["status"], result["address"]) == ("done", failed["address"])
    assert "error" not in result
    assert kept < {path.parent.name for path in (tmp_path / "store").glob("*/*/manifest.json")}


def test_a_failure_while_writing_leaves_no_half_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder is complete or says failed; scratch folders are removed."""
    made = config(tmp_path, *LITTLE, "evaluator=projection")
    monkeypatch.setattr("emo.report.job_page.draw", lambda *_: 1 / 0)
    assert run_job(made) == 1
    [folder] = (tmp_path / "run").iterdir()
    assert [path.name for path in folder.iterdir()] == ["result.json"]
    assert read_result(tmp_path)["status"] == "failed"


def test_a_request_that_turns_out_wrong_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A UserError from within a stage is the user's, not a failed job; and folders that are none are refused."""

    def refuse(*_: object) -> None:
        raise UserError("this cannot be asked for")

    monkeypatch.setattr(extracted, "extract", refuse)
    with pytest.raises(UserError, match="asked for"):
        run_job(config(tmp_path, *LITTLE))
    assert not (tmp_path / "run").exists()
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="is a file"):
        run_job(config(tmp_path / "file", *LITTLE))


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize("damage", ["{", "[]", '{"status": "done"}'])
def test_a_damaged_result_is_written_again(tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]) -> None:
    """One warning; the artifacts are still there, so it costs seconds."""
    made = config(tmp_path, *LITTLE, "evaluator=projection", "control=none")
    first = run(made)
    [path] = (tmp_path / "run").glob("*/result.json")
    path.write_text(damage, encoding="utf-8")
    again = run(made)
    assert (again["arms"], again["status"]) == (first["arms"], "done")
    warned = [line for line in capsys.readouterr().err.splitlines() if "damaged" in line]
    assert len(warned) == 1
