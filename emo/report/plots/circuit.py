"""A global circuit (methods 1.10, 1.11): where its units lie, what emotions share, and where it moves the states.

Shape letters: e emotions, l blocks, n prompts, L blocks of the model, d residual width.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from emo.core.types import NEUTRAL
from emo.report.plots.theme import (
    EMOTIONS,
    FAINT,
    INK,
    block_list,
    class_axes,
    drawing,
    emotion_colours,
    emotion_shapes,
    footnote,
    grid,
    need,
)

NEURONS, HEADS, ALL_HEADS = "#999933", "#A9A3D3", "#332288"  # colours of MLP and attention, as importance has them
PAPER_OVERLAP = {"neurons": "0.056 ± 0.033", "heads": "0.454 ± 0.047"}  # Jaccard, section 1.10 of the methods
MAX_NUMBERS = 12  # emotions up to which a cell is wide enough for its number
PLAIN = "emotion-free prompt"
UP, DOWN, BELOW = 1.12, 0.9, 1.45  # height of a panel above and below 0, in largest bars; and below 0 in capacities


def circuit_map(
    quotas_neurons: ArrayLike,
    quotas_heads: ArrayLike,
    capacity_heads: int,
    names: Sequence[str],
    title: str,
    path: Path,
) -> Path:
    """Draw how many units of each block a circuit takes, a panel per emotion: neurons upward, heads downward.

    Args:
        quotas_neurons: (e, l) neurons taken of each block; nan = not measured.
        quotas_heads: (e, l) heads taken, on a scale of their own.
        capacity_heads: heads that a block has. Where all are taken the choice of heads means nothing: such blocks
            are dark and listed.
        names: e emotions, all on the same two scales.
        title: model, budget and split.
        path: PNG to write.

    Raises:
        ValueError: nothing to draw, or another shape.
    """
    neurons, heads = np.asarray(quotas_neurons, dtype=float), np.asarray(quotas_heads, dtype=float)
    need("circuit_map", neurons.size)
    if neurons.ndim != 2 or len(neurons) != len(names) or heads.shape != neurons.shape:
        raise ValueError(
            f"circuit_map: twice (emotions, blocks) for {len(names)} emotions, not {neurons.shape}, {heads.shape}"
        )
    up = float(np.fmax.reduce(neurons, axis=None, initial=1))
    zero = DOWN / (UP + DOWN)  # height of 0, as a share of the panel
    columns = min(2, len(names))
    rows = -(-len(names) // columns)
    with drawing(path, title, 1.3 + 2.3 * rows) as figure:
        panels = grid(figure, len(names), columns, sharex=True, sharey=True)
        for i, (axes, name) in enumerate(zip(panels, names, strict=True)):
            below = axes.twinx()
            axes.bar(range(neurons.shape[1]), neurons[i], width=0.8, color=NEURONS)
            _head_bars(below, heads[i], capacity_heads)
            # Both scales have their 0 at the same height, and room for the words at both ends.
            axes.set_ylim(-DOWN * up, UP * up)
            below.set_ylim(BELOW * capacity_heads, -BELOW * capacity_heads * UP / DOWN)
            _totals(axes, name, neurons[i], heads[i])
            first, last = i % columns == 0, i % columns == columns - 1 or i == len(names) - 1
            _count_axis(axes, up, "neurons", NEURONS, first, zero + 0.5 / (UP + DOWN))
            _count_axis(below, capacity_heads, "heads", ALL_HEADS, last, zero * (1 - 0.5 / BELOW))
            axes.set_xlim(-0.75, neurons.shape[1] - 0.25)
            axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
            if i + columns >= len(names):
                axes.tick_params(labelbottom=True)
                axes.set_xlabel("decoder block")
        footnote(
            figure,
            f"Bars: units that the circuit takes of each block. Dashed: the {capacity_heads} heads that a block has. "
            "Dark: all of them\nare taken, so that their ranking decides nothing there.",
        )
    return path


def _head_bars(axes: Axes, quotas: np.ndarray, capacity: int) -> None:
    full = quotas >= capacity
    axes.bar(range(len(quotas)), quotas, width=0.8, color=np.where(full, ALL_HEADS, HEADS).tolist())
    axes.axhline(capacity, color=ALL_HEADS, linewidth=1, linestyle="--")
    axes.axhline(0, color=INK, linewidth=0.8)
    if np.isnan(quotas).all():
        return
    taken = f"all {capacity} heads of {block_list(np.flatnonzero(full).tolist())}"
    if not full.any():
        taken = f"no block gives all {capacity} heads"
    axes.annotate(
        taken, (0.5, capacity), xycoords=("axes fraction", "data"), xytext=(0, -3), textcoords="offset points",
        ha="center", va="top", fontsize=8.5, color=ALL_HEADS,
    )  # fmt: skip


def _totals(axes: Axes, name: str, neurons: np.ndarray, heads: np.ndarray) -> None:
    axes.set_title(name, loc="left", fontweight="bold")
    if np.isnan(neurons).all() and np.isnan(heads).all():
        axes.set_title("not measured", loc="right", fontsize=9, color=FAINT)
        return
    axes.set_title(
        f"{np.nansum(neurons):.0f} neurons, {np.nansum(heads):.0f} heads", loc="right", fontsize=9, color=FAINT
    )


def _count_axis(axes: Axes, largest: float, label: str, colour: str, labelled: bool, middle: float) -> None:
    """Tick counts from 0 to the largest, on the half of the axis that shows them."""
    ticks = [int(x) for x in MaxNLocator(3, integer=True).tick_values(0, largest) if 0 <= x <= largest]
    axes.set_yticks(ticks)
    axes.tick_params(axis="y", colors=colour, **{"labelleft" if label == "neurons" else "labelright": labelled})
    axes.grid(visible=False)
    if labelled:
        axes.set_ylabel(label, color=colour, y=middle)


def overlap_map(neurons: ArrayLike, heads: ArrayLike, names: Sequence[str], title: str, path: Path) -> Path:
    """Draw which share of their units the circuits of two emotions have in common, neurons beside heads.

    Args:
        neurons: (e, e) Jaccard indices in 0..1 (units of both / units of either); nan = not measured.
        heads: (e, e) the same of heads.
        names: e emotions.
        title: model and budget.
        path: PNG to write.

    Raises:
        ValueError: nothing to draw, or not (e, e).
    """
    need("overlap_map", names)
    size = min(10.5, 80 / len(names))  # points; many names must not run into each other
    with drawing(path, title, 4.7) as figure:
        panels = grid(figure, 2, 2, sharey=True)
        for axes, (kind, given) in zip(panels, {"neurons": neurons, "heads": heads}.items(), strict=True):
            matrix = np.asarray(given, dtype=float)
            if matrix.shape != (len(names), len(names)):
                raise ValueError(f"overlap_map, {kind}: {matrix.shape} for {len(names)} emotions")
            image = axes.imshow(matrix, cmap="Blues", vmin=0, vmax=1)
            for (row, column), share in np.ndenumerate(matrix):
                if not np.isnan(share) and len(names) <= MAX_NUMBERS:
                    ink = "white" if share > 0.55 else "black"
                    axes.text(column, row, f"{share:.2f}", ha="center", va="center", fontsize=size - 1, color=ink)
            axes.set_title(f"{kind}: {_spread(matrix)}\n(paper {PAPER_OVERLAP[kind]})", loc="left")
            class_axes(axes, names, names, size)
        figure.colorbar(image, ax=panels, label="Jaccard (shared / all units)", shrink=0.7, aspect=30)
        footnote(figure, "Above: mean ± SD over the pairs of different emotions. 1 = the same units, 0 = none shared.")
    return path


def _spread(matrix: np.ndarray) -> str:
    pairs = matrix[np.triu_indices(len(matrix), 1)]
    pairs = pairs[~np.isnan(pairs)]
    if not len(pairs):
        return "not measured"
    return f"{pairs.mean():.3f} ± {pairs.std(ddof=1):.3f}" if len(pairs) > 1 else f"{pairs[0]:.3f}, one pair"


def states_scatter(
    plain: ArrayLike, modulated: ArrayLike, names: Sequence[str], blocks: Sequence[int], title: str, path: Path
) -> Path:
    """Draw the states of emotion-free prompts, unedited and under each emotion's circuit, a panel per block.

    Each panel has its own two principal components, fitted on all of its states.

    Args:
        plain: (n, L, d) states of the unedited prompts, in activation units.
        modulated: (e, n, L, d) states of the same prompts under each circuit. A state with nan is left out.
        names: e emotions.
        blocks: those drawn.
        title: model, site, token and n.
        path: PNG to write.

    Raises:
        ValueError: nothing to draw, another shape, or a block that the states do not have.
    """
    base, edited = np.asarray(plain), np.asarray(modulated)
    need("states_scatter", base.size and len(blocks))
    if base.ndim != 3 or edited.shape != (len(names), *base.shape):
        raise ValueError(
            f"states_scatter: (n, L, d) and (emotions, n, L, d) for {len(names)} emotions, "
            f"not {base.shape} and {edited.shape}"
        )
    if not all(0 <= block < base.shape[1] for block in blocks):
        raise ValueError(f"states_scatter: blocks of 0..{base.shape[1] - 1}, not {list(blocks)}")
    grey, labels = EMOTIONS[NEUTRAL], [PLAIN, *names]
    colours, shapes = (
        {PLAIN: grey} | emotion_colours(names),
        {PLAIN: emotion_shapes([NEUTRAL])[NEUTRAL]} | emotion_shapes(names),
    )
    columns = min(2 if len(blocks) <= 4 else 3, len(blocks))
    rows = -(-len(blocks) // columns)
    with drawing(path, title, 1.4 + rows * {1: 4.5, 2: 3.3, 3: 2.5}[columns]) as figure:
        for axes, block in zip(grid(figure, len(blocks), columns), blocks, strict=True):
            states = np.concatenate([base[None, :, block], edited[:, :, block]]).astype(float)  # (1 + e, n, d)
            points, shares = _components(states.reshape(-1, states.shape[2]))
            for label, own in zip(labels, points.reshape(*states.shape[:2], 2), strict=True):
                axes.scatter(
                    own[:, 0], own[:, 1], s=20, color=colours[label], marker=shapes[label], alpha=0.8,
                    edgecolors="white", linewidths=0.4, zorder=4 if label == PLAIN else 3,
                )  # fmt: skip
            axes.set_title(f"block {block}", loc="left", fontweight="bold")
            if np.isnan(points).all():
                axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", va="center", color=FAINT)
                continue
            axes.set_xlabel(f"PC 1 ({shares[0]:.0%} of variance)")
            axes.set_ylabel(f"PC 2 ({shares[1]:.0%})")
            # One unit is equally long both ways: a stretched second component would fake a separation.
            axes.set_aspect("equal", adjustable="datalim")
        keys = [Line2D([], [], linestyle="", marker=shapes[x], color=colours[x], markersize=7, label=x) for x in labels]
        box = figure.legend(
            handles=keys, loc="outside lower left", ncols=min(4, len(keys)), alignment="left", title_fontsize=9,
            title=f"Grey: states of the {PLAIN}, unedited. Colours: the same prompts under each emotion's circuit.",
        )  # fmt: skip
        box.get_title().set_color(FAINT)
    return path


def _components(states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the first two principal components (m, 2) of states (m, d), nan where a state is, and their shares."""
    kept = np.isfinite(states).all(1)
    points, shares = np.full((len(states), 2), np.nan), np.full(2, np.nan)
    if kept.sum() > 1:
        u, s, vt = np.linalg.svd(states[kept] - states[kept].mean(0), full_matrices=False)
        # The sign of a component is arbitrary: its largest weight is made positive, so that a figure repeats.
        sign = np.sign(vt[np.arange(len(vt)), np.abs(vt).argmax(1)])
        first = min(2, len(s))  # states of width 1 have one component
        points[kept], shares = 0.0, np.zeros(2)
        points[kept, :first] = (u * s * sign)[:, :first]
        shares[:first] = s[:first] ** 2 / max(float((s**2).sum()), np.finfo(float).tiny)
    return points, shares
