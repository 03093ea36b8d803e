"""The smallest budget of a circuit that does nearly what the full one does, read from a sweep over ``circuit.budget``.

Of each model, and each setting of the other swept keys, the largest budget that was measured is the full circuit; the
answer is the smallest K whose value is at least 90 % of its value. The value is the most direct outcome of arm circuit
that was measured: clean_accuracy, else logprob_margin, else delta_s_rel.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from emo.core.frames import pd
from emo.core.stats import Estimate
from emo.report import elements as page
from emo.report.sweep_table import number, short_names
from emo.results.arm_order import base_name
from emo.results.table import BUDGET

ARM = "circuit"
METRICS = ("clean_accuracy", "logprob_margin", "delta_s_rel")
SHARE = 0.9  # of the full circuit's value
NOTE = (
    f"The smallest budget whose value is at least {SHARE:.0%} of that of the largest one measured. It is read off test "
    "values, so it is too small on average where intervals are wide. Where the largest one has no positive effect "
    "there is none."
)


def smallest_budget(
    rows: pd.DataFrame | Iterable[Mapping[str, Any]], others: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """Return the smallest sufficient budget per model and setting of the other swept keys.

    Args:
        rows: one per job, arm and metric, as of `emo.load_results`: ``model``, ``circuit.budget`` (a number, K),
            ``arm`` (``circuit``, also as ``circuit@budget=...``), ``metric``, ``value``, ``ci_lo``, ``ci_hi``
            (in the metric's unit; nan: not measured), ``n``, the keys of ``others`` and, where known,
            ``parameters`` (of the model, a count).
        others: swept keys besides the model and the budget.

    Returns:
        One dictionary per model and setting with at least two measured budgets, in the order of the rows:
        ``model``, the keys of ``others``, ``parameters`` (int or None), ``metric``, ``full_budget`` and ``full``
        (the largest budget and its `Estimate`), ``budget`` and ``estimate`` (the smallest sufficient one and its;
        None where the full circuit's value is not positive).
    """
    frame = rows if isinstance(rows, pd.DataFrame) else pd.DataFrame(list(rows))
    groups: dict[tuple[str, ...], dict[str, dict[float, Estimate]]] = {}
    sizes: dict[str, int] = {}
    for row in frame.to_dict("records"):
        metric, k, x = row["metric"], number(str(row.get(BUDGET))), _estimate(row)
        if base_name(str(row["arm"])) != ARM or metric not in METRICS or k is None or x.value is None:
            continue
        model = str(row["model"])
        if number(str(row.get("parameters"))) is not None:
            sizes[model] = int(row["parameters"])
        group = groups.setdefault((model, *(str(row[key]) for key in others)), {})
        group.setdefault(metric, {}).setdefault(k, x)
    return [
        dict(zip(("model", *others), key, strict=True)) | {"parameters": sizes.get(key[0])} | _answer(metric, values)
        for key, measured in groups.items()
        for metric, values in [next((m, measured[m]) for m in METRICS if m in measured)]
        if len(values) > 1
    ]


def table(found: Sequence[Mapping[str, Any]], others: Sequence[str]) -> str:
    """Return what `smallest_budget` found as a section of a page; nothing where it found nothing."""
    if not found:
        return ""
    names = short_names(others)
    columns = ["model", *others, "parameters", "metric", "largest K", "its value", "smallest K", "its value"]
    head = "".join(f"<th>{page.text(names.get(column, column))}</th>" for column in columns)
    common, size = page.common_size(row[key] for row in found for key in ("full", "estimate"))
    body = ""
    for row in found:
        k = "none" if row["budget"] is None else f"{row['budget']:g}"
        count = None if row["parameters"] is None else f"{row['parameters']:,}"
        first = [row["model"], *(row[key] for key in others), count, row["metric"], f"{row['full_budget']:g}"]
        cells = [page.cell(value, common) for value in (*first, row["full"], k)]
        cells.append("" if row["budget"] is None else page.cell(row["estimate"], common))
        body += f"<tr><th>{cells[0]}</th>{''.join(f'<td>{cell}</td>' for cell in cells[1:])}</tr>\n"
    note = f'<p class="small">{page.text(NOTE)}</p>'
    return page.section("Smallest sufficient budget", page.numbers(head, body, size) + note)


def _answer(metric: str, values: Mapping[float, Estimate]) -> dict[str, Any]:
    largest = max(values)
    full = values[largest]
    enough = [k for k in values if _enough(values[k], full)]
    budget = min(enough) if enough else None
    estimate = None if budget is None else values[budget]
    return {"metric": metric, "full_budget": largest, "full": full, "budget": budget, "estimate": estimate}


def _enough(x: Estimate, full: Estimate) -> bool:
    if x.value is None or full.value is None:
        return False
    # A product of decimal fractions must not miss its own 90 %.
    return full.value > 0 and x.value >= SHARE * full.value - 1e-9


def _estimate(row: Mapping[Any, Any]) -> Estimate:
    value, lo, hi, n = (number(str(row.get(key))) for key in ("value", "ci_lo", "ci_hi", "n"))
    size = 0 if n is None else int(n)
    if value is None or lo is None or hi is None:
        return Estimate(value, None, None, size)
    return Estimate(value, lo, hi, size)
