"""A sweep's table, figures and page survive any results, and say what they rest on."""

from __future__ import annotations

import itertools
import math
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from emo.core.stats import Estimate
from emo.report.plots import theme
from emo.report.plots.sweep import draw_sweep, sweep_curves, sweep_dots, sweep_heat
from emo.report.sweep_page import Row, write_sweep_report
from emo.report.sweep_table import console_rows, number, read_table, short_names
from emo.results import arm_order

pytestmark = pytest.mark.long  # every figure is drawn

ALPHA, LAYERS = "intervention.alpha", "intervention.layers"
EVIL = "<script>alert('x')</script> \"& $x_{$ \ud83d\x00"  # with half a surrogate pair
ARMS = ("none", "prompt", "steer", "random", "shuffled")
METRICS = ("logprob_margin", "ppl_ratio", "degenerate")
COLUMNS = ["job", "arm", "metric", "value", "ci_lo", "ci_hi", "n"]


def sweep(axes: dict[str, list], arms=ARMS, metrics=METRICS, value=None) -> pd.DataFrame:
    """Return results of a full grid; steer moves with alpha, the references do not."""
    rows = []
    for j, values in enumerate(itertools.product(*axes.values())):
        setting = dict(zip(axes, values, strict=True))
        alpha = setting.get(ALPHA, 1.0)
        for arm, metric in itertools.product(arms, metrics):
            level = ARMS.index(arm) if arm in ARMS else 5
            moved = 1 + (0.1 * level if arm in ("none", "prompt") else alpha * level)
            x = moved * {"degenerate": 0.02}.get(metric, 0.3) if value is None else value
            row = {"job": f"{j:016x}", **setting, "arm": arm, "value": x, "ci_lo": x - 0.1, "ci_hi": x + 0.1, "n": 72}
            rows += [row | {"metric": metric}, row | {"metric": f"{metric}/anger", "n": 12}]
    return pd.DataFrame(rows)


def names(figures) -> list[str]:
    for path, caption in figures:
        data = path.read_bytes()
        assert data.startswith(b"\x89PNG") and len(data) > 2000
        assert int.from_bytes(data[16:20], "big") == 1040  # page width, whatever the texts are
        assert caption.endswith(".")
    return [path.stem.removeprefix("sweep_") for path, _ in figures]


MODELS, RANGES = ["smollm2", "llama32_1b", "qwen25"], ["0.3-0.6", "9-18"]


@pytest.mark.parametrize(
    ("axes", "wanted"),
    [
        ({ALPHA: [0.25, 1.0, 4.0]}, ["curves"]),
        ({ALPHA: [-1.0, 0.0]}, ["curves"]),
        ({LAYERS: [str(i) for i in range(30)]}, ["curves"]),
        ({ALPHA: [1.0, 2.0], LAYERS: RANGES}, ["heat", "curves"]),
        ({ALPHA: [float(i) for i in range(1, 13)], LAYERS: [str(i) for i in range(14)]}, ["heat", "curves"]),
        ({"model": MODELS, LAYERS: RANGES}, ["heat", "dots"]),
        ({"model": MODELS, LAYERS: RANGES, ALPHA: [1.0, 2.0]}, ["curves"]),
        ({"model": MODELS, LAYERS: RANGES, "seed": [0, 1], ALPHA: [1.0, 2.0]}, ["curves"]),
        ({"model": MODELS}, ["dots"]),
        ({"model": [f"m{i}" for i in range(40)]}, ["dots"]),
        ({"dataset.limit": [4, None]}, ["dots"]),
        ({"model": [EVIL, "a" * 200], "elicitation": ["paper", "\n"]}, ["heat", "dots"]),
        ({"model": [EVIL, "b"], ALPHA: [1.0, 2.0]}, ["heat", "curves"]),
        ({ALPHA: [1.0], "model": ["a"]}, []),
    ],
)
def test_each_kind_of_sweep_has_its_figures(tmp_path, axes, wanted):
    assert names(draw_sweep(sweep(axes), list(axes), f"title {EVIL}", tmp_path / "new")) == wanted


def test_nothing_measured_gives_no_figure(tmp_path):
    lost = sweep({ALPHA: [1.0, 2.0]}, value=math.nan)
    for frame in (lost, pd.DataFrame(), pd.DataFrame(columns=[*COLUMNS, ALPHA])):
        assert draw_sweep(frame, [ALPHA], "t", tmp_path) == []
        assert console_rows(frame, [ALPHA], 10).rows == []
    with pytest.raises(ValueError, match="nothing to draw"):
        sweep_curves(pd.DataFrame(), ALPHA, [ALPHA], METRICS, "t", tmp_path / "x.png")
    with pytest.raises(ValueError, match="nothing to draw"):
        sweep_heat(pd.DataFrame(), (ALPHA, LAYERS), "steer", METRICS, "t", tmp_path / "x.png")
    with pytest.raises(ValueError, match="nothing to draw"):
        sweep_dots(pd.DataFrame(), [ALPHA], METRICS, "t", tmp_path / "x.png")
    assert not list(tmp_path.iterdir())


