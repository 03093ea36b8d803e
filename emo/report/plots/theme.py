"""What all figures share: colours, axis names, the canvas and the way to disk."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from emo.core.metric_keys import metric_parts
from emo.core.metrics import metric_of
from emo.report.plots import fonts
from emo.results.arm_order import DEVICES, base_name, sort_arms

WIDTH = 8.0  # inches: 1040 px at DPI, still readable when a page shows it 900 px wide
DPI = 130
TITLE_WIDTH = 76  # characters of a title line
INK, FAINT = "#222222", "#777777"

# Okabe and Ito's palette, told apart with every common colour blindness.
EMOTIONS = {
    "anger": "#D55E00",
    "sadness": "#0072B2",
    "happiness": "#E69F00",
    "fear": "#CC79A7",
    "surprise": "#56B4E9",
    "disgust": "#009E73",
    "neutral": "#777777",
}
# Paul Tol's muted palette, for emotions beyond Ekman's six and for categories without a meaning of their own.
OTHERS = ("#332288", "#117733", "#AA4499", "#999933", "#882255", "#44AA99", "#CC6677", "#88CCEE", "#DDCC77")
# An arm that is not here gets a colour of `OTHERS`; the order of arms is `emo.results.arm_order`'s.
ARMS = {
    "none": "#777777",
    "prompt": "#000000",
    "steer": "#0072B2",
    "prompt_steer": "#009E73",
    "mask": "#0072B2",
    "adaptive_mask": "#D55E00",
    "induce": "#009E73",
    "random": "#E8B26A",
    "shuffled": "#D7A3C1",
    "prompt_random": "#A6761D",
    "prompt_shuffled": "#8E4585",
    "circuit": "#D55E00",
    "prompt_circuit": "#7F2704",
    "ablate_circuit": "#D55E00",
    "random_circuit": "#F0C27B",
    "shuffled_circuit": "#CBA6C3",
    "other_circuit": "#999933",
    "circuit_neurons": "#56B4E9",
    "circuit_heads": "#CC79A7",
    "matched_steer": "#332288",
    "other_emotion": "#9C8FC4",
}
# Rhetorical devices: injected they have the colour that they have as classes.
ARMS |= {f"inject_{device}": colour for device, colour in zip(DEVICES, OTHERS, strict=False)}
# Where a legend stands: beside its panel, so that it hides no data and the layout makes room for it.
BESIDE: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1.01, 1.0), "borderaxespad": 0.0}
SHAPES = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h", "*", "d", "8", "H")  # a second channel beside colour

STYLE: dict[Any, Any] = {
    "font.size": 10.5,
    "font.family": fonts.OWN,
    "axes.titlesize": 10.5,
    "axes.labelsize": 10.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": FAINT,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E6E6E6",
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "legend.fontsize": 10,
    "figure.facecolor": "white",
    "text.parse_math": False,  # a dollar sign in a title is a dollar sign
}


def metric_label(key: str) -> tuple[str, float | None]:
    """Return (axis label with unit, neutral value or None) of a metric key, with its ``/emotion`` suffix."""
    _, *part = metric_parts(key)
    label, neutral = metric_of(key).label, metric_of(key).neutral
    told = ", ".join(name for name in part if name is not None)
    return (f"{label}\n{told}" if told else label), neutral


def emotion_colours(names: Iterable[str]) -> dict[str, str]:
    """Colour per emotion; names beyond the known ones take fallback colours in alphabetical order."""
    wanted = list(dict.fromkeys(names))
    extra = sorted(set(wanted) - set(EMOTIONS))
    fallback = {name: OTHERS[i % len(OTHERS)] for i, name in enumerate(extra)}
    return {name: EMOTIONS.get(name) or fallback[name] for name in wanted}


def emotion_shapes(names: Iterable[str]) -> dict[str, str]:
    """Marker per emotion, by the same rule as `emotion_colours`; pairs repeat only after len(OTHERS) * len(SHAPES)."""
    wanted = list(dict.fromkeys(names))
    order = {name: i for i, name in enumerate(EMOTIONS)}
    extra = sorted(set(wanted) - set(EMOTIONS))
    order |= {name: i % len(OTHERS) + i // len(OTHERS) for i, name in enumerate(extra)}
    return {name: SHAPES[order[name] % len(SHAPES)] for name in wanted}


def arm_colours(names: Iterable[str]) -> dict[str, str]:
    """Colour per arm; of the variants of one arm (``steer@alpha=1``) the last has its full colour.

    Controls of an injection (``random_metaphor``) have the colour of the control, whatever the device.
    """
    wanted = sort_arms(names)
    extra = [stem for stem in dict.fromkeys(_stem(base_name(name)) for name in wanted) if stem not in ARMS]
    bases = ARMS | {base: OTHERS[i % len(OTHERS)] for i, base in enumerate(extra)}
    families: dict[str, list[str]] = {}
    for name in wanted:
        families.setdefault(base_name(name), []).append(name)
    colours: dict[str, str] = {}
    for base, family in families.items():
        for i, name in enumerate(family):
            white = 0.6 * (1 - (i + 1) / len(family))
            colours[name] = _lighter(bases[_stem(base)], white)
    return colours


@contextmanager
def drawing(path: Path, title: str, height: float) -> Iterator[Figure]:
    """Yield an empty figure ``WIDTH`` x ``height`` inches in our style, and write it as PNG when done."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, height), dpi=DPI, layout="constrained")
        FigureCanvasAgg(figure)
        # Wrapped here: matplotlib's own wrapping reads a dollar sign as mathematics whatever STYLE says.
        figure.suptitle(textwrap.fill(title, TITLE_WIDTH), fontsize=12, fontweight="bold")
        yield figure
        path.parent.mkdir(parents=True, exist_ok=True)
        fonts.save(figure, path)


