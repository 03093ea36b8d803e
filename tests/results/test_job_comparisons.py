"""Jobs against each other: the right pairs, the differences that were planted, and nothing where nothing is."""

from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd
import pytest

from emo.core.stats import holm, paired
from emo.report.sweep_comparisons import _table
from emo.results.job_comparisons import _least, compare_jobs, pairs
from emo.results.main_effects import main_effects
from emo.results.sweep_findings import effects_line, findings, lead
from emo.results.values import JobValues

EMOTIONS, VALENCES, SCENARIOS = ("anger", "fear"), ("positive", "negative"), 9


def job(settings: dict[str, str], means: dict[str, float], seed: int = 0, noise: float = 0.1) -> JobValues:
    """Return a job with values around the mean of every arm; the same noise for the same seed."""
    rng, places, rows = np.random.default_rng(seed), {}, []
    for s, valence, emotion in product(range(SCENARIOS), VALENCES, EMOTIONS):
        places[f"s{s}/{valence}"] = (s, valence)
        rows.append((f"s{s}/{valence}", emotion))
    index = pd.MultiIndex.from_tuples(rows, names=["sample", "emotion"])
    draws = {(arm, "clean_accuracy"): mean + noise * rng.normal(size=len(rows)) for arm, mean in means.items()}
    table = pd.DataFrame(draws, index=index)
    return JobValues("-".join(settings.values()), settings, table, places, ("steer",), ("random",))


def test_pairs_differ_in_one_key() -> None:
    jobs = [job({"model": m, "alpha": a}, {"steer": 0.5}) for m in ("x", "y") for a in ("1", "2")]
    found = [(p.axis, p.a.job, p.b.job, p.at) for p in pairs(jobs)]
    assert found == [
        ("alpha", "x-1", "x-2", "model=x"), ("model", "x-1", "y-1", "alpha=1"),
        ("model", "x-2", "y-2", "alpha=2"), ("alpha", "y-1", "y-2", "model=y"),
    ]  # fmt: skip


def test_the_same_job_under_two_names_does_not_differ() -> None:
    found = compare_jobs([job({"model": m}, {"steer": 0.5, "random": 0.1, "none": 0.0}) for m in ("x", "y")])
    assert (found["difference"] == 0).all() and (found["p"] == 1).all() and (found["ci_lo"] == 0).all()
    assert set(found["arm"]) == {"steer", "none"} and set(found["beyond"]) == {"", "random"}
    assert set(zip(found["emotion"], found["valence"], strict=True)) == {
        ("", ""), ("anger", ""), ("fear", ""), ("", "positive"), ("", "negative"),
    }  # fmt: skip


def test_differences_are_those_of_the_slow_twin() -> None:
    """Overall and for a part; the control of each job is taken off in the difference of differences."""
    a = job({"model": "x"}, {"steer": 0.7, "random": 0.3}, seed=1)
    b = job({"model": "y"}, {"steer": 0.4, "random": 0.1}, seed=2)
    found = compare_jobs([a, b], draws=300)
    scenario = [sample for sample, _ in a.table.index]
    scenario = [a.places[sample][0] for sample in scenario]
    for beyond in ("", "random"):
        off = [t.table["random", "clean_accuracy"] if beyond else 0.0 for t in (a, b)]
        own = [t.table["steer", "clean_accuracy"] - o for t, o in zip((a, b), off, strict=True)]
        twin = paired(own[0].to_numpy(), own[1].to_numpy(), scenario, 300)
        [row] = found.query("beyond == @beyond and emotion == '' and valence == ''").to_dict("records")
        assert row["difference"] == pytest.approx(twin.difference.value)
        assert [row["ci_lo"], row["ci_hi"]] == pytest.approx([twin.difference.lo, twin.difference.hi])
        assert row["p"] == pytest.approx(twin.p) and row["scenarios"] == SCENARIOS
    whole = found.query("emotion == '' and valence == ''")
    assert whole["p_holm"].tolist() == pytest.approx(holm(whole["p"].tolist()))


def test_other_prompts_are_not_compared() -> None:
    a, b = (job({"model": m}, {"steer": 0.5}) for m in ("x", "y"))
    b.table.index = pd.MultiIndex.from_tuples(
        [(f"other-{s}", e) for s, e in b.table.index], names=["sample", "emotion"]
    )
    assert compare_jobs([a, b]).empty


