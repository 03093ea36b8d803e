"""The section of a job's page with the strengths at equal divergence (`emo.results.equal_divergence`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from emo.report import elements as page
from emo.results.equal_divergence import NOTE


def section(found: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the found strengths and every evaluation as a table; nothing where none was asked for."""
    if not found:
        return ""
    head = ["arm", "emotions", "strength", "KL there (nats)", "asked for", "reached", "tried: strength (KL)"]
    rows = []
    for kind, one in found.items():
        for name, size in one["strength"].items():
            own = [row for row in one["evaluations"] if row["emotion"] in (None, name)]
            tried = ", ".join(f"{row['strength']:g} ({_nats(row['divergence'])})" for row in own)
            reached = "yes" if one["reached"][name] else "no"
            kl = one["divergence"][name]
            rows.append([kind, name, f"{size:g}", _nats(kl), f"{one['target']:g}", reached, tried])
    return page.section("Strengths at equal divergence", page.items([NOTE]) + page.table(head, rows))


def _nats(kl: float | None) -> str:
    return "no number" if kl is None else f"{kl:.3g}"