def test_a_part_that_failed_is_left_out(tmp_path):
    frame = sweep({"model": MODELS, ALPHA: [1.0, 2.0]})
    assert names(draw_sweep(frame[frame[ALPHA] == 1.0], ["model", ALPHA], "t", tmp_path)) == ["dots"]
    assert names(draw_sweep(frame[frame["arm"] == "none"], ["model", ALPHA], "t", tmp_path)) == ["heat", "curves"]
    frame.loc[frame["arm"] == "steer", "value"] = np.nan
    assert names(draw_sweep(frame, ["model", ALPHA], "t", tmp_path)) == ["curves"]
    empty = frame.assign(**{ALPHA: np.nan})
    assert names(draw_sweep(empty, ["model", ALPHA], "t", tmp_path)) == ["dots"]


def test_a_list_of_strengths_shares_its_references():
    frame = sweep({ALPHA: [0.5, 1.0]})
    edited = ~frame["arm"].isin(["none", "prompt"])
    frame.loc[edited, "arm"] += "@alpha=" + frame.loc[edited, ALPHA].astype(str)
    for stands_for_none in (None, "[0.5,1]"):
        given_frame = frame.astype({ALPHA: object})
        given_frame.loc[~edited, ALPHA] = stands_for_none
        table = read_table(given_frame, [ALPHA])
        assert table.settings == (("0.5",), ("1",))
        assert table.arms == ARMS
        assert table.numeric(ALPHA)
        assert table.get(("0.5",), "none", "ppl_ratio") == table.get(("1",), "none", "ppl_ratio") is not None


def test_order_of_settings_arms_and_metrics():
    frame = sweep({"model": ["z", "a"], ALPHA: [10.0, 2.0]}, metrics=["kl", "logprob_margin", "accuracy"])
    table = read_table(frame.iloc[::-1], ["model", ALPHA])
    assert table.settings == (("a", "2"), ("a", "10"), ("z", "2"), ("z", "10"))
    assert table.metrics == ("accuracy", "logprob_margin", "kl")
    assert table.arms == ARMS


def test_main_arm_has_the_controls():
    arms = ["none", "prompt", "steer", "prompt_steer", "prompt_random", "prompt_shuffled"]
    table = read_table(sweep({ALPHA: [1.0, 2.0]}, arms), [ALPHA])
    assert table.main_arm() == "prompt_steer"
    assert table.controls("prompt_steer") == ["prompt_random", "prompt_shuffled"]
    assert read_table(sweep({ALPHA: [1.0]}), [ALPHA]).main_arm() == "steer"
    assert read_table(sweep({ALPHA: [1.0]}, ["none", "prompt", "random"]), [ALPHA]).main_arm() == "random"
    assert read_table(sweep({"model": ["a"]}, ["none", "prompt"]), ["model"]).main_arm() == "none"


def test_random_circuits_are_controls_and_never_the_best():
    """Also where they come out ahead."""
    frame = sweep({ALPHA: [0.5, 1.0]}, ["none", "prompt", "steer", "circuit", "random_circuit"])
    table = read_table(frame, [ALPHA])
    assert table.main_arm() == "circuit"
    assert table.controls("circuit") == ["random_circuit"] and table.controls("random_circuit") == []
    frame.loc[frame["metric"].isin(["degenerate", "ppl_ratio"]), "value"] = 0.1
    frame.loc[frame["arm"] == "random_circuit", "value"] += 9
    assert read_table(frame, [ALPHA]).best().arm in ("steer", "circuit")


def test_best_stays_within_the_damage_bounds():
    frame = sweep({ALPHA: [0.5, 1.0, 2.0, 4.0]})
    frame.loc[frame["metric"] == "ppl_ratio", "value"] = 1.0
    table = read_table(frame, [ALPHA])
    best = table.best()  # degenerate is 0.02 (1 + 2 alpha): 0.1 at 2, 0.18 at 4
    assert best.setting == ("4",) and best.arm == "steer" and best.candidates == 4 and best.checked
    frame.loc[(frame["metric"] == "ppl_ratio") & (frame[ALPHA] == 4.0), "value"] = 3.1
    assert read_table(frame, [ALPHA]).best().setting == ("2",)
    frame.loc[(frame["metric"] == "degenerate") & (frame[ALPHA] == 2.0), "value"] = np.nan
    assert read_table(frame, [ALPHA]).best().setting == ("1",)  # not checked is not within the bounds
    frame.loc[frame["metric"] == "degenerate", "value"] = [
        0.12 if arm == "none" else 0.33 for arm in frame.loc[frame["metric"] == "degenerate", "arm"]
    ]
    assert read_table(frame, [ALPHA]).best() is None
    frame.loc[(frame["metric"] == "degenerate") & (frame["arm"] != "none"), "value"] = 0.31  # 19 points beyond unedited
    assert read_table(frame, [ALPHA]).best() is not None
    unchecked = read_table(frame[frame["metric"] == "logprob_margin"], [ALPHA]).best()
    assert unchecked.setting == ("4",) and not unchecked.checked
    assert read_table(frame[frame["metric"] == "ppl_ratio"], [ALPHA]).best() is None  # no better end


