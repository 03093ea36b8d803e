"""Jobs on neurons and heads, from configuration to result: planted units are found; a list is its single jobs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.jobs import config, read_result
from support.planted import BLOCK, NAMES, planted_lm

from emo.cli.run import run_job
from emo.core.errors import UserError
from emo.data.published import paper_delta_s
from emo.pipeline import addresses, extracted
from emo.pipeline.scenario import Job
from emo.report.unit_results import ratios
from emo.results.estimates import estimates, long_table

pytestmark = pytest.mark.usefixtures("quiet")
ASK = (f"emotions.names=[{','.join(NAMES)}]", "elicitation=paper", "evaluator=projection", "control.score_seeds=3")


def job(folder: Path, *more: str) -> Job:
    return Job(config(folder, *ASK, *more))


@pytest.fixture
def planted_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let jobs load the planted model."""
    lm = planted_lm(neurons=True)
    monkeypatch.setattr(extracted, "load", lambda _: lm)
    describe, sizes = addresses.describe, {"n_layers": lm.n_layers, "n_heads": lm.h, "n_neurons": lm.f}
    monkeypatch.setattr(addresses, "describe", lambda *a: describe(*a)._replace(commit="planted", **sizes))


@pytest.mark.usefixtures("planted_job")
@pytest.mark.parametrize("units", ["heads", "neurons"])
def test_planted_units_are_found_and_carry_the_emotion(tmp_path: Path, units: str) -> None:
    """The planted unit ranks first in its block; one unit a block takes the emotion away, or brings it."""
    for op, sign in (("ablate", -1), ("enhance", 1)):
        made = job(tmp_path, f"intervention={op}_{units}", "intervention.k=1", "intervention.layers=all")
        bank = made.units
        assert bank is not None
        for e in range(len(NAMES)):
            block, unit = (BLOCK, 0) if units == "heads" else (BLOCK + 1, e)
            assert int(bank.scores[e, block].argmax()) == unit
            assert int(bank.scores[e].flatten().argmax()) == block * bank.scores.shape[2] + unit
        frame = long_table(made)
        found = estimates(made, frame)
        gap = found["prompt"]["delta_s"].value
        moved = found[f"{op}_{units}"]["delta_s"].value
        assert gap is not None and moved is not None and gap > 0
        assert sign * moved > 0.3 * gap
        for control in ("random", "bottom"):
            other = found[control]["delta_s"].value
            assert other is not None and abs(other) < 0.5 * abs(moved), control
        row = next(r for r in ratios(made, frame) if r["against"] == "random" and r["emotion"] is None)
        assert row["value"] is not None and row["overlap"] < 0.7


@pytest.mark.parametrize("kind", ["ablate_neurons", "enhance_heads"])
def test_a_list_is_its_single_jobs(tmp_path: Path, kind: str) -> None:
    """Several k or scales in one job give the numbers of one job each, and those jobs find them in the store."""
    tuned = ("intervention.scale=[0.5,2]",) if kind.startswith("enhance") else ()
    ask = (f"intervention={kind}", "evaluator=projection", "control.score_seeds=3", "intervention.layers=all")
    assert run_job(config(tmp_path, *ask, "intervention.k=[0,1,3]", *tuned)) == 0
    whole = read_result(tmp_path)["arms"]
    for k in (1, 3):
        for scale in (0.5, 2.0) if tuned else (1.0,):
            folder = tmp_path / f"{k}-{scale}"
            alone = (f"intervention.k={k}", f"intervention.scale={scale}", f"paths.store={tmp_path / 'store'}")
            assert run_job(config(folder, *ask, *alone)) == 0
            name = f"@k={k},scale={scale:g}" if tuned else f"@k={k}"
            for arm, metrics in read_result(folder)["arms"].items():
                same = whole[arm if arm in ("none", "prompt") else arm + name]
                assert metrics == same
    assert not any(arm.endswith("@k=0") and not arm.startswith(kind) for arm in whole)
    zero = whole[f"{kind}@k=0" + (",scale=2" if tuned else "")]
    assert zero["delta_s"]["value"] == pytest.approx(0.0, abs=1e-5)


