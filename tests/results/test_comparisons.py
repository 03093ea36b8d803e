"""Paired comparisons, spread subsets, stand-in replies: what a reader of the table relies on."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.jobs import config

from emo.core.stats import paired
from emo.data.scenarios import VALENCES, Sample, load_splits, spread
from emo.measure.margin import stand_ins
from emo.model.prompts import example_set
from emo.pipeline.scenario import Job
from emo.results.estimates import comparisons, long_table

pytestmark = pytest.mark.usefixtures("quiet")


def samples(scenarios: int, theme: str = "Work/Job") -> list[Sample]:
    """Return samples in file order: each scenario with its three outcomes."""
    return [
        Sample(f"s{i}/{v}", f"s{i}", theme, v, f"I saw {i}.", "It rained.") for i in range(scenarios) for v in VALENCES
    ]


@given(scenarios=st.integers(1, 60), bound=st.integers(1, 200))
def test_a_subset_is_spread_over_scenarios_and_outcomes(scenarios: int, bound: int) -> None:
    """A subset of one outcome, or of the first themes only, would choose strengths for them."""
    some = samples(scenarios)
    picked = spread(some, bound)
    assert len(picked) == len(set(picked)) == min(bound, len(some))
    outcomes = Counter(some[i].valence for i in picked)
    assert max(outcomes.values()) - min(outcomes.get(v, 0) for v in VALENCES) <= 2
    per_scenario = Counter(some[i].scenario_id for i in picked)
    assert max(per_scenario.values()) - (0 if len(per_scenario) < scenarios else min(per_scenario.values())) <= 1


def test_example_sets_do_not_follow_the_outcome() -> None:
    """Examples that come with one outcome only would be mistaken for its effect."""
    shipped = load_splits(
        config(Path(), "dataset.limit=null", "dataset.valences=[positive,neutral,negative]").dataset, 0
    ).test
    sets = {v: {example_set(s) % 12 for s in shipped if s.valence == v} for v in VALENCES}
    assert all(len(found) >= 8 for found in sets.values())


def test_comparisons_are_paired_on_the_rows_of_the_table(tmp_path: Path) -> None:
    """Steer against none and each control of its own strength, with the sign-flip p of `emo.core.stats`."""
    job = Job(config(tmp_path, "intervention.alpha=[0.5,1]", "dataset.limit=5"))
    frame = long_table(job)
    rows = comparisons(job, frame)
    against = {(row["arm"], row["against"].partition("@")[0]) for row in rows}
    rivals = ("none", "prompt", "random", "shuffled")
    assert against == {(f"steer@alpha={a}", rival) for a in ("0.5", "1") for rival in rivals}
    row = next(r for r in rows if r["arm"] == "steer@alpha=1" and r["against"] == "random@alpha=1")

    def values(arm: str) -> Any:
        part = frame[(frame["arm"] == arm) & (frame["metric"] == row["metric"])]
        return part.groupby(["sample", "emotion"])[["scenario", "value"]].mean()  # over draws

    a, b = values("steer@alpha=1"), values("random@alpha=1")
    expected = paired(a["value"].to_numpy(), b["value"].to_numpy(), list(a["scenario"]))
    assert row["value"] == pytest.approx(expected.difference.value)
    assert row["value"] == pytest.approx(a["value"].mean() - b["value"].mean())
    assert row["p_holm"] >= row["p"] == pytest.approx(expected.p)
    assert expected.difference.lo is not None and expected.difference.hi is not None
    assert row["ci"] != pytest.approx([expected.difference.lo, expected.difference.hi])  # draws are resampled too


def test_foreign_themes_are_named() -> None:
    """Replies of another theme may stand in, but not without a word."""
    assert stand_ins(samples(2)) == {}
    assert list(stand_ins(samples(2, "Cooking"))) == ["Cooking"]
