"""Figures of a global circuit show what they are given: every value at its block, sublayer and emotion."""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle

from emo.report.plots import circuit_map, claims, importance_curves, overlap_map, similarity_map, states_scatter, theme
from emo.report.plots.circuit import ALL_HEADS, HEADS, NEURONS, PLAIN

pytestmark = [pytest.mark.filterwarnings("error"), pytest.mark.long]  # every figure is drawn

NAMES = ["anger", "sadness", "happiness", "fear", "surprise", "disgust"]
SIZES = [(2, 2), (6, 30), (6, 48), (1, 1)]  # emotions, blocks


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

    for module in ("importance", "circuit", "comparisons"):
        monkeypatch.setattr(f"emo.report.plots.{module}.drawing", keeping)
    return drawn


def panel(figure, title):
    return next(axes for axes in figure.axes if axes.get_title(loc="left").partition("\n")[0] == title)


def texts(axes):
    return [text.get_text() for text in axes.texts]


def bars(axes):
    return [bar for bar in axes.patches if isinstance(bar, Rectangle)]


def frames(axes):
    return [(*frame.get_xy(), frame.get_width(), frame.get_height()) for frame in axes.patches]


def cosines(e, depth):
    x = np.random.default_rng(0).normal(size=(e, 2 * depth, 3))
    x /= np.linalg.norm(x, axis=-1, keepdims=True)
    return x @ x.transpose(0, 2, 1)


@pytest.mark.parametrize(("e", "depth"), SIZES)
def test_similarity_map_has_one_scale_and_all_sublayers(figure, tmp_path, e, depth):
    given = cosines(e, depth)
    assert similarity_map(given, NAMES[:e], [depth - 1], "t", tmp_path / "s.png") == tmp_path / "s.png"
    for name, own in zip(NAMES, given, strict=False):
        [image] = panel(figure[0], name).images
        assert np.array_equal(image.get_array(), own)
        assert image.get_clim() == (-1, 1)
        assert image.origin == "lower"
        assert frames(panel(figure[0], name)) == [(2 * depth - 2.5, 2 * depth - 2.5, 2, 2)]


def test_similarity_map_tells_mean_and_minimum_of_the_stable_blocks_without_the_diagonal(figure, tmp_path):
    own = np.full((8, 8), -1.0)
    own[2:6, 2:6] = 0.9  # blocks 1 and 2
    own[2, 5] = own[5, 2] = 0.6
    np.fill_diagonal(own, 1)
    similarity_map([own, np.full((8, 8), np.nan)], NAMES[:2], [2, 1], "t", tmp_path / "s.png")
    axes = panel(figure[0], "anger")
    assert axes.get_title(loc="left") == "anger\nmean 0.85, min 0.60"  # (10 x 0.9 + 2 x 0.6) / 12
    assert frames(axes) == [(1.5, 1.5, 4, 4)]
    places = {text.get_text(): x for x, text in zip(axes.get_yticks(), axes.get_yticklabels(), strict=True)}
    assert places == {"0": 0.5, "1": 2.5, "2": 4.5, "3": 6.5}
    assert panel(figure[0], "sadness").get_title(loc="left") == "sadness\nnot measured"
    assert "blocks 1-2" in figure[0].get_supxlabel()


def test_similarity_map_frames_each_pair_of_stretches(figure, tmp_path):
    similarity_map(cosines(1, 6), NAMES[:1], [0, 3, 4], "t", tmp_path / "s.png")
    assert frames(panel(figure[0], "anger")) == [
        (-0.5, -0.5, 2, 2), (-0.5, 5.5, 2, 4), (5.5, -0.5, 4, 2), (5.5, 5.5, 4, 4),
    ]  # fmt: skip


