"""Figures of class neurons show what they are given: every count, change, overlap and round at its place."""

from __future__ import annotations

from contextlib import contextmanager
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import to_hex

from emo.report.plots import (
    LoopLine,
    arm_colours,
    change_figure,
    counts_figure,
    emotion_colours,
    loop_figure,
    overlap_grid,
    strength_figure,
    theme,
)
from emo.report.plots.class_curves import _apart
from emo.results.arm_order import sort_arms

pytestmark = [pytest.mark.filterwarnings("error"), pytest.mark.long]  # every figure is drawn

NAMES = ["anger", "sadness", "happiness", "fear", "surprise", "disgust"]
SIZES = [(2, 2), (6, 30), (5, 48), (1, 1)]  # classes, blocks
METRICS = ["accuracy", "logprob_margin", "off_accuracy", "off_margin", "induced", "reply_induced"]


@pytest.fixture
def figure(monkeypatch):
    """Return the figures drawn during a test, the last one first; each was written."""
    drawn = []

    @contextmanager
    def keeping(path, title, height):
        with theme.drawing(path, title, height) as made:
            drawn.insert(0, made)
            yield made
        assert path.read_bytes().startswith(b"\x89PNG")

    for module in ("classes", "class_curves"):
        monkeypatch.setattr(f"emo.report.plots.{module}.drawing", keeping)
    return drawn


def panel(figure, title):
    return next(axes for axes in figure.axes if axes.get_title(loc="left") == title)


def texts(axes):
    return [text.get_text() for text in axes.texts]


def cells(axes):
    """Return (row, column) -> text of a heat map."""
    return {text.get_position()[::-1]: text.get_text() for text in axes.texts}


def dots(axes):
    return [line for line in axes.lines if line.get_marker() != "None"]


def colour(line):
    return to_hex(line.get_color()).upper()


@pytest.mark.parametrize(("c", "depth"), SIZES)
def test_counts_have_every_block_with_totals_and_depths_of_their_class(figure, tmp_path, c, depth):
    counts = np.random.default_rng(0).integers(0, 40, (c, depth)) + np.eye(c, depth, dtype=int)
    counts[-1] = 0
    counts[0, -1] = 7
    assert counts_figure(counts, NAMES[:c], "t", tmp_path / "c.png") == tmp_path / "c.png"
    axes, side = figure[0].axes[:2]
    [image] = axes.images
    assert np.array_equal(image.get_array(), counts)
    assert image.get_clim() == (0, counts.max())
    assert [text.get_text() for text in axes.get_yticklabels()] == NAMES[:c]
    assert all(int(text.get_text()) == x for x, text in zip(axes.get_xticks(), axes.get_xticklabels(), strict=True))
    assert bool(axes.texts) == (depth <= 16)
    places = {text.get_position()[1]: text.get_text() for text in side.texts if text.get_text() != "total"}
    assert places == {row: f"{own.sum():,}" for row, own in enumerate(counts)}
    found = {dot.get_ydata()[0]: (dot.get_xdata()[0], colour(dot)) for dot in dots(side)}
    for row, own in enumerate(counts):
        if own.sum():
            blocks = [block for block, n in enumerate(own.tolist()) for _ in range(n)]
            want = sum(blocks) / len(blocks) / depth
            assert found.pop(row) == (pytest.approx(want), emotion_colours(NAMES[:c])[NAMES[row]])
    assert not found  # a class without neurons has no depth
    assert side.get_xlim() == (0, 1)
    rows = lambda a: [a.transData.transform((0, y))[1] for y in (0, 1)]  # noqa: E731
    assert rows(axes) == pytest.approx(rows(side))


def test_counts_of_few_blocks_are_written(figure, tmp_path):
    counts_figure([[1, 2, 0]], NAMES[:1], "t", tmp_path / "c.png")
    assert cells(figure[0].axes[0]) == {(0, 0): "1", (0, 1): "2", (0, 2): "0"}


