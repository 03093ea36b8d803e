"""Replies that a judge left without an answer: counted, said wherever their numbers stand, and asked for again.

A result with such replies is written and read like any other, but it does not count as done: the same line, typed
again, asks for what is missing and writes the result anew. Answers that arrived are kept one by one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from emo.config.schema import EvaluatorConfig


def count(evaluator: EvaluatorConfig, rows: Sequence[Mapping[str, Any]]) -> int:
    """Return how many label rows (`emo.measure.labels.label_all`) lack an answer to a question that was asked."""
    if evaluator.name != "openai_judge":
        return sum(row["label"] is None for row in rows)
    blind, told = "blind" in evaluator.questions, [kind for kind in evaluator.questions if kind != "blind"]
    return sum(
        (blind and row["label"] is None) or (row["emotion"] is not None and any(row[kind] is None for kind in told))
        for row in rows
    )


def total(result: Mapping[str, Any] | None) -> int:
    """Return the unjudged replies of all arms in the content of a result.json."""
    return sum(((result or {}).get("unjudged") or {}).values())


def line(found: Mapping[str, int], replies: Mapping[str, int]) -> str | None:
    """Return the remark on unjudged replies, or None where every one has its answers.

    Args:
        found: unjudged replies per arm.
        replies: all replies per arm.
    """
    some = ", ".join(f"{arm} {n} of {replies[arm]}" for arm, n in found.items() if n)
    return (
        f"unjudged replies: {some}; they are in no mean of the question without an answer, so accuracy and match of "
        "these arms are of the others only; the same line, typed again, asks for these alone"
        if some
        else None
    )


def line_of(result: Mapping[str, Any]) -> str | None:
    """Return `line` of the content of a result.json."""
    replies = {arm: sum(counts.values()) for arm, counts in (result.get("languages") or {}).items()}
    return line(result.get("unjudged") or {}, replies)