@pytest.mark.parametrize(("e", "depth"), SIZES)
def test_importance_has_attention_and_mlp_of_every_emotion(figure, tmp_path, e, depth):
    values = np.random.default_rng(1).normal(size=(4, e, depth, 2))
    importance_curves(values, [0.1, 0.3, 0.5, 0.7], NAMES[:e], "t", tmp_path / "i.png")
    for i, name in enumerate(NAMES[:e]):
        axes = panel(figure[0], name)
        for p, dash in enumerate(("--", "-")):
            [line] = [one for one in axes.lines if one.get_linestyle() == dash and one.get_linewidth() > 1]
            assert list(line.get_xdata()) == list(range(depth))
            assert np.allclose(line.get_ydata(), values[:, i, :, p].mean(0))
            corners = axes.collections[p].get_paths()[0].vertices
            assert corners[:, 1].min() == pytest.approx(values[:, i, :, p].min())
            assert corners[:, 1].max() == pytest.approx(values[:, i, :, p].max())
    keys = [text.get_text() for text in figure[0].legends[0].texts]
    assert keys == ["attention", "MLP"]
    assert [key.get_linestyle() for key in figure[0].legends[0].get_lines()] == ["--", "-"]
    assert "0.1, 0.3, 0.5, 0.7" in figure[0].legends[0].get_title().get_text()


def test_importance_names_the_largest_sublayer(figure, tmp_path):
    values = np.zeros((2, 2, 5, 2))
    values[:, 0, 3, 1] = [1, 3]
    values[0, 0, 2, 0] = np.nan  # one alpha is left
    values[1, 0, 2, 0] = 1.5
    values[:, 1] = np.nan
    importance_curves(values, [0.1, 0.5], NAMES[:2], "t", tmp_path / "i.png")
    axes = panel(figure[0], "anger")
    assert texts(axes) == ["MLP 3"]
    assert axes.texts[0].xy == (3, 2)
    assert [one for one in axes.lines if one.get_linestyle() == "--"][0].get_ydata()[2] == 1.5
    assert texts(panel(figure[0], "sadness")) == ["not measured"]


@pytest.mark.parametrize(("e", "depth"), SIZES)
def test_circuit_map_has_the_quota_of_every_block(figure, tmp_path, e, depth):
    rng = np.random.default_rng(2)
    neurons, heads = rng.integers(0, 40, (e, depth)), rng.integers(0, 10, (e, depth))
    circuit_map(neurons, heads, 9, NAMES[:e], "t", tmp_path / "c.png")
    for i, name in enumerate(NAMES[:e]):
        axes = panel(figure[0], name)
        below = next(a for a in figure[0].axes if a is not axes and a.bbox.bounds == axes.bbox.bounds)
        for drawn, given in ((axes, neurons[i]), (below, heads[i])):
            assert {bar.get_x() + bar.get_width() / 2: bar.get_height() for bar in bars(drawn)} == pytest.approx(
                dict(enumerate(given))
            )
        assert {to_hex(bar.get_facecolor()).upper() for bar in bars(axes)} == {NEURONS}
        for bar, quota in zip(bars(below), heads[i], strict=True):
            assert to_hex(bar.get_facecolor()).upper() == (ALL_HEADS if quota == 9 else HEADS)
        assert [9, 9] in [list(line.get_ydata()) for line in below.lines]
        assert axes.get_title(loc="right") == f"{neurons[i].sum()} neurons, {heads[i].sum()} heads"
        assert below.transData.transform((0, 5))[1] < below.transData.transform((0, 0))[1]
        assert axes.transData.transform((0, 0))[1] == pytest.approx(below.transData.transform((0, 0))[1])


def test_circuit_map_says_where_all_heads_are_taken(figure, tmp_path):
    heads = np.array([[4, 1, 4, 4, 3], [1, 1, 1, 1, 3], [np.nan] * 5])
    circuit_map(np.where(np.isnan(heads), np.nan, 5), heads, 4, NAMES[:3], "t", tmp_path / "c.png")
    told = [texts(axes) for axes in figure[0].axes if axes.get_lines()]
    assert told == [["all 4 heads of blocks 0, 2-3"], ["no block gives all 4 heads"], []]
    assert panel(figure[0], "happiness").get_title(loc="right") == "not measured"


def test_a_long_list_of_blocks_is_counted():
    assert theme.block_list([3]) == "block 3"
    assert theme.block_list([0, 1, 5]) == "blocks 0-1, 5"
    assert theme.block_list(range(0, 14, 2)) == "7 blocks"


