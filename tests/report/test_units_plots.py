"""Figures of neurons and heads say what they are given, and how many units carry a score is counted right."""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from matplotlib.colors import to_hex

from emo.find.longtail import reach
from emo.report.plots import arm_colours, head_map, k_curves, long_tail, neuron_map, small_multiples, theme
from emo.report.plots.sweep_curves import arm_shapes

pytestmark = pytest.mark.long  # every figure is drawn

NAMES = ["anger", "sadness", "happiness", "fear", "surprise", "disgust"]
ARMS = ["ablate_neurons", "random", "other_emotion", "bottom", "magnitude"]
KS = [0, 2, 8, 32, 128]


@pytest.fixture
def figure(monkeypatch):
    """Return the figures drawn during a test, the last one first."""
    drawn = []

    @contextmanager
    def keeping(path, title, height):
        with theme.drawing(path, title, height) as made:
            drawn.insert(0, made)
            yield made
        assert path.read_bytes().startswith(b"\x89PNG")

    for module in ("units", "unit_maps"):
        monkeypatch.setattr(f"emo.report.plots.{module}.drawing", keeping)
    return drawn


def panel(figure, title):
    return next(axes for axes in figure.axes if axes.get_title(loc="left") == title)


def curve(scale, ks=KS):
    mean = scale * np.asarray(ks, dtype=float)
    return ks, mean, mean - 1, mean + 1


def ticks(axes):
    return [(x, text.get_text()) for x, text in zip(axes.get_xticks(), axes.get_xticklabels(), strict=True)]


def lines(axes, colour):
    return [line for line in axes.lines if to_hex(line.get_color()).upper() == colour.upper()]


def test_every_emotion_has_a_panel_with_all_arms_and_shares_above(figure, tmp_path):
    curves = {name: {arm: curve(-i - 1) for i, arm in enumerate(ARMS)} for name in NAMES}
    k_curves(curves, [*NAMES, "not measured"], 1536, "t", tmp_path / "k.png")
    axes = panel(figure[0], "sadness")
    assert ticks(panel(figure[0], "fear")) == [(k, str(k)) for k in KS]
    top = next(a for a in figure[0].axes if a is not axes and a.bbox.bounds == axes.bbox.bounds)
    assert ticks(top) == [(2, "0.13"), (8, "0.52"), (32, "2.1"), (128, "8.3")]
    place = lambda a, k: a.transData.transform((k, 0))[0]  # noqa: E731
    assert all(place(top, k) == pytest.approx(place(axes, k)) for k in KS)
    for i, arm in enumerate(ARMS):
        [line] = lines(axes, arm_colours(ARMS)[arm])
        assert list(line.get_ydata()) == [-(i + 1) * k for k in KS]
        assert (line.get_linewidth() > 2) == (arm == "ablate_neurons")
    assert [text.get_text() for text in figure[0].legends[0].texts] == ARMS


def test_broken_points_are_hollow_and_do_not_stretch_the_axis(figure, tmp_path):
    ks, mean, lo, hi = curve(-1.0, [0, 1, 2, 3])
    mean[3] = lo[3] = hi[3] = 40_000
    k_curves({"anger": {"ablate_heads": (ks, mean, lo, hi)}}, NAMES, 9, "t", tmp_path / "k.png", broken={"anger": [3]})
    axes = panel(figure[0], "anger")
    line, hollow = (one for one in axes.lines if one.get_marker() != "None")
    assert np.isnan(line.get_ydata()[3])
    assert axes.get_ylim()[1] < 10
    assert list(hollow.get_xdata()) == [3]
    assert list(hollow.get_ydata()) == [axes.get_ylim()[1]]
    assert hollow.get_markerfacecolor() == "none"
    assert "Hollow" in figure[0].legends[0].get_title().get_text()


def test_dense_numbers_are_ticked_where_they_double(figure, tmp_path):
    k_curves({"anger": {"a": curve(1, list(range(0, 129, 2)))}}, NAMES, 1536, "t", tmp_path / "k.png")
    assert [x for x, _ in ticks(panel(figure[0], "anger"))] == [0, 2, 4, 8, 16, 32, 64, 128]


def test_small_multiples_leave_out_what_was_not_measured(figure, tmp_path):
    gone = np.full(5, np.nan)
    curves = {
        "delta_s": {arm: curve(-1) for arm in ARMS},
        "logprob_margin": {"random": (KS, gone, gone, gone), "ablate_neurons": curve(-0.01)},
        "length": {"random": (KS, gone, gone, gone)},
        "my own (points)": {"random": ([4], [1.0], [np.nan], [np.nan])},
    }
    small_multiples(curves, "t", tmp_path / "s.png", defined=["delta_s"])
    shown = {axes.get_ylabel().partition("\n")[0]: axes.get_title(loc="left") for axes in figure[0].axes if axes.lines}
    assert shown == {
        "delta-s": "defined by v", "log-prob. margin": "not defined by v", "my own": "not defined by v",
    }  # fmt: skip


def test_failure_has_the_damage_bound_and_a_log_axis(figure, tmp_path):
    small_multiples(
        {"ppl_ratio": {"a": (KS, [1, 2, 5, 50, 300], [1] * 5, [400] * 5)}}, "t", tmp_path / "s.png", "x (y)"
    )
    [axes] = figure[0].axes
    assert (axes.get_yscale(), axes.get_xlabel()) == ("log", "x (y)")
    assert [3.0, 3.0] in [list(line.get_ydata()) for line in axes.lines]
    assert "Orange" in figure[0].legends[0].get_title().get_text()


