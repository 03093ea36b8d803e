"""Labels of replies: off-target shares, accuracy beside the paper's, the page's section and the figures."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emo.config.check import REPOSITORY
from emo.core.stats import Estimate
from emo.data.published import TABLES, paper_value
from emo.data.texts import TEXTS
from emo.measure.accuracy import AccuracyRow, accuracy_table, off_target
from emo.report.accuracy_page import accuracy_section
from emo.report.plots import accuracy_figure, calibration_figure, confusion_figure, off_target_figure

TWO = ["anger", "sadness"]
SIX = ["anger", "sadness", "happiness", "fear", "surprise", "disgust"]
VALENCES = ("positive", "neutral", "negative")
LLAMA, QWEN = "meta-llama/Llama-3.2-3B-Instruct", "Qwen/Qwen2.5-7B-Instruct"
EVIL = "<script>alert('x')"


def reply(sample: str, emotion: str | None, label: str | None, seed: int = 0) -> dict:
    row = {"sample": sample, "emotion": emotion, "seed": seed, "label": label}
    return row | {"forced": None if label in (None, "neutral") else label, "degenerate": False}


def published() -> list[dict[str, str]]:
    with (TEXTS / TABLES).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


# The paper's values


def test_every_published_accuracy_is_found_as_a_share() -> None:
    rows = [row for row in published() if row["metric"] == "accuracy_percent"]
    assert len(published()) == 376 and len(rows) == 82
    for row in rows:
        emotion = None if row["emotion"] == "average" else row["emotion"]
        valence = None if row["valence"] == "all" else row["valence"]
        found = paper_value(f"org/{row['model']}", row["method"], row["set"], emotion, valence, "accuracy")
        assert found == pytest.approx(float(row["value"]) / 100) and 0 <= found <= 1


def test_the_same_file_as_the_checked_copy() -> None:
    golden = REPOSITORY / "../shared/golden/paper_tables.csv"
    if not golden.is_file():
        pytest.skip("no shared/golden/paper_tables.csv beside this checkout")
    with golden.open(encoding="utf-8", newline="") as file:
        assert list(csv.DictReader(file)) == published()


def test_published_values_are_those_of_the_paper() -> None:
    assert paper_value(LLAMA, "steer", "sev_test", "surprise", None, "accuracy") == pytest.approx(0.6771)
    assert paper_value(LLAMA, "circuit", "sev_test", "anger", "negative", "accuracy") == pytest.approx(0.975)
    assert paper_value("/models/Qwen2.5-7B-Instruct/", "prompt", "sev", "sadness", None, "accuracy") == 0.8438
    assert paper_value(QWEN, "circuit", "sev_test", None, "positive", "accuracy") == pytest.approx(0.6187)


@pytest.mark.parametrize(
    "changed",
    [
        {"model_id": "meta-llama/Llama-3.2-1B-Instruct"},
        {"model_id": "meta-llama/Llama-3.2-3B"},
        {"model_id": "org/my-Llama-3.2-3B-Instruct"},
        {"model_id": ""},
        {"method": "prompt_steer"},
        {"method": "none"},
        {"method": "random"},
        {"dataset": "sev"},  # the paper steers on sev_test only
        {"dataset": "jsonl"},
        {"emotion": "joy"},
        {"emotion": None},
        {"valence": "positive"},
        {"metric": "clean_accuracy"},
        {"metric": "delta_s"},
    ],
)
def test_no_value_for_anything_else(changed: dict) -> None:
    exact = {
        "model_id": LLAMA, "method": "steer", "dataset": "sev_test", "emotion": "anger", "valence": None,
        "metric": "accuracy",
    }  # fmt: skip
    assert paper_value(**exact) == 0.9333
    assert paper_value(**(exact | changed)) is None


# Off-target


def test_off_target_by_hand() -> None:
    rows = [
        # Sample a, two seeds: half anger, half neutral; sample b, one seed: sadness. Not 1/3 each.
        reply("a", "anger", "anger"), reply("a", "anger", "neutral", 1), reply("b", "anger", "sadness"),
        reply("a", "sadness", "sadness"), reply("b", "sadness", None), reply("b", "sadness", None, 1),
    ]  # fmt: skip
    found = off_target(rows, TWO)
    np.testing.assert_allclose(found.matrix, [[0.25, 0.5, 0.25], [0.0, 1.0, 0.0]])
    assert (found.samples, found.unjudged) == ([2, 1], 2)


def test_a_seed_that_was_not_judged_takes_no_share() -> None:
    rows = [reply("a", "anger", "anger"), reply("a", "anger", None, 1), reply("b", "anger", "neutral")]
    np.testing.assert_allclose(off_target(rows, TWO).matrix[0], [0.5, 0.0, 0.5])


def test_an_arm_without_target_counts_for_every_emotion() -> None:
    found = off_target([reply("a", None, "anger"), reply("b", None, "neutral"), reply("c", None, None)], TWO)
    np.testing.assert_allclose(found.matrix, [[0.5, 0.0, 0.5]] * 2)
    assert (found.samples, found.unjudged) == ([2, 2], 1)


def test_nothing_judged_is_no_share() -> None:
    found = off_target([reply("a", "anger", None)], TWO)
    assert np.isnan(found.matrix).all() and found.samples == [0, 0] and found.unjudged == 1


@pytest.mark.parametrize("row", [reply("a", "joy", "anger"), reply("a", "anger", "joy")])
def test_unknown_emotions_are_refused(row: dict) -> None:
    with pytest.raises(ValueError, match="'joy': not one of anger, sadness"):
        off_target([row], TWO)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.builds(
            reply,
            st.sampled_from("abc"), st.sampled_from([*TWO, None]), st.sampled_from([*TWO, "neutral", None]),
            st.integers(0, 2),
        ),
        max_size=25,
    )
)  # fmt: skip
def test_rows_sum_to_one_where_anything_was_judged(rows: list[dict]) -> None:
    found = off_target(rows, TWO)
    assert found.unjudged == sum(row["label"] is None for row in rows)
    for e, name in enumerate(TWO):
        own = [row for row in rows if row["emotion"] in (name, None) and row["label"] is not None]
        assert found.samples[e] == len({row["sample"] for row in own})
        assert (found.matrix[e].sum() == pytest.approx(1)) if own else np.isnan(found.matrix[e]).all()


# The table and its section


def made(names: list[str], arms: list[str]) -> dict[str, dict[str, Estimate]]:
    parts = ["", *(f"/{e}" for e in names), *(f"/{e}/{v}" for e in names for v in VALENCES)]
    size = {0: 12 * len(names), 1: 12, 2: 4}
    metrics = {"accuracy": 0.4, "clean_accuracy": 0.5, "forced_accuracy": 0.6}
    return {
        arm: {f"{m}{p}": Estimate(x, 0.2, 0.9, size[p.count("/")]) for m, x in metrics.items() for p in parts}
        for arm in arms
    }


def test_table_has_every_part_once_and_the_papers_value() -> None:
    found = made(TWO, ["none", "steer@alpha=8"]) | {"prompt": {"logprob_margin": Estimate(1, 0, 2, 4)}}
    del found["none"]["accuracy/anger/positive"]
    table = accuracy_table(found, ["none", "prompt", "steer@alpha=8", "gone"], TWO, VALENCES, LLAMA, "sev_test")
    parts = [(e, v) for e in TWO for v in (*VALENCES, None)] + [(None, None)]
    assert [row[:3] for row in table] == [(arm, *part) for arm in ("none", "steer@alpha=8") for part in parts]
    assert table[0] == AccuracyRow(
        "none", "anger", "positive", None, found["none"]["clean_accuracy/anger/positive"], None
    )
    papers = {row[:3]: row.paper for row in table if row.paper is not None}
    assert papers == {("steer@alpha=8", "anger", None): 0.9333, ("steer@alpha=8", "sadness", None): 0.9604}


def test_the_papers_mean_stands_beside_the_same_six_emotions_only() -> None:
    def mean(names: list[str]) -> float | None:
        return accuracy_table(made(names, ["circuit"]), ["circuit"], names, VALENCES, QWEN, "sev_test")[-1].paper

    average = next(float(r["value"]) for r in published() if (r["emotion"], r["valence"]) == ("average", "all"))
    assert mean(SIX) == pytest.approx(average / 100)
    assert mean(TWO) is None


def test_section_shows_intervals_sizes_and_the_paper() -> None:
    found = made(TWO, ["none", "circuit"])
    html = accuracy_section(found, ["none", "circuit"], TWO, VALENCES, LLAMA, "sev_test", {"none": 3})
    none, circuit = html.split("<h3>")[1:]
    assert '0.40 <span class="ci small">[0.20, 0.90]</span>' in none and "0.50 <span" in none
    assert "left out: 3 of its replies" in none and "left out" not in circuit
    assert none.count("n&nbsp;=&nbsp;4<") == 3 and none.count("n&nbsp;=&nbsp;24<") == 2
    assert "paper" not in none and circuit.count("<br>paper") == 3  # published by valence only
    assert "<td>0.99</td>" in circuit  # 98.75 %
    assert "2510.11328" in html and "33%" in html
    for part in (none, circuit):
        widths = {len(re.findall(r"<t[hd]>", row)) for row in part.split("<tr>")[1:]}
        assert len(widths) == 1  # every row as wide as the head


def test_section_without_a_published_value_does_not_cite() -> None:
    html = accuracy_section(made(TWO, ["steer"]), ["steer"], TWO, VALENCES, "org/other", "sev_test")
    assert "paper" not in html


def test_section_is_escaped_and_empty_without_labels() -> None:
    html = accuracy_section(made([EVIL, "anger"], [EVIL]), [EVIL], [EVIL, "anger"], [EVIL], "m", "d")
    assert "<script" not in html and "&lt;script&gt;" in html and "not measured" in html
    assert accuracy_section({"none": {"kl": Estimate(0, 0, 0, 3)}}, ["none"], TWO, VALENCES, LLAMA, "sev_test") == ""


# Figures


def is_png(path: Path) -> bool:
    return path.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(("names", "arms"), [(TWO, ["none", "steer"]), (SIX, [f"steer@alpha={a}" for a in range(5)])])
def test_figures_are_drawn(tmp_path: Path, names: list[str], arms: list[str]) -> None:
    found = made(names, arms)
    found[arms[0]] |= {"accuracy/anger": Estimate(0.5, None, None, 1), "accuracy": Estimate(None, None, None, 0)}
    assert is_png(accuracy_figure(found, [*arms, "gone"], names, "a $ title", tmp_path / "a.png"))
    mats = {arm: np.full((len(names), len(names) + 1), 1 / (len(names) + 1)) for arm in arms}
    mats[arms[0]][0] = np.nan
    assert is_png(off_target_figure(mats, names, "t", tmp_path / "o.png"))


def test_figures_of_the_classifier(tmp_path: Path) -> None:
    assert is_png(confusion_figure([[5, 1, 0], [0, 6, 0], [0, 0, 0]], [*TWO, "neutral"], "t", tmp_path / "c.png"))
    bins = [{"confidence": 0.8, "accuracy": 0.75, "n": 12}]
    assert is_png(calibration_figure(bins, 0.05, "t", tmp_path / "b.png"))


def test_figures_refuse_what_does_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    with pytest.raises(ValueError, match="nothing to draw"):
        accuracy_figure({"none": {"kl": Estimate(0, 0, 0, 3)}}, ["none"], TWO, "t", path)
    with pytest.raises(ValueError, match="steer: .* for 2 emotions"):
        off_target_figure({"steer": np.eye(2)}, TWO, "t", path)
    with pytest.raises(ValueError, match="for 3 classes"):
        confusion_figure(np.eye(2), [*TWO, "neutral"], "t", path)
    with pytest.raises(ValueError, match="nothing to draw"):
        calibration_figure([], 0.0, "t", path)
    assert not path.exists()