@pytest.mark.parametrize("kind", ["ablate_heads", "enhance_neurons"])
def test_replies_margins_and_damage_of_edited_units(tmp_path: Path, kind: str) -> None:
    """The same edits during generation: every arm has replies, margins and damage; controls have fewer seeds there."""
    ask = (f"intervention={kind}", "intervention.k=[0,2]", "control.units=[random]", "control.score_seeds=4")
    assert run_job(config(tmp_path, *ask)) == 0
    result = read_result(tmp_path)
    assert {f"{kind}@k=0", f"{kind}@k=2", "random@k=2"} <= set(result["arms"])
    for arm in (f"{kind}@k=2", "random@k=2"):
        assert {"delta_s", "delta_s_last", "logprob_margin", "ppl_ratio", "degenerate"} <= set(result["arms"][arm])
    base = result["arms"]["prompt" if kind.startswith("ablate") else "none"]
    for metric in ("logprob_margin", "ppl_ratio", "length"):
        assert result["arms"][f"{kind}@k=0"][metric]["value"] == pytest.approx(base[metric]["value"], rel=1e-6)
    assert {row["against"] for row in result["ratios"]} == {"random@k=2"}
    folder = next((tmp_path / "run").iterdir())
    assert {"k_curves.png", "outcomes.png", "long_tail.png"} <= {path.name for path in folder.iterdir()}


@pytest.mark.slow
def test_the_papers_curve_stands_beside_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model of the published name, its set and its numbers of units; not another model, a pool or other blocks."""
    describe, name = addresses.describe, "Qwen/Qwen2.5-7B-Instruct"
    monkeypatch.setattr(addresses, "describe", lambda *a: describe(*a)._replace(id=name))
    for reads in ("load", "count_parameters"):
        own = getattr(extracted, reads)
        monkeypatch.setattr(extracted, reads, lambda spec, own=own: own(spec._replace(id="qwen2")))
    ask = ("model=tiny_qwen2", "intervention=ablate_neurons", "intervention.k=[0,2,3]", "control.units=[random]")
    ask += ("evaluator=projection", "control.score_seeds=2", "intervention.layers=all", "elicitation=paper")
    ask += (f"emotions.names=[{','.join(NAMES)}]",)
    assert run_job(config(tmp_path, *ask)) == 0
    page = next((tmp_path / "run").glob("*/report.html")).read_text(encoding="utf-8")
    assert "delta_s beside the paper" in page and "tables 4-7" in page
    theirs = paper_delta_s(name, "ablate_neurons", "sev_test", "anger", 2)
    assert theirs is not None and f"<td>{theirs:.1f}</td>" in page
    assert paper_delta_s(name, "ablate_neurons", "sev_test", "anger", 3) is None
    for other in ("intervention.pool=global", "intervention.layers=1-2", "directions.baseline=neutral"):
        folder = tmp_path / other.rpartition("=")[2]
        assert run_job(config(folder, *ask, other)) == 0
        assert "beside the paper" not in next((folder / "run").glob("*/report.html")).read_text(encoding="utf-8")


def test_addresses_hold_what_a_job_on_units_reads(tmp_path: Path) -> None:
    """Each of its own keys changes the result's address; those of steering, and another word for all blocks, do not."""
    base = ("intervention=enhance_heads", "intervention.k=2")
    one = job(tmp_path, *base).result_address
    own = ("intervention.k=3", "intervention.scale=2", "intervention.pool=global", "control.units=[random]",
           "control.score_seeds=4", "attribution.score_at=mlp_input", "attribution.check=2")  # fmt: skip
    assert len({one, *(job(tmp_path, *base, word).result_address for word in own)}) == 1 + len(own)
    for word in ("intervention.alpha=3", "intervention.dose=rel", "control.arms=[]", "intervention.layers=all"):
        same = job(tmp_path, *base, "intervention.layers=auto", word).result_address
        assert same == job(tmp_path, *base, "intervention.layers=all").result_address
    ablate = ("intervention=ablate_heads", "intervention.k=2")
    assert job(tmp_path, *ablate).result_address == job(tmp_path, *ablate, "intervention.scale=2").result_address


def bad(folder: Path, *words: str) -> Any:
    return Job(config(folder, "intervention=ablate_heads", *words))


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("intervention.k=99", r"intervention.k=99: tiny_llama has \d+ heads in each block"),
        ("intervention.k=[0,2,2]", "none twice"),
        ("intervention.k=-1", "from 0 on"),
        ("intervention.k=1.5", "whole number"),
        ("intervention.k=many", "whole number"),
        ("intervention.scale=much", "finite number"),
        ("control.units=[randon]", "did you mean random"),
    ],
)
def test_bad_numbers_of_units(tmp_path: Path, word: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        bad(tmp_path, word)