def test_what_matters() -> None:
    """Budget does, allocation does not; one key at a time and a factorial part, so that plain means mislead."""
    effect = {"60": 0.2, "300": 0.6, "600": 0.5}
    plan = [("60", "importance"), ("300", "importance"), ("600", "importance"), ("300", "uniform"), ("600", "uniform")]
    jobs = [
        job({"budget": k, "allocation": w}, {"steer": effect[k], "random": 0.1}, seed=i)
        for i, (k, w) in enumerate(plan)
    ]
    found = main_effects(jobs)
    assert found is not None and [factor.axis for factor in found.factors] == ["budget", "allocation"]
    budget, allocation = found.factors
    assert budget.p_holm is not None and budget.p_holm < 0.02 and (allocation.p_holm or 0) > 0.1
    [low, high, middle] = [level.effect for level in budget.levels]
    assert [low, high, middle] == pytest.approx([0.2 - 1.3 / 3, 0.6 - 1.3 / 3, 0.5 - 1.3 / 3], abs=0.04)
    assert sum(level.effect for level in allocation.levels) == pytest.approx(0)
    assert np.ptp([level.mean for level in allocation.levels]) > 0.08 > np.ptp([e.effect for e in allocation.levels])
    line = "6 scenarios and 2 keys allow no p below 0.0625, so compare"  # 2 x 2 / 2^6: what they leave open is said
    few = tuple(factor._replace(p_holm=0.07, p_least=0.0625) for factor in found.factors)
    said = effects_line(found._replace(scenarios=6, factors=few))
    assert line in said and "p = " not in said
    assert "allow no p" not in effects_line(found)
    back = main_effects([jobs[i] for i in (2, 0, 4, 1, 3)])  # numbers stand by their size, whatever came first
    assert back is not None and [level.value for level in back.factors[0].levels] == ["60", "300", "600"]
    beyond = main_effects(jobs, "random")
    assert beyond is not None and beyond.factors[0].axis == "budget"


def test_keys_that_change_together_are_not_told_apart() -> None:
    jobs = [job({"budget": k, "allocation": w}, {"steer": 0.5}) for k, w in (("1", "a"), ("2", "b"))]
    assert main_effects(jobs) is None
    assert main_effects([job({"budget": "1"}, {"steer": 0.5}), job({"budget": "2"}, {"steer": 0.5})]) is None


def few(scenarios: int, settings: int, monkeypatch: pytest.MonkeyPatch) -> pd.DataFrame:
    """Return the comparisons of jobs that differ clearly, on so many scenarios."""
    monkeypatch.setitem(globals(), "SCENARIOS", scenarios)
    jobs = [job({"alpha": f"{i}"}, {"steer": 0.3 * i, "random": 0.0}, seed=i, noise=0.01) for i in range(settings)]
    return compare_jobs(jobs)


def test_pairs_that_cannot_be_tested_are_not_counted_as_equal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of three scenarios there is no p at all, so none of the pairs is told to have one."""
    [line] = findings(few(3, 4, monkeypatch), None)
    assert line.startswith(
        "alpha: none of 6 pairs of settings could be tested in clean accuracy (3 scenarios, 5 needed)"
    )
    assert line.endswith("3 scenarios are too few for an interval or a p (5 are needed).") and "<= 0.05" not in line


def test_no_p_is_printed_where_none_can_be_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on the page of a job: six scenarios and twelve comparisons give no p below 0.375."""
    found = few(6, 4, monkeypatch)
    whole = found.query("emotion == '' and valence == ''")
    assert whole["p_least"].tolist() == pytest.approx([12 / 2**5] * 12) and (whole["p_holm"] >= 12 / 2**5).all()
    [line] = findings(found, None)
    assert line.startswith(
        "alpha: none of 6 pairs of settings could be tested in clean accuracy: 6 scenarios and 12 comparisons allow no "
        "p below 0.375; the intervals of 6 leave 0 out; the largest difference: alpha 0 less 3"
    )
    assert "too few scenarios or groups for a p: the interval leaves 0 out, but 6 scenarios" in line
    assert "p = " not in line and "p <" not in line
    table = _table(lead(found), 12)
    assert table.count("too few scenarios") == 12 and not any(f">{p:.3f}<" in table for p in whole["p_holm"])
    [single] = findings(few(6, 2, monkeypatch), None)
    assert "0.062" in single and "p = " not in single  # 2 comparisons: 0.0625
    [tested] = findings(few(11, 4, monkeypatch), None)
    assert tested.startswith(
        "alpha: 6 of 6 pairs of settings differ in clean accuracy (the interval leaves 0 out, p <= "
    )


def test_a_small_p_whose_interval_has_0_in_it_is_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    found = few(11, 4, monkeypatch)
    [line] = findings(found.assign(ci_lo=-0.1, ci_hi=0.1), None)
    assert line.startswith("alpha: 0 of 6 pairs of settings differ")


def test_pairs_of_unlike_numbers_of_scenarios_share_the_smallest_p_of_their_family() -> None:
    """A pair on fewer scenarios cannot have the p that others may."""
    frame = pd.DataFrame({"p": [0.1, 0.1, np.nan], "scenarios": [5, 10, 3]})
    least = _least(frame, 2000)
    assert least[:2] == pytest.approx([1 / 16, 2 / 2**9]) and np.isnan(least[2])
