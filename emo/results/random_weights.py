"""Which models of a sweep have random weights: what is found in their numbers means nothing, and is told as such."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def random_weights(results: Iterable[Mapping[str, Any] | None]) -> str:
    """Return what must be read before the findings of finished jobs; empty where all models have learned weights.

    Args:
        results: content of result.json; jobs that are not done are left out.
    """
    models = [result["config"]["model"] for result in results if result and result["status"] == "done"]
    names = list(dict.fromkeys(str(model["name"]) for model in models if model.get("source") == "tiny"))
    if not names:
        return ""
    told = f"{', '.join(names)}: random weights"
    if all(model.get("source") == "tiny" for model in models):
        return f"{told}, so the numbers of this sweep mean nothing, whatever is found in them below."
    which = "its numbers" if len(names) == 1 else "their numbers"
    return f"{told}, so {which}, and what is compared with them, mean nothing."
