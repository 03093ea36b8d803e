"""The charts of one job, from the numbers of its result.json: what the arms reach, differ in, break, and over what."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from emo.core.metric_keys import metric_key
from emo.core.metrics import headline
from emo.core.stats import Estimate
from emo.report.charts.damage import against_damage
from emo.report.charts.estimates import dots, lines
from emo.report.charts.forest import forest
from emo.report.charts.spec import ALL, Chart, Menu, Row, arm_series, estimate_row, guides, shown
from emo.results import p_values
from emo.results.arm_order import base_name, sort_arms

Found = Mapping[str, Mapping[str, Estimate]]

DAMAGE = ("ppl_ratio", "degenerate")
OUTCOMES = ("clean_accuracy", "accuracy", "match", "logprob_margin", "delta_s_rel", "delta_s_last", "induced")
LINES = " Dotted lines, where there are: chance, no effect, the damage bound; hover says which."
MOST = 24  # arms that stand side by side; more are drawn along their number
CURVE = ("k", "alpha", "scale", "ratio", "attenuation", "gain")  # settings that are drawn along, the first that varies


def job_charts(
    found: Found,
    names: Sequence[str],
    tests: Sequence[Mapping[str, Any]],
    settings: Mapping[str, Mapping[str, float]],
    *,
    of: str = "emotion",
    chance: Mapping[str, float] | None = None,
    first: str | None = None,
) -> list[Chart]:
    """Return the charts of a job, the one that answers its question first.

    Args:
        found: arm -> metric key -> estimate.
        names: emotions or classes.
        tests: paired differences between arms, rows of result.json's ``comparisons``.
        settings: arm -> the values of a list that it stands for.
        of: what ``names`` are.
        chance: metric -> what a guess reaches.
        first: the metric that charts open on, where it is not the usual one.
    """
    arms = [arm for arm in sort_arms(found) if found[arm]]
    metrics = _measured(found, dict.fromkeys([*([first] if first else []), *OUTCOMES, *headline()]))
    if not metrics:
        return []
    parts = [ALL, *names]
    made = []
    along = along_of(arms, settings)
    if along:
        made.append(_curve(found, arms, metrics, parts, settings, along, of, chance))
    if len(arms) <= MOST:
        rows = [
            {"metric": metric, "x": part, "series": arm, **estimate_row(x)}
            for metric in metrics for arm in arms for part in parts
            if (x := _of(found, arm, metric, part)) is not None
        ]  # fmt: skip
        made.append(
            dots(
                "arms",
                f"What every arm reaches, by {of}",
                f"Dots are means over the test set, bars 95 % intervals over scenarios or groups; hollow: no interval. "
                f"{ALL}: every {of} together.{LINES}",
                rows,
                arm_series(arms),
                metrics,
                parts,
                of,
                levels=guides(metrics, chance),
            )
        )
    differences = _differences(sorted(tests, key=lambda row: row["metric"] != first))
    if differences is not None:
        made.append(differences)
    # So many arms are few, at several values of a setting each.
    named = {arm: base_name(arm) if along and len(arms) > MOST else arm for arm in arms}
    damaged = _damage(found, named, metrics, parts, of)
    if damaged is not None:
        made.append(damaged)
    return made


def _measured(found: Found, metrics: Iterable[str]) -> list[str]:
    return [m for m in metrics if any(m in own and own[m].value is not None for own in found.values())]


def _of(found: Found, arm: str, metric: str, part: str) -> Estimate | None:
    x = found[arm].get(metric if part == ALL else metric_key(metric, part))
    return None if x is None or x.value is None else x


def _differences(tests: Sequence[Mapping[str, Any]]) -> Chart | None:
    measured = [row for row in tests if row["value"] is not None]
    if not measured or len(measured) > MOST * 2:
        return None
    rows: list[Row] = []
    for row in measured:
        lo, hi = row["ci"] or (None, None)
        x = Estimate(row["value"], lo, hi, row["n"])
        p = row["p_holm"]
        told = p_values.TOO_FEW if p is None else f"{p:.3f} (Holm)"
        name = f"{row['arm']} − {row['against']}"
        rows.append({"metric": row["metric"], "name": name, "series": row["arm"], "told": told, **estimate_row(x)})
    metrics = list(dict.fromkeys(row["metric"] for row in rows))
    series = arm_series(list(dict.fromkeys(row["series"] for row in rows)))
    return forest(
        "differences", "Does it do more than its controls?",
        "Paired differences on the test set, right of 0: the first arm has more. Bars are 95 % intervals over "
        "scenarios; pale: contains 0; hollow: no interval.",
        rows, series, metrics,
    )  # fmt: skip


def _damage(
    found: Found, named: Mapping[str, str], metrics: Sequence[str], parts: Sequence[str], of: str
) -> Chart | None:
    damage = next(iter(_measured(found, DAMAGE)), None)
    outcomes = [metric for metric in metrics if metric in OUTCOMES]
    if damage is None or not outcomes or len(named) < 2:
        return None
    rows: list[Row] = []
    for metric in outcomes:
        for arm, series in named.items():
            for part in parts:
                y, x = _of(found, arm, metric, part), _of(found, arm, damage, part)
                if x is not None and y is not None:
                    own = estimate_row(x)
                    over = {"x": own["value"], "x_lo": own["lo"], "x_hi": own["hi"]}
                    place = {"metric": metric, "series": series, "arm": arm, "part": part}
                    rows.append({**place, **estimate_row(y), **over})
    if not rows:
        return None
    series_of = arm_series(list(dict.fromkeys(named.values())))
    return against_damage(
        "damage", "What does it cost?",
        "Outcome against damage, an arm each: up is more effect, right is more damage. Bars are 95 % intervals; "
        "hollow: none.",
        rows, series_of, list(dict.fromkeys(row["metric"] for row in rows)), damage,
        Menu("part", of, parts),
    )  # fmt: skip


def along_of(arms: Sequence[str], settings: Mapping[str, Mapping[str, float]]) -> str | None:
    """Return the setting that arms of one kind have at least three values of."""
    for key in dict.fromkeys([*CURVE, *(key for own in settings.values() for key in own)]):
        values = {settings[arm][key] for arm in arms if key in settings.get(arm, {})}
        if len(values) > 2:
            return key
    return None


def _curve(
    found: Found, arms: Sequence[str], metrics: Sequence[str], parts: Sequence[str],
    settings: Mapping[str, Mapping[str, float]], along: str, of: str, chance: Mapping[str, float] | None,
) -> Chart:  # fmt: skip
    """Return the arms over a number; what has no value of it (none, prompt) is level."""
    numbers = sorted({settings[arm][along] for arm in arms if along in settings.get(arm, {})})
    named = {arm: name_along(arm, settings.get(arm, {}), along) for arm in arms}
    drawn = dict.fromkeys([*metrics[:1], *_measured(found, ["delta_s"]), *metrics])
    rows: list[Row] = []
    for metric in drawn:
        for arm in arms:
            places = [settings[arm][along]] if along in settings.get(arm, {}) else [numbers[0], numbers[-1]]
            for part in parts:
                x = _of(found, arm, metric, part)
                if x is not None:
                    own = {"metric": metric, "series": named[arm], "part": part, **estimate_row(x)}
                    rows += [own | {"x": shown(place)} for place in places]
    return lines(
        "curve", f"How does it grow with {along}?",
        f"Means over the test set along {along}; bands are 95 % intervals over scenarios or groups. What has no "
        f"{along} is level.{LINES}",
        rows, arm_series(list(dict.fromkeys(named.values()))), list(drawn), along,
        menus=[Menu("part", of, parts)], levels=guides(drawn, chance),
    )  # fmt: skip


def name_along(arm: str, own: Mapping[str, float], along: str) -> str:
    """Return what an arm is called where it is drawn along one of its settings: without that one."""
    others = ",".join(f"{key}={value:g}" for key, value in own.items() if key != along)
    return base_name(arm) + (f"@{others}" if others else "")
