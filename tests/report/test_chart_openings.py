"""What a chart shows before a reader chooses anything."""

from emo.core.stats import Estimate
from emo.report.charts.damage import against_damage
from emo.report.charts.job import job_charts
from emo.report.charts.spec import Menu, Row, arm_series, reach
from emo.report.charts.sweep import _fullest


def test_menus_open_on_the_values_with_the_most_places() -> None:
    rows: list[Row] = [{"key0": "0.02", "x": 10}, *({"key0": "0.4", "x": x} for x in (10, 20, 40))]
    assert _fullest(rows, ["key0"]) == ("0.4",)
    assert Menu("key0", "cap", ["0.02", "0.4"], "0.4").param()["value"] == "0.4"


def test_the_damage_bound_is_named_only_where_it_is_drawn() -> None:
    def caption(*damages: float) -> str:
        rows: list[Row] = [
            {"metric": "accuracy", "series": "steer", "arm": "steer", "part": "all", "value": 0.5, "lo": None,
             "hi": None, "n": 6, "x": x, "x_lo": None, "x_hi": None}
            for x in damages
        ]  # fmt: skip
        menu = Menu("part", "emotion", ["all"])
        return against_damage("d", "t", "c.", rows, arm_series(["steer"]), ["accuracy"], "ppl_ratio", menu).caption

    assert "Dashed" not in caption(1.0, 1.1)
    assert "Dashed" in caption(1.0, 50.0)


def test_a_share_that_is_always_0_has_no_axis_below_it() -> None:
    assert reach([0.0, 0.0])[0] > -0.1 and reach([0.0, 0.0])[1] > 0.4
    assert reach([-2.0, -2.0])[0] < -2.0 < reach([-2.0, -2.0])[1]


def test_charts_open_on_the_metric_that_the_page_says_to_read() -> None:
    """Where the unedited model guesses, accuracy says nothing."""
    found = {
        arm: {name: Estimate(0.2, 0.1, 0.3, 9) for name in ("accuracy", "logprob_margin")} for arm in ("none", "mask")
    }
    tests = [
        {"arm": "mask", "against": "none", "metric": name, "value": 0.1, "ci": [0.0, 0.2], "n": 9, "p_holm": 0.5}
        for name in ("accuracy", "logprob_margin")
    ]

    def opening(first: str | None) -> list[object]:
        made = job_charts(found, ["anger"], tests, {}, of="class", first=first)
        return [
            next(param["value"] for param in chart.spec["params"] if param["name"] == "metric")
            for chart in made
            if chart.name in ("arms", "differences")
        ]

    assert opening("logprob_margin") == ["logprob_margin"] * 2
    assert opening(None) == ["accuracy"] * 2
