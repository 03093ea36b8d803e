"""What one job found, in three to five sentences: the outcome, what it is more than, for which emotions, at what cost.

Computed from result.json, so no sentence is stronger than its interval and its test: "more" means that the interval of
the paired difference leaves 0 out and that p after Holm is at most 0.05, "perhaps more" the interval alone. Where the
scenarios allow no such p, the interval decides, and the sentence says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from emo.core.metrics import metric_of
from emo.core.stats import FEWEST
from emo.results import p_values

UNEDITED = ("none", "prompt")
DAMAGE = ("ppl_ratio", "degenerate")
OUTCOMES = ("clean_accuracy", "logprob_margin", "delta_s_last", "ppl_ratio", "kl")
TOLD = 2  # edited arms, at most
CONTROLS = 6  # named in a sentence, at most


def job_findings(result: Mapping[str, Any], of: str = "emotion", metric: str | None = None) -> list[str]:
    """Return the sentences of a finished job.

    Args:
        result: ``arms``, ``comparisons``, ``smallest_p`` and ``clusters``, as in result.json.
        of: what its numbers are split by: emotion, or class (then no reply was written, and no damage is told).
        metric: the outcome that is told, where it was compared; None: the first one.
    """
    tests: Sequence[Mapping[str, Any]] = result["comparisons"]
    if not tests:
        return []
    arms = result["arms"]
    metric = next((row["metric"] for row in tests if row["metric"] == metric), str(tests[0]["metric"]))
    tests = [row for row in tests if row["metric"] == metric]
    lines, edited = [], list(dict.fromkeys(str(row["arm"]) for row in tests))
    for arm in edited[:TOLD]:
        rows = [row for row in tests if row["arm"] == arm]
        lines += [
            _outcome(arms, arm, metric),
            *_controls(rows, result),
            *_parts(arms, arm, metric, str(rows[0]["against"]), of),
        ]
        lines += _damage(arms, arm)
    if len(edited) > TOLD:
        lines.append(f"The table has {_listed(edited[TOLD:])} too: only the first {TOLD} edited arms are told here.")
    return [*lines, *(_unmeasured(arms) if of == "emotion" else [])]


def _name(metric: str) -> str:
    return metric.replace("_", " ")


def _number(x: Mapping[str, Any] | None) -> str:
    if x is None or x["value"] is None:
        return "not measured"
    return f"{x['value']:.2f}" + ("" if x["ci"] is None else f" [{x['ci'][0]:.2f}, {x['ci'][1]:.2f}]")


def _outcome(arms: Mapping[str, Any], arm: str, metric: str) -> str:
    beside = [f"{name} {_number(arms[name].get(metric))}" for name in UNEDITED if name in arms]
    return f"{arm}: {_name(metric)} {_number(arms[arm].get(metric))}; {', '.join(beside)}."


def _controls(rows: Sequence[Mapping[str, Any]], result: Mapping[str, Any]) -> list[str]:
    known = [row for row in rows if row["ci"] is not None]
    if not known:
        return [f"Whether that is more than its controls cannot be said: {_scenarios(result)}."] if rows else []
    untested = p_values.unreadable(result.get("smallest_p"))
    parts, same = [], known
    for word, kept in (
        ("more than", [row for row in known if row["ci"][0] > 0]),
        ("less than", [row for row in known if row["ci"][1] < 0]),
    ):
        same = [row for row in same if row not in kept]
        found = [row for row in kept if untested or _small(row)]
        if found:
            why = f" (by intervals: {_scenarios(result)})" if untested else ""
            parts.append(f"{word} {_listed([_difference(row) for row in found])}{why}")
        if perhaps := [row for row in kept if row not in found]:
            alone = "the interval" if len(perhaps) == 1 else "intervals"
            told = _listed([_difference(row, p_values.told(row["p_holm"])) for row in perhaps])
            parts.append(f"perhaps {word} {told}, by {alone} alone")
    if same:
        parts.append(f"not shown to differ from {_listed([str(row['against']) for row in same])}")
    return [f"It is {'; '.join(parts)}."]


def _small(row: Mapping[str, Any]) -> bool:
    return row["p_holm"] is not None and row["p_holm"] <= p_values.LEVEL


def _difference(row: Mapping[str, Any], p: str = "") -> str:
    return f"{row['against']} ({row['value']:+.2f}{f', {p}' if p else ''}{_terms(row)})"


def _listed(names: Sequence[str]) -> str:
    more = len(names) - CONTROLS
    return ", ".join(names[:CONTROLS]) + (f" and {more} more" if more > 0 else "")


def _terms(row: Mapping[str, Any]) -> str:
    found = row.get("terms") or {}
    unequal = f", at unequal {' and '.join(found['unequal'])}" if found.get("unequal") else ""
    return f", both at KL {found['divergence']:g}" + unequal if "divergence" in found else unequal


def _scenarios(result: Mapping[str, Any]) -> str:
    clusters, p = result["clusters"], result.get("smallest_p")
    count = f"{clusters['distinct']} {clusters['what']}"
    if clusters["distinct"] < FEWEST:
        return f"{count} are too few for an interval or a p ({FEWEST} are needed)"
    if p is None or not p_values.unreadable(p):
        return count
    tests = sum(row["p_holm"] is not None for row in result["comparisons"])
    return f"{count} and {tests} comparisons allow no p below {p_values.bound(p)}"


def _parts(arms: Mapping[str, Any], arm: str, metric: str, reference: str, of: str) -> list[str]:
    own = {key.partition("/")[2]: x for key, x in arms[arm].items() if key.startswith(f"{metric}/")}
    own = {name: x for name, x in own.items() if "/" not in name and x["value"] is not None}
    if len(own) < 2:
        return []
    apart: dict[str, list[str]] = {word: [] for word in ("above", "below", "")}
    for name, x in sorted(own.items(), key=lambda item: -item[1]["value"]):
        other = arms.get(reference, {}).get(f"{metric}/{name}")
        known = other is not None and None not in (x["ci"], other["ci"])
        above, below = (known and x["ci"][0] > other["ci"][1]), (known and x["ci"][1] < other["ci"][0])
        list(apart.values())[0 if above else 1 if below else 2].append(f"{name} {x['value']:.2f}")
    rest = apart.pop("")
    parts = [f"{word} {reference} by intervals alone for {', '.join(names)}" for word, names in apart.items() if names]
    if rest:
        parts.append(
            f"not shown for {', '.join(rest)}"
            if parts
            else f"{', '.join(rest)}, no {of} with an interval apart from that of {reference}"
        )
    return [f"By {of}: {'; '.join(parts)}."]


def _damage(arms: Mapping[str, Any], arm: str) -> list[str]:
    told, broken = [], []
    for key in DAMAGE:
        x, metric = arms[arm].get(key), metric_of(key)
        if x is None or x["value"] is None:
            continue
        before = (arms.get("none", {}).get(key) or {}).get("value") or 0.0
        told.append(f"{_name(key)} {x['value']:.2f}" + (f" (unedited {before:.2f})" if metric.over_unedited else ""))
        if metric.bound is not None and x["value"] - before * metric.over_unedited > metric.bound:
            broken.append(f"{_name(key)} is over the bound of {metric.bound:g}")
    if not told:
        return []
    return [
        f"Damage: {', '.join(told)}" + (f": {' and '.join(broken)}, too much to call it a result." if broken else ".")
    ]


def _unmeasured(arms: Mapping[str, Any]) -> list[str]:
    seen = {key.partition("/")[0] for metrics in arms.values() for key, x in metrics.items() if x["value"] is not None}
    lacking = [_name(key) for key in OUTCOMES if key not in seen]
    return [f"Not measured here: {', '.join(lacking)}."] if lacking else []