def test_overlap_map_prints_shares_and_their_mean_over_pairs(figure, tmp_path):
    neurons = [[1, 0.1, 0.2], [0.1, 1, 0.6], [0.2, 0.6, 1]]
    heads = np.full((3, 3), np.nan)
    heads[0, 2] = 0.25
    overlap_map(neurons, heads, NAMES[:3], "t", tmp_path / "o.png")
    left, right = figure[0].axes[:2]
    assert left.get_title(loc="left") == "neurons: 0.300 ± 0.265\n(paper 0.056 ± 0.033)"
    assert right.get_title(loc="left") == "heads: 0.250, one pair\n(paper 0.454 ± 0.047)"
    assert {text.get_position(): text.get_text() for text in left.texts}[2, 1] == "0.60"
    assert texts(right) == ["0.25"]
    assert right.texts[0].get_position() == (2, 0)  # row 0, column 2
    assert {image.get_clim() for axes in (left, right) for image in axes.images} == {(0, 1)}


@pytest.mark.parametrize("e", [2, 6])
def test_overlap_map_of_few_and_all_emotions(figure, tmp_path, e):
    overlap_map(np.eye(e), np.full((e, e), np.nan), NAMES[:e], "t", tmp_path / "o.png")
    assert "not measured" in figure[0].axes[1].get_title(loc="left")
    assert [text.get_text() for text in figure[0].axes[0].get_xticklabels()] == NAMES[:e]


def clouds(axes):
    return [np.asarray(cloud.get_offsets()) for cloud in axes.collections]


def test_states_scatter_is_a_pca_of_all_states_of_its_block(figure, tmp_path):
    rng = np.random.default_rng(3)
    plain, modulated = rng.normal(size=(5, 4, 6)), rng.normal(size=(2, 5, 4, 6))
    modulated[1, :, 3, 2] += 50  # sadness moves the states of block 3, and of no other
    states_scatter(plain, modulated, NAMES[:2], [1, 3], "t", tmp_path / "p.png")
    both = np.concatenate([plain[None], modulated])[:, :, 3].reshape(15, 6)
    centred = both - both.mean(0)
    spread, axes_of = np.linalg.eigh(centred.T @ centred)  # another road to the components
    want = centred @ axes_of[:, ::-1][:, :2]
    got = np.concatenate(clouds(panel(figure[0], "block 3")))
    assert np.allclose(np.abs(got), np.abs(want))
    grey, anger, sadness = clouds(panel(figure[0], "block 3"))
    assert abs(sadness.mean(0) - grey.mean(0))[0] > 45 > 5 > abs(anger.mean(0) - grey.mean(0))[0]
    assert sadness[:, 0].min() > grey[:, 0].max()  # the largest weight is positive
    assert panel(figure[0], "block 3").get_xlabel() == f"PC 1 ({spread[-1] / spread.sum():.0%} of variance)"
    assert all(np.abs(cloud).max() < 20 for cloud in clouds(panel(figure[0], "block 1")))
    colours = [to_hex(cloud.get_facecolor()[0]).upper() for cloud in panel(figure[0], "block 1").collections]
    assert colours == [theme.EMOTIONS[name] for name in ("neutral", "anger", "sadness")]
    assert [text.get_text() for text in figure[0].legends[0].texts] == [PLAIN, "anger", "sadness"]


@pytest.mark.parametrize(("n", "depth", "d"), [(1, 2, 3), (3, 48, 1), (2, 1, 2)])
def test_states_scatter_of_little(figure, tmp_path, n, depth, d):
    plain, modulated = np.zeros((n, depth, d)), np.ones((6, n, depth, d))
    modulated[2] = np.nan
    states_scatter(plain, modulated, NAMES, [0, depth - 1], "t", tmp_path / "p.png")
    left = clouds(figure[0].axes[0])
    assert len(left) == 7
    assert np.isfinite(np.ma.filled(left[0][:, 0], np.nan)).all()