def test_console_rows_hold_the_main_arm_and_its_control():
    columns, rows = console_rows(sweep({"model": ["a", "b"], ALPHA: [1.0, 2.0]}), ["model", ALPHA], 3)
    assert columns == ["model", "alpha", "arm", *METRICS]
    assert [row[:3] for row in rows] == [["a", "1", "steer"], ["a", "1", "random"], ["a", "2", "steer"]]
    assert isinstance(rows[0][3], Estimate)


def test_short_names_stay_unambiguous():
    axes = ["intervention.alpha", "intervention.select.alpha", "dataset.limit", "model"]
    assert list(short_names(axes).values()) == [*axes[:2], "limit", "model"]
    assert [number(text) for text in ("9-18", "null", "inf", "nan", "-1")] == [None] * 4 + [-1.0]


def page(folder: Path, **changes) -> str:
    frame = sweep({"model": [EVIL, "b"], ALPHA: [0.5, 1.0]})
    axes = ["model", ALPHA]
    given_values = {
        "title": EVIL,
        "command": EVIL,
        "frame": frame,
        "axes": axes,
        "jobs": [
            Row("alpha=0.5", "done", "0123456789abcdef", 61.0, None),
            Row(EVIL, "failed", 'x" onclick="y', 2.0, EVIL),
            Row("alpha=2", "missing", "0" * 16, None, None),
            Row("odd", "done", 'javascript:"<b>', None, None),
        ],
        "figures": draw_sweep(frame, axes, "t", folder),
        "notes": [EVIL],
    }
    path = write_sweep_report(folder / "sweep", **(given_values | changes))
    assert path == folder / "sweep" / "report.html"
    assert [child.name for child in path.parent.iterdir()] == ["report.html"]
    return path.read_text(encoding="utf-8")


def test_page_is_inert_and_links_relatively(tmp_path):
    text = page(tmp_path)
    assert text.count("<script") == 1 and "<script>alert" not in text  # the page's own
    assert text.count("&lt;script&gt;") >= 7  # title twice, command, setting, sentence, job, error, note
    assert "default-src 'none'" in text
    assert re.findall(r'href="([^"]*)"', text) == [
        "0123456789abcdef/report.html",
        "javascript%3A%22%3Cb%3E/report.html",
    ]
    assert all(x.startswith("data:image/png;base64,") for x in re.findall(r'src="([^"]*)"', text))
    assert text.count("<img ") == 2
    assert "onclick" not in text


def test_page_says_what_the_finding_is_worth(tmp_path):
    text = page(tmp_path)
    assert text.index("selected on test") < text.index("<table")
    assert "confirm it on the dev split" in text
    assert text.count('<span class="mark">best</span>') == 2 and "(1 other is as high)" in text  # one per model
    assert text.count("<tr") == 2 + 4 * 5 + 4  # two headers, settings x arms, jobs
    assert text.count('<tr class="first') == 4  # a line above every setting, whatever rows follow
    assert "Not in the table: 1 failed, 1 missing of 4 jobs." in text
    assert "n = 72 in every cell" in text
    assert "61 s" in text