@pytest.mark.parametrize("shape", [(6, 30, 9), (6, 28, 24), (1, 1, 1), (28, 3, 2)])
def test_head_map_has_one_scale_around_zero_and_layers_upward(figure, tmp_path, shape):
    scores = np.random.default_rng(0).normal(size=shape)
    names = [f"e{i}" for i in range(shape[0])]
    head_map(scores, names, "t", tmp_path / "h.png")
    images = [panel(figure[0], name).images[0] for name in names]
    assert len({image.get_clim() for image in images}) == 1
    assert images[0].get_clim()[0] == -images[0].get_clim()[1] < 0
    assert all(np.array_equal(image.get_array(), own) for image, own in zip(images, scores, strict=True))
    assert all(image.origin == "lower" for image in images)


def test_head_map_of_zeros(figure, tmp_path):
    head_map(np.zeros((2, 3, 4)), NAMES[:2], "t", tmp_path / "h.png")
    assert panel(figure[0], "anger").images[0].get_clim() == (-1, 1)


@pytest.mark.parametrize("shape", [(6, 30, 96), (2, 3, 5), (1, 1, 1)])
def test_neuron_map_sorts_each_layer_and_sums_what_is_positive(figure, tmp_path, shape):
    scores = np.random.default_rng(1).normal(size=shape)
    names = [f"e{i}" for i in range(shape[0])]
    neuron_map(scores, names, "t", tmp_path / "n.png", top=8)
    for name, own in zip(names, scores, strict=True):
        axes = panel(figure[0], name)
        image = axes.images[0].get_array()
        want = np.sort(own, 1)[:, ::-1][:, :8]
        assert image.shape == want.shape
        assert np.array_equal(image.filled(0), np.where(want > 0, want, 0))
        bars = figure[0].axes[figure[0].axes.index(axes) + 1].patches
        assert np.allclose([bar.get_width() for bar in bars], np.where(own > 0, own, 0).sum(1))


def test_neuron_map_without_a_positive_score(figure, tmp_path):
    neuron_map(-np.ones((2, 3, 4)), NAMES[:2], "t", tmp_path / "n.png")
    assert panel(figure[0], "anger").images[0].get_array().mask.all()


def test_long_tail_marks_what_reach_counts(figure, tmp_path):
    scores = np.zeros((2, 2, 5))
    scores[0] = [[6, 0, 1, -9, 1], [0, 1, 1, 0, 0]]
    long_tail(scores, NAMES[:2], "neurons", "t", tmp_path / "l.png")
    [axes] = figure[0].axes
    assert [text.get_text() for text in figure[0].legends[0].texts] == ["anger: 1 / 3 / 5", "sadness: none positive"]
    marks = [line for line in axes.lines if line.get_marker() != "None"]
    assert [(*line.get_xdata(), *line.get_ydata()) for line in marks] == [(1, 0.5), (3, 0.8), (5, 0.95)]
    assert np.allclose(axes.lines[0].get_ydata(), [0.6, 0.7, 0.8, 0.9, 1.0])


def test_what_cannot_be_drawn_is_refused(tmp_path):
    path = tmp_path / "x.png"
    for draw in (head_map, neuron_map):
        with pytest.raises(ValueError, match="emotions"):
            draw(np.ones((2, 3, 4)), NAMES, "t", path)
        with pytest.raises(ValueError, match="finite"):
            draw(np.full((1, 3, 4), np.nan), NAMES[:1], "t", path)
    with pytest.raises(ValueError, match="emotions"):
        long_tail(np.ones((2, 3, 4)), NAMES, "heads", "t", path)
    with pytest.raises(ValueError, match="nothing to draw"):
        head_map(np.ones((0, 3, 4)), [], "t", path)
    with pytest.raises(ValueError, match="nothing to draw"):
        k_curves({}, NAMES, 9, "t", path)
    with pytest.raises(ValueError, match="nothing to draw"):
        small_multiples({"kl": {"a": ([0], [np.nan], [0], [0])}}, "t", path)
    assert not path.exists()


def test_arms_differ_in_colour_or_shape():
    arms = ["random", *(f"arm{i}" for i in range(30))]
    colours, shapes = arm_colours(arms), arm_shapes(arms)
    assert len({(colours[arm], shapes[arm]) for arm in arms}) == len(arms)


WHOLE = st.integers(-10, 10).map(float)  # sums are exact
SCORES = arrays(float, st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 6)), elements=WHOLE)
SHARES = st.lists(st.floats(0.01, 1), min_size=1, max_size=5, unique=True).map(sorted)


@given(scores=SCORES, shares=SHARES)
def test_reach_is_the_smallest_number_that_reaches_a_share(scores, shares):
    found = reach(scores, shares)
    assert len(found) == len(scores)
    for own, counts in zip(scores, found, strict=True):
        best = sorted((x for x in own.ravel().tolist() if x > 0), reverse=True)
        assert list(counts) == shares
        assert list(counts.values()) == sorted(counts.values())
        for share, k in counts.items():
            assert (k == 0) == (not best)
            if best:
                assert sum(best[:k]) >= share * sum(best)
                assert sum(best[: k - 1]) < share * sum(best)


def test_reach_counts_over_all_layers_by_hand():
    scores = [[[5.0, -1.0], [3.0, 2.0]], [[0.0, -1.0], [-2.0, 0.0]]]
    assert reach(scores) == [{0.5: 1, 0.8: 2, 0.95: 3}, {0.5: 0, 0.8: 0, 0.95: 0}]


@pytest.mark.parametrize(("scores", "shares"), [(np.ones((1, 1, 1)), [0]), (np.ones((1, 1, 1)), [1.1]), ([[1]], [1])])
def test_reach_refuses_other_forms(scores, shares):
    with pytest.raises(ValueError, match=r"shares|finite"):
        reach(scores, shares)