@pytest.mark.parametrize("c", [1, 2, 6])
@pytest.mark.parametrize("arms", [["mask"], ["mask", "random", "other_emotion"], [f"mask@ratio={x}" for x in range(4)]])
def test_changes_share_one_scale_around_zero_and_frame_the_diagonal(figure, tmp_path, c, arms):
    rng = np.random.default_rng(1)
    given = {arm: rng.normal(size=(c, c)) for arm in arms}
    given[arms[0]][0, 0] = -45
    change_figure(given, NAMES[:c], "accuracy, points", "t", tmp_path / "c.png")
    assert [axes.get_title(loc="left") for axes in figure[0].axes if axes.images] == sort_arms(arms)
    for arm, own in given.items():
        axes = panel(figure[0], arm)
        [image] = axes.images
        assert np.array_equal(image.get_array(), own)
        assert image.get_clim() == (-45, 45)
        assert [(*frame.get_xy(), frame.get_width()) for frame in axes.patches] == [
            (i - 0.5, i - 0.5, 1) for i in range(c)
        ]
        assert cells(axes) == {place: f"{x:+z.0f}" for place, x in np.ndenumerate(own)}
    assert "change in accuracy, points" in [axes.get_ylabel() for axes in figure[0].axes]
    first = figure[0].axes[0]
    assert [text.get_text() for text in first.get_yticklabels()] == NAMES[:c]
    assert first.get_ylabel() == "edited class"
    assert figure[0].axes[len(arms) - 1].get_xlabel() == "true class of the text"


def test_small_changes_have_decimals_and_what_was_not_measured_has_no_number(figure, tmp_path):
    change_figure({"mask": [[-1.234, np.nan], [0.0, 0.5]]}, NAMES[:2], "margin, nats", "t", tmp_path / "c.png")
    [axes] = [axes for axes in figure[0].axes if axes.images]
    assert cells(axes) == {(0, 0): "-1.23", (1, 0): "+0.00", (1, 1): "+0.50"}
    assert axes.images[0].get_array().mask.tolist() == [[False, True], [False, False]]
    change_figure({"mask": np.full((2, 2), np.nan)}, NAMES[:2], "margin, nats", "t", tmp_path / "c.png")
    assert panel(figure[0], "mask").images[0].get_clim() == (-1, 1)


@pytest.mark.parametrize("panels", [1, 2, 4, 6])
def test_overlaps_are_printed_where_they_were_measured(figure, tmp_path, panels):
    rows, columns = ["lape", "lap", "random"], NAMES
    shares = np.random.default_rng(2).random((panels, 3, 6))
    shares[:, 1, 2] = np.nan
    overlap_grid(
        {f"p{i}": own for i, own in enumerate(shares)}, rows, columns, "t", tmp_path / "o.png"
    )  # fmt: skip
    for i, own in enumerate(shares):
        axes = panel(figure[0], f"p{i}")
        [image] = axes.images
        assert image.get_clim() == (0, 1)
        assert np.array_equal(image.get_array().filled(-1), np.nan_to_num(own, nan=-1))
        assert to_hex(image.get_cmap().get_bad()).upper() == "#CCCCCC"
        assert cells(axes) == {place: f"{x:.2f}" for place, x in np.ndenumerate(own) if place != (1, 2)}
    assert [text.get_text() for text in figure[0].axes[0].get_yticklabels()] == rows
    assert [text.get_text() for text in figure[0].axes[panels - 1].get_xticklabels()] == columns


def loop(arm, label, accuracy, reached=True):
    n = len(accuracy)
    alpha, tau = [0.3 + 0.1 * i for i in range(n)], [0.1 + 0.05 * i for i in range(n)]
    return LoopLine(arm, label, accuracy, alpha, tau, reached)


