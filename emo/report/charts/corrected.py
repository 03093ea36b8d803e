"""The charts of accuracies beside what they are without the labeller's error: of a job, and of a sweep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from emo.core.frames import pd
from emo.core.metric_keys import metric_parts
from emo.core.stats import Estimate
from emo.report.charts.estimates import dots, lines
from emo.report.charts.forest import forest
from emo.report.charts.job import MOST, along_of, name_along
from emo.report.charts.spec import ALL, VEGA_SHAPES, Chart, Menu, Row, Series, estimate_row, shown
from emo.report.charts.sweep import field, layout_of
from emo.report.plots.corrected import KINDS, SHAPES
from emo.report.plots.sweep_curves import UNITS
from emo.report.sweep_table import SweepTable, number, read_table, short_names
from emo.results.arm_order import sort_arms
from emo.results.corrected import Difference, Share
from emo.results.training_steps import with_steps

RAW, POWERED, CONFUSION = KINDS
COLUMNS = {RAW: ("value", "ci_lo", "ci_hi"), POWERED: ("powered", "powered_lo", "powered_hi"),
           CONFUSION: ("confusion", "confusion_lo", "confusion_hi")}  # fmt: skip
FIRST = ("clean_accuracy", "accuracy")  # metrics, in the order of the menu
TITLE = "What is left of it without the labeller's error?"
TOLD = (
    "Raw: the run's own labels, whose interval knows nothing of their error; the others are corrected by replies "
    "with a trusted label."
)
NO_P = "none is given"


def job_corrected(
    shares: Sequence[Share], differences: Sequence[Difference], settings: Mapping[str, Mapping[str, float]],
    names: Sequence[str],
) -> list[Chart]:  # fmt: skip
    """Return the charts of a job: every arm, along its number where there is one, and its comparisons.

    Args:
        shares: raw and corrected accuracies.
        differences: raw and corrected comparisons.
        settings: arm -> the values of a list that it stands for.
        names: emotions.
    """
    arms = sort_arms(x.arm for x in shares)
    along = along_of(arms, settings)
    rows: list[Row] = []
    numbers = sorted({own[along] for own in settings.values() if along in own}) if along is not None else []
    for x in shares:
        for kind, one in estimates(x).items():
            row = {"metric": x.metric, "series": kind, "part": x.emotion or ALL, **estimate_row(one)}
            if along is None:
                rows.append(row | {"x": x.arm})
                continue
            own = settings.get(x.arm, {})
            places = [own[along]] if along in own else [numbers[0], numbers[-1]]  # none and prompt are level
            rows += [row | {"arm": name_along(x.arm, own, along), "x": shown(place)} for place in places]
    parts = Menu("part", "emotion", [ALL, *(name for name in names if any(row["part"] == name for row in rows))])
    made = []
    if along is not None:
        swept = sorted(arms, key=lambda arm: along not in settings.get(arm, {}))  # before those that are level
        names_along = dict.fromkeys(name_along(arm, settings.get(arm, {}), along) for arm in swept)
        made.append(_lines(rows, along, [Menu("arm", "arm", list(names_along)), parts]))
    elif rows and len(arms) <= MOST:
        made.append(
            dots("corrected", TITLE, _caption("bars"), rows, _series(rows), _metrics(rows), arms, "arm",
                 beside="accuracy", menus=_useful([parts]))
        )  # fmt: skip
    return [*made, *_differences(differences)]


def sweep_corrected(frame: pd.DataFrame, long: pd.DataFrame, axes: Sequence[str]) -> list[Chart]:
    """Return the chart of a sweep's accuracies; nothing where nothing varies, or nothing was corrected.

    Args:
        frame: its table.
        long: the rows that were corrected (`emo.results.trusted.long_table`).
        axes: swept keys, in order.
    """
    whole = read_table(with_steps(frame, axes), axes)
    found = {kind: kind_table(long, axes, kind) for kind in KINDS}
    if not whole.varying() or not any(found[kind].cells for kind in (POWERED, CONFUSION)):
        return []
    layout, short = layout_of(whole), short_names(whole.axes)
    place = {axis: whole.axes.index(axis) for axis in whole.axes}
    others = [axis for axis in whole.varying() if axis != layout.along]
    rows: list[Row] = []
    for kind, table in found.items():
        for (setting, arm, key), x in table.cells.items():
            metric, emotion, _ = metric_parts(key)
            at = setting[place[layout.along]]
            own = {"metric": metric, "series": kind, "part": emotion or ALL, "arm": arm, **estimate_row(x)}
            keys = {field(i): setting[place[axis]] for i, axis in enumerate(others)}
            rows.append(own | keys | {"x": shown(number(at)) if whole.numeric(layout.along) else at})
    arms = list(dict.fromkeys([whole.main_arm(), *sort_arms(row["arm"] for row in rows)]))
    menus = [Menu("arm", "arm", arms)]
    menus += [Menu(field(i), short[axis], whole.options[axis]) for i, axis in enumerate(others)]
    parts = list(dict.fromkeys([ALL, *(row["part"] for row in rows)]))
    menus.append(Menu("part", "emotion", parts))
    if whole.numeric(layout.along):
        return [_lines(rows, UNITS.get(layout.along, layout.along), menus)]
    return [
        dots("corrected", TITLE, _caption("bars"), rows, _series(rows), _metrics(rows), whole.options[layout.along],
             short[layout.along], beside="accuracy", menus=_useful(menus))
    ]  # fmt: skip


def compared_corrected(rows: Sequence[tuple[str, str, Estimate, Estimate]]) -> list[Chart]:
    """Return the chart of comparisons, raw and corrected; nothing where none was corrected.

    Args:
        rows: (how it is called, metric, raw, corrected), in order.
    """
    drawn: list[Row] = []
    for name, metric, *both in rows:
        if both[1].value is None or both[0].value is None:
            continue
        told = ("in the chart of raw differences", NO_P)
        for kind, x, p in zip((RAW, POWERED), both, told, strict=True):
            drawn.append({"metric": metric, "name": name, "series": kind, "told": p, **estimate_row(x)})
    if not drawn:
        return []
    return [
        forest(
            "corrected_differences", "Which differences are left?",
            f"Paired differences, raw and corrected (prediction-powered); right of 0: the first has more. {TOLD} Bars "
            "are 95 % intervals over scenarios; pale: contains 0; hollow: no interval.",
            drawn, _series(drawn), _metrics(drawn), beside=True,
        )
    ]  # fmt: skip


def kind_table(long: pd.DataFrame, axes: Sequence[str], kind: str) -> SweepTable:
    """Return one kind of accuracy (of `KINDS`) of the rows that were corrected, with their emotions."""
    given = COLUMNS[kind]
    own = long.drop(columns=["value", "ci_lo", "ci_hi"]) if kind != RAW else long
    renamed = own.rename(columns=dict(zip(given, COLUMNS[RAW], strict=True)))
    return read_table(with_steps(renamed, axes), axes, _keys(long))


def estimates(x: Share) -> dict[str, Estimate]:
    """Return what was measured of an accuracy, by kind."""
    kinds = {RAW: x.raw, POWERED: x.powered.estimate, CONFUSION: x.confusion}
    return {kind: one for kind, one in kinds.items() if one is not None and one.value is not None}


def _keys(long: pd.DataFrame) -> list[str]:
    there = list(dict.fromkeys(long["metric"]))
    return sorted(there, key=lambda key: FIRST.index(metric_parts(key).metric))


def _differences(differences: Sequence[Difference]) -> list[Chart]:
    return compared_corrected([(f"{x.arm} − {x.against}", x.metric, x.raw, x.powered) for x in differences])


def _lines(rows: Sequence[Row], along: str, menus: Sequence[Menu]) -> Chart:
    return lines(
        "corrected", TITLE, _caption("bands"), rows, _series(rows), _metrics(rows), along,
        menus=_useful(menus), of="accuracy",
    )  # fmt: skip


def _useful(menus: Sequence[Menu]) -> list[Menu]:
    return [menu for menu in menus if len(menu.options) > 1 or menu.field == "arm"]


def _caption(intervals: str) -> str:
    return f"{TOLD} {intervals.capitalize()} are 95 % intervals over scenarios; hollow: no interval."


def _series(rows: Sequence[Row]) -> Series:
    kinds = [kind for kind in KINDS if any(row["series"] == kind for row in rows)]
    return Series(kinds, [KINDS[kind] for kind in kinds], [VEGA_SHAPES[SHAPES[kind]] for kind in kinds])


def _metrics(rows: Sequence[Row]) -> list[str]:
    return [metric for metric in FIRST if any(row["metric"] == metric for row in rows)]
