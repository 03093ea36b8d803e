"""The section of a job's page with the logit lens of its directions (`emo.pipeline.lens`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from emo.report import elements as page

SHOWN = 10  # tokens of each end; lens.json has 20
WORDS, LEFT = 3, ' class="text"'
NOTE = (
    "Tokens that a direction raises and lowers most by itself: W_U (g * v), g the gain of the final norm, "
    "directions at resid_post of some blocks. Share: of the first {counted} tokens, those that are words of the "
    "emotion's own family (emo/data/texts/emotion_words.txt; of five letters on also the beginning of one); beside it "
    "the share of the same words in the other emotions' directions of the block, and in {draws} isotropic vectors. A "
    "direction of early blocks is read by the blocks behind it, so that its own tokens say little there."
)


def described(rows: Sequence[Mapping[str, Any]], meta: Mapping[str, Any]) -> dict[str, Any]:
    """Return what lens.json holds."""
    return {**meta, "rows": list(rows)}


def section(made: Mapping[str, Any] | None, emotions: Sequence[str]) -> str:
    """Return the tokens as a table, an emotion's blocks below one another; nothing where nothing was read."""
    if not made or not made["rows"]:
        return ""
    head = ["emotion, block", "raised most", "lowered most", f"own words in {made['counted']}", "others' directions",
            "isotropic"]  # fmt: skip
    body = []
    for name in emotions:
        for row in (row for row in made["rows"] if row["emotion"] == name):
            shares = (row["share"], row["others"], made["random"].get(name))
            told = ["no list of words" if x is None else f"{x:.1%}" if 0 < x < 0.01 else f"{x:.0%}" for x in shares]
            ends = (" · ".join(row[end][:SHOWN]) for end in ("top", "bottom"))
            body.append([f"{name}, {row['block']}", *ends, *told])
    note = page.items([NOTE.format(counted=made["counted"], draws=made["draws"])])
    return page.section("What the directions say by themselves", note + _table(head, body))


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table whose first three columns are words."""
    top = "".join(f"<th{LEFT if i < WORDS else ''}>{page.text(x)}</th>" for i, x in enumerate(head))
    body = "".join(
        "<tr>" + "".join(f"<td{LEFT if i < WORDS else ''}>{page.text(x)}</td>" for i, x in enumerate(row)) + "</tr>\n"
        for row in rows
    )
    return (
        f'<div class="wide"><table class="numbers"><thead><tr>{top}</tr></thead><tbody>\n{body}</tbody></table></div>'
    )