def test_loops_end_filled_where_they_reached_their_margin(figure, tmp_path):
    loops = [
        loop("adaptive_mask", "anger", [60.0, 59.0, 50.0]),
        loop("random", "anger", [60.0, 61.0, 62.0, 63.0], reached=False),
        loop("random", "anger", [60.0, 60.5, 61.5, 61.0], reached=False),
        loop("other_emotion", "anger", [58.0]),
        loop("adaptive_mask", "fear", [10.0, 12.0], reached=False),
    ]
    loop_figure(loops, {"anger": 60.0, "fear": 11.0}, [*NAMES], "t", tmp_path / "l.png")
    assert [axes.get_title(loc="left") for axes in figure[0].axes] == ["anger", "fear"]
    axes, colours = panel(figure[0], "anger"), arm_colours(["none", "adaptive_mask", "random", "other_emotion"])
    lines = [line for line in axes.lines if line.get_marker() == "None" and line.get_linestyle() == "-"]
    assert [(colour(line), list(line.get_ydata()), list(line.get_xdata())) for line in lines] == [
        (colours[own.arm].upper(), own.accuracy, list(range(1, len(own.accuracy) + 1))) for own in loops[:4]
    ]
    assert [line.get_linewidth() < 1 for line in lines] == [False, True, True, False]  # draws are thin
    [base] = [line for line in axes.lines if line.get_linestyle() == "--"]
    assert list(base.get_ydata()) == [60, 60]
    assert {(*dot.get_xdata(), *dot.get_ydata()): dot.get_markerfacecolor() == "white" for dot in dots(axes)} == {
        (3, 50): False, (4, 63): True, (4, 61): True, (1, 58): False,
    }  # fmt: skip
    told = {text.get_text(): text.xy for text in axes.texts}
    assert told["α 0.5  τ 0.2"] == (3, 50)
    assert told["α 0.6  τ 0.25"] == (4, 62)  # two draws that ended alike share it
    assert told["α 0.3  τ 0.1"][0] == 1
    assert len(told) == 3
    assert texts(panel(figure[0], "fear")) == ["α 0.4  τ 0.15"]
    assert [text.get_text() for text in figure[0].legends[0].texts] == [
        "none",
        "adaptive_mask",
        "random",
        "other_emotion",
    ]


def test_labels_of_loops_do_not_overlap_and_stay_inside(figure, tmp_path):
    loops = [
        loop(arm, name, [50.0] * n, reached=False)
        for name in NAMES
        for arm, n in (("adaptive_mask", 10), ("random", 10), ("random", 9), ("random", 8), ("other_emotion", 10))
    ]
    loop_figure(loops, dict.fromkeys(NAMES, 50.0), NAMES, "t", tmp_path / "l.png")
    for name in NAMES:
        axes = panel(figure[0], name)
        boxes = sorted((text.get_window_extent() for text in axes.texts), key=lambda box: box.y0)
        assert len(boxes) == 5
        assert all(a.y1 <= b.y0 for a, b in pairwise(boxes))
        assert max(box.x1 for box in boxes) <= axes.bbox.x1
        assert axes.bbox.y0 <= boxes[0].y0 <= boxes[-1].y1 <= axes.bbox.y1


@given(ys=st.lists(st.integers(0, 100), min_size=1, max_size=6).map(sorted))
def test_labels_move_no_further_than_they_must(ys):
    placed = _apart(ys, -100, 200, 10)
    assert all(b - a >= 10 - 1e-9 for a, b in pairwise(placed))
    if all(b - a >= 10 for a, b in pairwise(ys)):
        assert placed == pytest.approx(ys)
    assert np.mean(placed) == pytest.approx(np.mean(ys))


def test_labels_stay_between_the_edges():
    assert _apart([0, 0, 100, 100], 0, 100, 10) == [5, 15, 85, 95]


def test_strengths_have_a_panel_per_metric_and_the_unedited_level(figure, tmp_path):
    value = lambda x: (x, x - 0.1, x + 0.1)  # noqa: E731
    points = {
        "none": [(None, {"accuracy": value(0.5), "off_margin": (0.3, None, None)})],
        "mask": [(x, {"accuracy": value(0.5 - x / 10), "off_margin": value(x)}) for x in (2.0, 0.5, 1.0)],
        "random": [(0.5, {"accuracy": (None, None, None)}), (1.0, {"accuracy": (0.4, None, None)})],
    }
    strength_figure(points, "scale beta", METRICS, "t", tmp_path / "s.png")
    assert [axes.get_ylabel().replace("\n", " ") for axes in figure[0].axes] == [
        "accuracy on the edited class (share of texts)", "log-prob. margin on the other classes (nats)",
    ]  # fmt: skip
    axes, colours = figure[0].axes[0], arm_colours(points)
    found = {colour(line): (list(line.get_xdata()), list(line.get_ydata())) for line in dots(axes)}
    assert found == {
        colours["mask"].upper(): ([0.5, 1, 2], [0.45, 0.4, 0.3]),
        colours["random"].upper(): ([1], [0.4]),
    }
    [level] = [line for line in axes.lines if line.get_linestyle() == "--"]
    assert list(level.get_ydata()) == [0.5, 0.5]
    assert colour(level) == colours["none"].upper()
    [corners] = [p.vertices for band in axes.collections for p in band.get_paths() if len(p.vertices) > 6]
    assert (corners[:, 1].min(), corners[:, 1].max()) == (pytest.approx(0.2), pytest.approx(0.55))
    assert {axes.get_xlabel() for axes in figure[0].axes} == {"scale beta"}
    assert [text.get_text() for text in figure[0].legends[0].texts] == ["none", "mask", "random"]