def of_one_metric(values: dict[str, list[float]], half: float = 0.01) -> pd.DataFrame:
    """Return clean accuracy alone of arms over strengths, with intervals of that half width."""
    rows = [
        {"job": f"{i:016x}", ALPHA: float(i), "arm": arm, "metric": "clean_accuracy", "value": x, "ci_lo": x - half,
         "ci_hi": x + half, "n": 72}
        for arm, own in values.items() for i, x in enumerate(own)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def finding(folder: Path, frame: pd.DataFrame) -> str:
    """Return what the page finds, and the table below."""
    return page(folder, frame=frame, axes=[ALPHA], figures=[]).partition("Finding")[2]


def test_equal_settings_have_no_best(tmp_path):
    """All of them 0: none is the best, and none is marked."""
    text = finding(tmp_path, of_one_metric({"none": [0.0] * 4, "steer": [0.0] * 4, "random": [0.05] * 4}))
    assert "clean_accuracy is 0.00 for all 4 test values of steer whose damage was not measured: no setting is" in text
    assert "Best" not in text and 'class="mark">best' not in text and "selected on test" not in text


def test_settings_that_tie_for_the_best_are_counted(tmp_path):
    text = finding(tmp_path, of_one_metric({"none": [0.0] * 4, "steer": [0.1, 0.3, 0.3, 0.3], "random": [0.1] * 4}))
    assert "arm steer at alpha=1 (2 others are as high); the highest of 4 values" in text
    assert text.count('<span class="mark">best</span>') == 3
    two = finding(tmp_path, of_one_metric({"none": [0.0] * 3, "steer": [0.1, 0.3, 0.3]}))
    assert "(1 other is as high)" in two


def test_the_best_setting_is_held_against_its_own_controls(tmp_path):
    """Not those of another setting: at its own, the random arm is as high."""
    values = {"none": [0.0, 0.282, 0.0], "steer": [0.1, 0.3, 0.2], "random": [0.0, 0.35, 0.0], "shuffled": [0.0] * 3}
    text = finding(tmp_path, of_one_metric(values))
    said = "At that setting it is not above random 0.35 [0.34, 0.36]; not shown to be above none 0.28 [0.27, 0.29]; "
    assert said + "above, by intervals apart, shuffled 0.00 [-0.01, 0.01]." in text


def test_long_table_stands_after_the_figures(tmp_path):
    many = page(tmp_path, frame=sweep({"model": MODELS, ALPHA: [0.5, 1.0]}))
    assert many.index("<h2>Figures") < many.index("<h2>All settings")


def test_page_of_a_sweep_without_results(tmp_path):
    text = page(tmp_path, frame=pd.DataFrame(), jobs=[], figures=[], notes=[])
    assert "Nothing was measured." in text
    for heading in ("Figures", "Jobs", "Notes", "All settings"):
        assert f"<h2>{heading}" not in text
    broken = page(tmp_path, frame=sweep({ALPHA: [1.0]}, value=5.0), axes=[ALPHA])
    assert "No setting of steer has degenerate &lt;= unedited + 0.2 and ppl_ratio &lt;= 3." in broken


VALUES = st.one_of(st.just(math.nan), st.floats(-1e6, 1e6), st.sampled_from([0.0, 1.0, math.inf, -1e-9]))
OPTIONS = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 30), st.floats(-2, 1e4), st.text(max_size=12),
    st.sampled_from(["9-18", "auto", "[1,2]", "null", "7"]),
)  # fmt: skip
KEYS = [ALPHA, LAYERS, "model"]
ROW = st.fixed_dictionaries(
    {
        "job": st.just("0" * 16),
        **{key: OPTIONS for key in KEYS},
        "arm": st.sampled_from([*ARMS, "steer@alpha=0.5", "prompt_steer", "prompt_random", "circuit"]),
        "metric": st.sampled_from(["accuracy", "logprob_margin", "ppl_ratio", "kl", "length", "ppl_ratio/anger", "x"]),
        **{key: VALUES for key in ("value", "ci_lo", "ci_hi")},
        "n": st.one_of(st.integers(0, 99), st.just(math.nan)),
    }
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(ROW, max_size=30), count=st.integers(0, 3))
def test_any_results_are_shown(tmp_path, rows, count):
    frame, axes = pd.DataFrame(rows, dtype=object), KEYS[:count]
    figures = draw_sweep(frame, axes, "t", tmp_path)
    names(figures)
    path = write_sweep_report(tmp_path, "t", "c", frame, axes, [], figures, [])
    assert path.read_text(encoding="utf-8").endswith("</html>\n")
    columns, shown = console_rows(frame, axes, 5)
    assert len(shown) <= 5
    assert all(len(row) == len(columns) for row in shown)


def test_each_swept_intervention_has_its_own_arm_in_the_terminal():
    """Other controls of units are no interventions: neither main arm nor best setting."""
    parts = []
    for i, kind in enumerate(("ablate_heads", "enhance_heads")):
        part = sweep({"intervention": [kind]}, ("none", "bottom", kind, "random"))
        parts.append(part.assign(job=f"{i:016x}"))
    frame = pd.concat(parts)
    found = console_rows(frame, ["intervention"], 20)
    assert [row[:2] for row in found.rows] == [
        [kind, arm] for kind in ("ablate_heads", "enhance_heads") for arm in (kind, "random")
    ]
    frame.loc[frame["arm"] == "bottom", "value"] += 9
    best = read_table(frame.assign(metric=frame["metric"].replace("ppl_ratio", "x")), ["intervention"]).best()
    assert best is not None and best.arm in ("ablate_heads", "enhance_heads")


def test_every_arm_in_the_order_has_a_colour_of_its_own() -> None:
    assert set(arm_order.ORDER) == set(theme.ARMS)