def test_states_that_were_not_measured_leave_an_empty_panel(figure, tmp_path):
    plain = np.full((2, 2, 3), np.nan)
    states_scatter(plain, np.full((1, 2, 2, 3), np.nan), NAMES[:1], [0], "t", tmp_path / "p.png")
    assert texts(figure[0].axes[0]) == ["not measured"]


def row(against, value, ci, p, arm="circuit"):
    return {"arm": arm, "against": against, "value": value, "ci": ci, "p_holm": p}


def test_claims_draw_every_difference_at_its_row(figure, tmp_path):
    rows = [
        row("none", 0.5, [0.4, 0.6], 0.0002),
        row("steer", 0.1, [-0.1, 0.3], 0.25),
        row("random_circuit", -0.2, None, None),
        row("shuffled_circuit", None, None, None),
        row("none", float("nan"), None, None, "prompt_circuit"),
    ]
    claims(rows, "t", tmp_path / "c.png")
    [axes] = figure[0].axes
    assert texts(axes) == [
        "+0.50 [+0.40, +0.60]  p < 0.001", "+0.10 [-0.10, +0.30]  p = 0.250", "-0.20 no interval  no p",
        "not measured", "not measured",
    ]  # fmt: skip
    assert [text.get_position()[1] for text in axes.texts] == [0, 1, 2, 3, 4]
    labels = [text.get_text() for text in axes.get_yticklabels()]
    assert labels[0] == "circuit − none"
    assert labels[4] == "prompt_circuit − none"
    assert axes.get_ylim() == (4.5, -0.5)  # the first row is on top
    dots = {(*dot.get_xdata(), *dot.get_ydata()): dot for dot in axes.lines if dot.get_marker() == "o"}
    assert list(dots) == [(0.5, 0), (0.1, 1), (-0.2, 2)]
    assert dots[0.1, 1].get_color() == theme.FAINT != dots[0.5, 0].get_color()
    assert dots[-0.2, 2].get_markerfacecolor() == "white"
    assert [list(x.get_xdata()) for x in axes.lines if list(x.get_ydata()) == [1, 1]] == [[-0.1, 0.3]]
    assert axes.get_xlabel().startswith("difference in clean accuracy (share of replies)")


def test_what_cannot_be_drawn_is_refused(tmp_path):
    path, one = tmp_path / "x.png", NAMES[:1]
    for draw, match in [
        (lambda: similarity_map(cosines(1, 3), NAMES, [1], "t", path), "6 emotions"),
        (lambda: similarity_map(cosines(1, 3)[:, :5, :5], one, [1], "t", path), "2L"),
        (lambda: similarity_map(cosines(1, 3), one, [3], "t", path), r"0\.\.2"),
        (lambda: similarity_map(cosines(1, 3), one, [], "t", path), r"0\.\.2"),
        (lambda: importance_curves(np.ones((2, 1, 3, 2)), [0.1], one, "t", path), "1 alphas"),
        (lambda: importance_curves(np.ones((0, 1, 3, 2)), [], one, "t", path), "nothing to draw"),
        (lambda: circuit_map(np.ones((1, 3)), np.ones((1, 4)), 9, one, "t", path), "emotions"),
        (lambda: circuit_map(np.ones((0, 3)), np.ones((0, 3)), 9, [], "t", path), "nothing to draw"),
        (lambda: overlap_map(np.eye(2), np.eye(3), NAMES[:2], "t", path), "heads"),
        (lambda: overlap_map([], [], [], "t", path), "nothing to draw"),
        (lambda: states_scatter(np.ones((2, 3, 4)), np.ones((1, 2, 3, 5)), one, [0], "t", path), "emotions"),
        (lambda: states_scatter(np.ones((2, 3, 4)), np.ones((1, 2, 3, 4)), one, [3], "t", path), r"0\.\.2"),
        (lambda: states_scatter(np.ones((2, 3, 4)), np.ones((1, 2, 3, 4)), one, [], "t", path), "nothing to draw"),
        (lambda: claims([], "t", path), "nothing to draw"),
    ]:
        with pytest.raises(ValueError, match=match):
            draw()
    assert not path.exists()