def grid(figure: Figure, count: int, columns: int, **kwargs: Any) -> list[Axes]:
    """Lay out ``count`` panels in at most ``columns`` columns; cells left over stay empty."""
    columns = min(columns, count)
    axes = figure.subplots(-(-count // columns), columns, squeeze=False, **kwargs).ravel()
    for spare in axes[count:]:
        spare.set_axis_off()
    return list(axes[:count])


def class_axes(axes: Axes, rows: Sequence[str] | None, columns: Sequence[str] | None, size: float) -> None:
    """Name the rows and columns of a heat map, in ``size`` points; None: a neighbour's names do."""
    axes.grid(visible=False)
    axes.tick_params(length=0)
    axes.set_yticks(range(len(rows or ())), rows or (), fontsize=size)
    axes.set_xticks(
        range(len(columns or ())), columns or (), fontsize=size, rotation=45, ha="right", rotation_mode="anchor"
    )


def footnote(figure: Figure, text: str) -> None:
    """Write a small grey line below the panels."""
    figure.supxlabel(text, fontsize=9, color=FAINT, x=0.01, ha="left")


def spans_decades(metric: str, ends: Sequence[float]) -> bool:
    """Return True for a perplexity ratio whose values and interval ends span more than a factor of ten."""
    return metric_parts(metric).metric == "ppl_ratio" and bool(ends) and min(ends) > 0 and max(ends) > 10 * min(ends)


def ratio_axis(axes: Axes, which: str, metric: str, ends: Sequence[float]) -> bool:
    """Give axis ``which`` (x or y) of a metric that `spans_decades` a logarithmic scale; returns whether it did."""
    if not spans_decades(metric, ends):
        return False
    axes.set(**{f"{which}scale": "log"})
    getattr(axes, f"{which}axis").set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    return True


def stretches(blocks: Sequence[int]) -> list[tuple[int, int]]:
    """Return the first and the last of each run of neighbours among rising ``blocks``."""
    firsts = [block for block in blocks if block - 1 not in blocks]
    lasts = [block for block in blocks if block + 1 not in blocks]
    return list(zip(firsts, lasts, strict=True))


def block_list(blocks: Sequence[int]) -> str:
    """Write rising ``blocks`` as ``block 3`` or ``blocks 3, 9-12``; with more than six stretches only how many."""
    runs = stretches(blocks)
    if len(runs) > 6:
        return f"{len(blocks)} blocks"
    told = ", ".join(f"{a}-{b}" if b > a else f"{a}" for a, b in runs)
    return f"block{'s' if len(blocks) > 1 else ''} {told}"


def need(what: str, given: object) -> None:
    """Raise ValueError where there is nothing to draw."""
    if not given:
        raise ValueError(f"{what}: nothing to draw")


def _lighter(colour: str, white: float) -> str:
    red, green, blue = (channel + (1 - channel) * white for channel in to_rgb(colour))
    return to_hex((red, green, blue))


def _stem(base: str) -> str:
    stem, _, device = base.rpartition("_")
    return stem if device in DEVICES and base not in ARMS else base
