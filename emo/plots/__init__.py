"""Figures of a run: PNG files from plain numbers, without a display and without pyplot's global state."""

from __future__ import annotations

from emo.plots.accuracy import accuracy_figure, calibration_figure, confusion_figure, off_target_figure
from emo.plots.arms import arms_figure, selection_figure
from emo.plots.geometry import cosine_figure, pca_figure
from emo.plots.layers import layer_curves, probe_figure
from emo.plots.theme import arm_colours, emotion_colours, sort_arms

__all__ = [
    "accuracy_figure",
    "arm_colours",
    "arms_figure",
    "calibration_figure",
    "confusion_figure",
    "cosine_figure",
    "emotion_colours",
    "layer_curves",
    "off_target_figure",
    "pca_figure",
    "probe_figure",
    "selection_figure",
    "sort_arms",
]
