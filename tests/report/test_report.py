"""The page is self-contained and escaped; every figure survives awkward input."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest

from emo.core.errors import UserError
from emo.core.stats import Estimate
from emo.report.html import write_report
from emo.report.plots import (
    arm_colours,
    arms_figure,
    cosine_figure,
    emotion_colours,
    layer_curves,
    pca_figure,
    probe_figure,
    selection_figure,
)
from emo.report.plots.theme import emotion_shapes
from emo.results.arm_order import sort_arms

pytestmark = pytest.mark.long  # every figure is drawn

EVIL = "<script>alert('x')</script> \"& \ud83d"  # with half a surrogate pair
FULL, BARE, NOTHING = Estimate(0.4, 0.3, 0.5, 48), Estimate(0.4, None, None, 3), Estimate(None, None, None, 0)


def is_png(path: Path) -> bool:
    data = path.read_bytes()
    return data.startswith(b"\x89PNG") and len(data) > 2000


def report(folder: Path, **changes) -> str:
    figure = layer_curves({"anger": ([1.0], None, None)}, "block", "y", "t", "emotion", folder / "f.png")
    replies = [
        {"arm": "none", "text": EVIL, "degenerate": False},
        {"arm": "steer", "text": "no no no", "degenerate": True},
        {"arm": "prompt", "text": " ", "degenerate": True},
    ]
    sample = {"scenario": EVIL, "event": EVIL, "valence": "negative", "emotion": "anger", "replies": replies}
    given = {
        "title": EVIL,
        "command": 'python run.py evaluator.base_url="https://example.org/v1"',
        "config_yaml": f"name: {EVIL}\n",
        "summary_rows": [{"arm": "none", "margin": FULL}, {"arm": EVIL, "margin": NOTHING}],
        "columns": ["arm", "margin", "dose"],
        "notes": [EVIL],
        "figures": [(figure, EVIL)],
        "samples": [sample] * 12,
        "seconds": 3.0,
        "versions": {"numpy": EVIL},
        "facts": {"model": EVIL},
    }
    path = write_report(folder / "run", **(given | changes))
    assert path == folder / "run" / "report.html"
    assert [child.name for child in path.parent.iterdir()] == ["report.html"]
    return path.read_text(encoding="utf-8")


def test_everything_is_escaped(tmp_path):
    page = report(tmp_path)
    assert page.count("<script") == 1 and "<script>alert" not in page  # the page's own
    assert page.count("&lt;script&gt;") >= 10 * 3 + 8  # texts, title twice, caption and alt, notes ...


def test_page_needs_nothing_but_itself(tmp_path):
    page = report(tmp_path)
    targets = re.findall(r"""\b(?:src|href)\s*=\s*["']?([^"'\s>]*)""", page)
    assert targets
    assert all(target.startswith("data:image/png;base64,") for target in targets)
    assert not re.search(r"@import|url\(|<link|<iframe", page)
    assert re.search(r'<img [^>]*src="data:image/png;base64,iVBOR', page)
    assert "default-src 'none'" in page
    assert "https://example.org/v1" in page  # text stays text


def test_page_says_what_was_not_measured_and_what_is_degenerate(tmp_path):
    page = report(tmp_path)
    assert "0.40" in page
    assert "[0.30, 0.50]" in page
    assert "n = 48 in every cell" in page
    assert page.count("not measured") == 3
    assert page.count('<table class="sample">') == 10
    assert page.count(">degenerate</span>") == 20
    assert page.count("(empty)") == 10


def test_each_cell_has_its_n_where_they_differ(tmp_path):
    page = report(tmp_path, summary_rows=[{"arm": "none", "margin": FULL}, {"arm": "steer", "margin": BARE}])
    assert "in every cell" not in page
    assert "n&nbsp;=&nbsp;3<" in page


def test_empty_parts_leave_no_heading(tmp_path):
    page = report(tmp_path, notes=[], figures=[], samples=[], facts=None, summary_rows=[])
    for heading in ("Notes", "Figures", "Sample replies"):
        assert f"<h2>{heading}" not in page


@pytest.mark.parametrize(
    "arms",
    [
        {"none": {"ppl_ratio": FULL}},
        {"none": {"ppl_ratio": BARE}, "steer@alpha=1": {"ppl_ratio": NOTHING}, "steer": {}},
        {"none": {"ppl_ratio": NOTHING}},
        {
            "none": {"ppl_ratio": Estimate(1, 0.9, 1.1, 4)},
            "steer": {"ppl_ratio": Estimate(900, 500, 1500, 4)},
        },
    ],
)
@pytest.mark.parametrize("metrics", [["ppl_ratio"], ["ppl_ratio", "delta_s/anger/negative", "my_own"]])
def test_arms_are_drawn_whatever_is_missing(tmp_path, arms, metrics):
    assert is_png(arms_figure(arms, metrics, "t", tmp_path / "new" / "a.png"))


@pytest.mark.parametrize("blocks", [1, 30, 80])
@pytest.mark.parametrize("colours", ["arm", "emotion"])
def test_curves_are_drawn_for_any_number_of_blocks(tmp_path, blocks, colours):
    mean = np.linspace(0, 1, blocks)
    curves = {"anger": (mean, mean - 1, mean + 1), "steer": (mean * np.nan, None, None)}
    assert is_png(layer_curves(curves, "decoder block", "unit", "t", colours, tmp_path / "c.png"))


@pytest.mark.parametrize("f1", [[0.5], [np.nan, np.nan], np.linspace(0, 1, 30)])
def test_probes_are_drawn_where_nothing_was_measured(tmp_path, f1):
    given = {"raw states": f1, "within-group differences": f1}
    assert is_png(probe_figure(given, 1 / 6, "t", tmp_path / "p.png", marker=None))
    assert is_png(probe_figure(given, 1 / 6, "t", tmp_path / "p.png", marker=0))


@pytest.mark.parametrize("panels", [1, 2, 5])
def test_states_are_drawn_for_any_number_of_panels(tmp_path, panels):
    one = (np.ones((3, 2)), ["anger"] * 3, (np.nan, 0.0))
    many = (np.random.default_rng(0).normal(size=(24, 2)), [f"e{i}" for i in range(24)], (0.4, 0.1))
    drawn = {f"block {i}, raw": one if i % 2 == 0 else many for i in range(panels)}
    assert is_png(pca_figure(drawn | {"none": ([], [], (0, 0))}, "t", tmp_path / "p.png"))


@pytest.mark.parametrize("e", [1, 6, 20])
def test_cosine_figure(tmp_path, e):
    mats = {"block 0": np.eye(e), "block 1": np.full((e, e), np.nan), "block 2": -np.eye(e)}
    assert is_png(cosine_figure(mats, [f"e{i}" for i in range(e)], "t", tmp_path / "c.png"))


@pytest.mark.parametrize("feasible", [True, False, None])
@pytest.mark.parametrize("alphas", [[1.0], [-1.0, 0.0, 8.0], [0.25, 1.0, 8.0]])
def test_selection_figure(tmp_path, feasible, alphas):
    row = {"score": 0.1, "lo": None, "hi": None, "degenerate": None, "ppl_ratio": None, "chosen": False}
    rows = [row | {"alpha": a, "layers": layers, "feasible": feasible} for a in alphas for layers in ("all", "7")]
    rows[0] |= {"score": None} if feasible is None else {"lo": 0.0, "hi": 0.2, "degenerate": 0.1, "chosen": feasible}
    assert is_png(selection_figure(rows, "t", tmp_path / "s.png"))


def test_same_numbers_same_bytes_and_no_pyplot(tmp_path):
    first, again = (
        arms_figure({"none": {"kl": FULL}}, ["kl"], "t", tmp_path / name).read_bytes() for name in ("a.png", "b.png")
    )
    assert first == again
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or not pyplot.get_fignums()


def test_long_title_stays_inside(tmp_path):
    path = probe_figure({"raw states": [0.5]}, 0.2, "$x_{ $" + "word " * 60, tmp_path / "p.png")
    assert int.from_bytes(path.read_bytes()[16:20], "big") == 1040


def test_order_and_colours():
    given = [
        "shuffled",
        "steer@alpha=1",
        "circuit",
        "none",
        "steer@alpha=0.5",
        "prompt_steer",
        "steer",
        "prompt",
    ]
    assert sort_arms(given) == [
        "none", "prompt", "steer", "steer@alpha=1", "steer@alpha=0.5", "prompt_steer", "shuffled", "circuit",
    ]  # fmt: skip
    assert len(set(arm_colours(given).values())) == len(given)
    assert arm_colours(["steer"])["steer"] == "#0072b2"
    six = emotion_colours(["anger", "sadness", "happiness", "fear", "surprise", "disgust", "neutral"])
    assert six["anger"] == "#D55E00"
    assert len(set(six.values())) == 7
    many = [f"e{i}" for i in range(40)]
    looks = {(emotion_colours(many)[name], emotion_shapes(many)[name]) for name in many}
    assert len(looks) == 40
    assert emotion_colours(["joy", "awe"]) == emotion_colours(["awe", "joy"])  # order of appearance is no matter


def test_wrong_input_is_refused(tmp_path):
    path = tmp_path / "x.png"
    with pytest.raises(ValueError, match="nothing to draw"):
        arms_figure({}, ["kl"], "t", path)
    with pytest.raises(ValueError, match="emotions"):
        cosine_figure({"block 0": np.eye(2)}, ["anger"], "t", path)
    with pytest.raises(ValueError, match="labels"):
        pca_figure({"block 0": (np.ones((2, 2)), ["anger"], (0, 0))}, "t", path)
    with pytest.raises(UserError, match="did you mean emotion"):
        layer_curves({"a": ([1.0], None, None)}, "x", "y", "t", "emotions", path)
    assert not path.exists()
