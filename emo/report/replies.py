"""The replies of a job on its page: what the reply browser reads, and the prompts shown where scripts do not run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from emo.core.types import NEUTRAL
from emo.report import elements as page
from emo.report.scripts import data_block

LIMIT = 2_500_000  # bytes of replies that a page holds; beyond, whole prompts are left out
SAMPLES = "samples.jsonl"

Rows = Sequence[Mapping[str, Any]]


class Replies(NamedTuple):
    """All replies of a job.

    Attributes:
        rows: of samples.jsonl: ``arm, sample, emotion`` (None: unedited), ``seed, reply, degenerate, label`` (may be
            absent or None), ``valence, scenario, event``.
        first: the arm that the browser shows first.
        beside: the arm beside it, if there is one.
    """

    rows: Rows
    first: str
    beside: str | None


def replies_section(replies: Replies, fallback: str, limit: int = LIMIT) -> str:
    """Return the reply browser; nothing where there are no replies.

    Args:
        replies: what it shows.
        fallback: HTML that stands in its place until its script runs.
        limit: bytes.
    """
    rows, first, beside = replies
    if not rows:
        return ""
    block = ""
    kept = rows
    share = 1.0
    while True:
        block = data_block("replies-data", _columns(kept, len(rows) - len(kept), first, beside))
        size = len(block.encode("utf-8", errors="replace"))
        if size <= limit or len(kept) == 0:
            break
        share *= 0.95 * limit / size
        kept = _spread(rows, share)
    told = f"{len(rows):,} replies"
    if len(kept) < len(rows):
        told += f", {len(kept):,} of them on this page (prompts spread evenly over the set); all are in {SAMPLES}"
    note = f'<p class="small">{page.text(told)}. Words that the arm beside it does not have are marked.</p>'
    return page.section("Replies", f'{note}<div id="replies">{fallback}</div>{block}')


def _spread(rows: Rows, share: float) -> Rows:
    """Return the replies to a share of the prompts, spread evenly over the set."""
    samples = list(dict.fromkeys(row["sample"] for row in rows))
    count = min(len(samples) - 1, int(share * len(samples)))
    kept = {samples[i * len(samples) // count] for i in range(count)} if count > 0 else set()
    return [row for row in rows if row["sample"] in kept]


def _columns(rows: Rows, left_out: int, first: str, beside: str | None) -> dict[str, Any]:
    """Return the replies as columns: names and prompts once, and places in their lists."""
    arms = list(dict.fromkeys(row["arm"] for row in rows))
    emotions = list(dict.fromkeys(row["emotion"] for row in rows if row["emotion"] is not None))
    given = [row.get("label") for row in rows]
    labels = sorted({label for label in given if label is not None}, key=lambda name: (name == NEUTRAL, name))
    valences = list(dict.fromkeys(row["valence"] for row in rows))
    scenes: dict[str, list[Any]] = {}
    for row in rows:
        scenes.setdefault(row["sample"], [row["sample"], valences.index(row["valence"]), row["scenario"], row["event"]])
    place = {sample: i for i, sample in enumerate(scenes)}
    at = {name: {key: i for i, key in enumerate(keys)} for name, keys in (("e", emotions), ("l", labels), ("a", arms))}
    replies = {
        "arm": [at["a"][row["arm"]] for row in rows],
        "scene": [place[row["sample"]] for row in rows],
        "emotion": [at["e"].get(row["emotion"], -1) for row in rows],
        "seed": [row["seed"] for row in rows],
        "label": [at["l"].get(label, -1) for label in given],
        "degenerate": [int(bool(row["degenerate"])) for row in rows],
        "text": [row["reply"] for row in rows],
    }
    return {
        "arms": arms, "emotions": emotions, "labels": labels, "valences": valences, "scenes": list(scenes.values()),
        "replies": replies, "left_out": left_out, "first": at["a"].get(first, 0), "beside": at["a"].get(beside, -1),
    }  # fmt: skip
