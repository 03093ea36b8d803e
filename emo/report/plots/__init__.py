"""Figures of a run: PNG files from plain numbers, without a display and without pyplot's global state."""

from __future__ import annotations

from emo.report.plots.accuracy import (
    accuracy_figure,
    accuracy_metrics,
    calibration_figure,
    confusion_figure,
    off_target_figure,
)
from emo.report.plots.arms import arms_figure, selection_figure
from emo.report.plots.circuit import circuit_map, overlap_map, states_scatter
from emo.report.plots.class_curves import LoopLine, loop_figure, strength_figure
from emo.report.plots.classes import change_figure, counts_figure, depth_map, overlap_grid
from emo.report.plots.comparisons import claims
from emo.report.plots.frontier import frontier_figure
from emo.report.plots.geometry import cosine_figure, pca_figure
from emo.report.plots.importance import importance_curves, similarity_map
from emo.report.plots.layers import layer_curves, probe_figure
from emo.report.plots.ranking import RankingPanel, ranking_figure
from emo.report.plots.theme import arm_colours, emotion_colours
from emo.report.plots.unit_maps import head_map, long_tail, neuron_map
from emo.report.plots.units import k_curves, small_multiples

__all__ = [
    "LoopLine",
    "RankingPanel",
    "accuracy_figure",
    "accuracy_metrics",
    "arm_colours",
    "arms_figure",
    "calibration_figure",
    "change_figure",
    "circuit_map",
    "claims",
    "confusion_figure",
    "cosine_figure",
    "counts_figure",
    "depth_map",
    "emotion_colours",
    "frontier_figure",
    "head_map",
    "importance_curves",
    "k_curves",
    "layer_curves",
    "long_tail",
    "loop_figure",
    "neuron_map",
    "off_target_figure",
    "overlap_grid",
    "overlap_map",
    "pca_figure",
    "probe_figure",
    "ranking_figure",
    "selection_figure",
    "similarity_map",
    "small_multiples",
    "states_scatter",
    "strength_figure",
]