def test_strengths_over_decades_have_a_log_axis_and_levels_alone_have_none(figure, tmp_path):
    points = {"mask": [(x, dict.fromkeys(METRICS, (0.5, 0.4, 0.6))) for x in (0.01, 0.05, 0.1, 0.5, 1.0)]}
    strength_figure(points, "share of neurons", METRICS, "t", tmp_path / "s.png")
    assert len(figure[0].axes) == 6
    assert {(axes.get_xscale(), axes.get_xlabel()) for axes in figure[0].axes[4:]} == {
        ("log", "share of neurons, log scale")
    }
    strength_figure({"none": [(None, {"induced": (0.1, 0.0, 0.2)})]}, "x", METRICS, "t", tmp_path / "s.png")
    assert len(figure[0].axes) == 1


def test_edited_arms_have_colours_of_their_own_and_controls_those_of_the_control():
    arms = ["mask", "adaptive_mask", "induce", "random", "other_emotion", *(f"inject_{x}" for x in theme.DEVICES)]
    colours = arm_colours(["none", *arms])
    assert len(set(colours.values())) == len(arms) + 1
    assert [colours[f"inject_{x}"].upper() for x in theme.DEVICES] == list(emotion_colours(theme.DEVICES).values())
    assert arm_colours(["random_metaphor", "random_humour"]) == dict.fromkeys(
        ["random_metaphor", "random_humour"], colours["random"]
    )
    assert arm_colours(["random_circuit"])["random_circuit"] == theme.ARMS["random_circuit"].lower()
    assert all(theme.metric_label(metric)[0] != metric for metric in METRICS)


def test_what_cannot_be_drawn_is_refused(tmp_path):
    path, one, row = tmp_path / "x.png", NAMES[:1], loop("random", "anger", [1.0])
    for draw, match in [
        (lambda: counts_figure(np.ones((2, 3)), one, "t", path), "1 classes"),
        (lambda: counts_figure(np.ones(3), NAMES[:3], "t", path), "blocks"),
        (lambda: counts_figure(np.ones((0, 3)), [], "t", path), "nothing to draw"),
        (lambda: change_figure({"mask": np.ones((2, 3))}, NAMES[:2], "x", "t", path), "mask"),
        (lambda: change_figure({}, NAMES, "x", "t", path), "nothing to draw"),
        (lambda: overlap_grid({"p": np.ones((2, 3))}, NAMES[:3], NAMES[:2], "t", path), "3 rows and 2 columns"),
        (lambda: overlap_grid({}, NAMES, NAMES, "t", path), "nothing to draw"),
        (lambda: loop_figure([], {}, NAMES, "t", path), "nothing to draw"),
        (lambda: loop_figure([row], {}, NAMES, "t", path), "base"),
        (lambda: loop_figure([row._replace(tau=[])], {"anger": 1}, NAMES, "t", path), "per round"),
        (lambda: loop_figure([loop("random", "anger", [])], {"anger": 1}, NAMES, "t", path), "per round"),
        (lambda: strength_figure({"mask": [(1, {"induced": (None, None, None)})]}, "x", METRICS, "t", path), "nothing"),
        (lambda: strength_figure({"mask": [(1, {"kl": (1, 1, 1)})]}, "x", METRICS, "t", path), "nothing to draw"),
    ]:
        with pytest.raises(ValueError, match=match):
            draw()
    assert not path.exists()
