"""The picture to see first: whatever a model writes, its panels keep their room and its names can be read."""

from __future__ import annotations

import itertools
import warnings
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text

from emo.core.stats import Estimate
from emo.report.plots import fonts
from emo.report.plots.first_look import first_look_figure

REPLIES = {
    "none": "\x01\N{REPLACEMENT CHARACTER}8" * 60,
    "prompt": "A short one.",
    "circuit": "x" * 400,
    "random_circuit": "Words and words. " * 40,
}
ARMS = ("none", "prompt", "steer", "circuit", "random_circuit", "shuffled_circuit", "circuit_heads")


def drawn(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Figure:
    """Draw seven arms, six of which lie at one place; return the figure as it was written."""
    kept: list[Figure] = []
    save = fonts.save

    def keep(figure: Figure, path: Path) -> None:
        kept.append(figure)
        save(figure, path)

    monkeypatch.setattr(fonts, "save", keep)
    cost = {arm: Estimate(2.8 if arm == "steer" else 1.0, None, None, 9) for arm in ARMS}
    arms = {arm: {"ppl_ratio": cost[arm], "clean_accuracy": Estimate(0.0, 0.0, 0.05, 9)} for arm in ARMS}
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # matplotlib warns where a text leaves no room for the panels
        first_look_figure("title", "A prompt. " * 40, REPLIES, arms, "note", folder / "first.png")
    return kept[0]


def test_wide_replies_take_no_room_from_the_panels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nor is a font asked for that could show a control character."""
    figure = drawn(tmp_path, monkeypatch)
    wide = figure.get_size_inches()[0] * figure.dpi
    assert all(axes.get_window_extent().width > 0.8 * wide for axes in figure.axes)
    assert "no installed font" not in capsys.readouterr().err
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert "A short one." in texts and all(text.replace("\n", "").isprintable() for text in texts)


def test_names_of_arms_at_one_place_do_not_overlap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figure = drawn(tmp_path, monkeypatch)
    names = [text for text in figure.axes[1].texts if isinstance(text, Annotation)]
    assert sorted(name.get_text() for name in names)[:2] == ["asked", "circuit"] and len(names) == len(ARMS)
    boxes = [Text.get_window_extent(name) for name in names]
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))
