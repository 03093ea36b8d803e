"""What a chart shows before a reader chooses anything."""

from emo.report.charts.damage import against_damage
from emo.report.charts.spec import Menu, Row, arm_series
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
