"""The smallest sufficient budget, on tables whose answer is known."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emo.report.min_budget import BUDGET, SHARE, smallest_budget, table
from emo.report.plots.min_budget import count, min_budget_figure
from emo.report.sweep_files import _budgets
from emo.results.table import to_table

SIZES = {"small": 135_000_000, "large": 7_600_000_000}


def rows(values: dict[Any, float], model: str = "small", metric: str = "clean_accuracy", **more: Any) -> list[Any]:
    """Return rows of one model, by budget, with a random arm that would answer otherwise."""
    made = []
    for k, value in values.items():
        base: dict[str, Any] = {"job": f"{k}", "model": model, BUDGET: k, "metric": metric, "n": 12} | more
        made.append(base | {"arm": "circuit", "value": value, "ci_lo": value - 0.1, "ci_hi": value + 0.1})
        made.append(base | {"arm": "random_circuit", "value": 1.0, "ci_lo": 0.9, "ci_hi": 1.0})
        made.append(made[-2] | {"metric": f"{metric}/anger", "value": 9.0})
    return made


def test_the_smallest_of_those_that_suffice() -> None:
    [found] = smallest_budget(rows({600: 0.8, 40: 0.1, 300: 0.72, 80: 0.71}))
    assert (found["budget"], found["full_budget"], found["metric"]) == (300, 600, "clean_accuracy")
    assert found["estimate"] == (0.72, pytest.approx(0.62), pytest.approx(0.82), 12)
    assert found["full"].value == 0.8
    assert found["parameters"] is None
    [dip] = smallest_budget(rows({40: 0.8, 80: 0.1, 600: 0.8}))
    assert dip["budget"] == 40  # the smallest, though a larger one does worse
    [none_less] = smallest_budget(rows({40: 0.1, 600: 0.8}))
    assert none_less["budget"] == 600


def test_a_better_small_circuit_does_not_raise_the_bar() -> None:
    """Full is the largest budget, not the best one."""
    [found] = smallest_budget(rows({40: 0.45, 80: 0.9, 600: 0.5}))
    assert found["budget"] == 40


def test_metrics_in_their_order_and_only_where_measured() -> None:
    frame = pd.DataFrame(
        rows({1: math.nan, 2: math.nan}) + rows({1: 0.5, 2: 0.5}, metric="delta_s_rel")
        + rows({1: 0.1, 2: 0.5}, metric="logprob_margin")
    )  # fmt: skip
    [found] = smallest_budget(frame)
    assert (found["metric"], found["budget"]) == ("logprob_margin", 2)
    assert smallest_budget(frame[frame["metric"] == "clean_accuracy"]) == []
    assert smallest_budget([]) == smallest_budget(pd.DataFrame()) == []


def test_without_an_effect_there_is_no_budget() -> None:
    [found] = smallest_budget(rows({1: -0.3, 2: -0.5}, metric="logprob_margin"))
    assert found["budget"] is None and found["estimate"] is None
    assert "none" in table([found], [])


def test_a_largest_budget_that_failed_is_not_the_full_circuit() -> None:
    [found] = smallest_budget(rows({40: 0.5, 80: 0.8, 600: math.nan}))
    assert found["full_budget"] == 80


def test_models_and_other_keys_are_answered_apart() -> None:
    made = rows({40: 0.8, 80: 0.8}, parameters=SIZES["small"]) + rows({40: 0.1, 80: 0.8}, "large", parameters=7e9)
    found = smallest_budget(made)
    assert [(row["model"], row["budget"], row["parameters"]) for row in found] == [
        ("small", 40, 135_000_000),
        ("large", 80, 7_000_000_000),
    ]
    split = rows({40: 0.8, 80: 0.8}, **{"circuit.split": 0.5}) + rows({80: 0.8}, **{"circuit.split": 0.7})
    [one] = smallest_budget(split, ["circuit.split"])  # a single budget answers nothing
    assert (one["circuit.split"], one["budget"]) == ("0.5", 40)
    page = table(found, [])
    assert page.count("<tr") == 3 and "135,000,000" in page and "smallest K" in page
    assert table([], []) == ""


def test_arms_of_a_list_and_budgets_that_are_no_numbers() -> None:
    made = rows({40: 0.8, 80: 0.8})
    for row in made:
        row["arm"] = f"{row['arm']}@budget={row[BUDGET]}"
    [found] = smallest_budget([*made, *rows({"auto": 0.9})])
    assert found["budget"] == 40


@given(st.dictionaries(st.integers(1, 999), st.floats(0.01, 1.0), min_size=2, max_size=8))
def test_it_is_what_the_definition_says(values: dict[int, float]) -> None:
    [found] = smallest_budget(rows(values))
    bar = SHARE * values[max(values)] - 1e-9
    assert values[int(found["budget"])] >= bar
    assert all(value < bar for k, value in values.items() if k < found["budget"])


def test_the_figure_is_drawn(tmp_path: Path) -> None:
    points = [(f"model {name} $x_", size, 40.0 * (i + 1)) for i, (name, size) in enumerate(SIZES.items())]
    path = min_budget_figure(points, "Smallest budget", tmp_path / "new" / "x.png")
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG") and int.from_bytes(data[16:20], "big") == 1040
    with pytest.raises(ValueError, match="nothing to draw"):
        min_budget_figure([], "t", tmp_path / "y.png")
    assert [count(x) for x in (135e6, 7.6e9, 512, 20_480)] == ["135M", "7.6B", "512", "20.5k"]


def test_budgets_of_a_sweep_stand_in_its_report(tmp_path: Path) -> None:
    made = pd.DataFrame(rows({40: 0.4, 600: 0.8}) + rows({40: 0.79, 600: 0.8}, "large"))
    sized = made.assign(parameters=made["model"].map(SIZES))
    page, [(path, caption)] = _budgets(sized, ["model", BUDGET], "t", tmp_path)
    assert "Smallest sufficient budget" in page
    assert path.is_file()
    assert "read off test" in caption
    for frame in (sized[sized["model"] == "small"], made.assign(parameters=None)):
        page, drawn = _budgets(frame, ["model", BUDGET], "t", tmp_path)  # one model, or of unknown size
        assert page
        assert drawn == []
    assert _budgets(sized[sized[BUDGET] == 40], ["model", BUDGET], "t", tmp_path) == ("", [])
    assert _budgets(sized, ["model"], "t", tmp_path) == ("", [])


def test_a_multiple_of_the_sublayers_is_shown_in_units() -> None:
    """10x of two models are two budgets; a job that reads none, or an older result, keeps what it has."""
    x = {"circuit": {"clean_accuracy": {"value": 0.5, "ci": None, "n": 3}}}
    results: list[dict[str, Any]] = [
        {"address": name * 16, "config": {"model": {"name": name}, "circuit": {"budget": typed}}, "arms": x} | more
        for name, typed, more in (
            ("a", "10x", {"budget": 600}), ("b", "10x", {"budget": 560}), ("c", 80, {"budget": 80}),
        )
    ]  # fmt: skip
    frame = to_table(results, ["model", BUDGET])
    assert list(frame[BUDGET]) == [600, 560, 80]
    results[0]["budget"] = None
    assert list(to_table(results, ["model", BUDGET])[BUDGET]) == ["10x", "560", "80"]
    settings = {"b" * 16: {"model": "b"}}
    assert pd.isna(to_table(results[1:], ["model", BUDGET], settings)[BUDGET][0])
