"""Tables of results as a sweep leaves them."""

from __future__ import annotations

from typing import Any

import pandas as pd

AXES = ("model", "intervention.alpha", "intervention.layers")


def row(job: str, model: str, alpha: Any, arm: str, value: float, metric: str = "logprob_margin", **more: Any) -> Any:
    """Return one row of a results table, with an interval of width 0.2 around its value."""
    place = {"job": job, "model": model, "intervention.alpha": alpha, "intervention.layers": "1-2", "arm": arm}
    return place | {"metric": metric, "value": value, "ci_lo": value - 0.1, "ci_hi": value + 0.1, "n": 6} | more


def table(*rows: dict[str, Any]) -> pd.DataFrame:
    """Return a results table; numbers and text may share a column."""
    return pd.DataFrame(list(rows)).astype({"intervention.alpha": object})


def configs(frame: pd.DataFrame) -> dict[str, Any]:
    """Return a configuration of every job, as typed: a list of strengths where there were several."""
    return {
        job: {
            "model": {"name": part["model"].iloc[0], "family": part["model"].iloc[0].partition("_")[0]},
            "intervention": {"kind": "steer", "alpha": [0.5, 1.0], "layers": "1-2"},
        }
        for job, part in frame.groupby("job")
    }


def sweep() -> pd.DataFrame:
    """Return llama with one job per strength and qwen with a list in one job; strengths not in order."""
    rows = []
    for job, alpha in (("b", 1.0), ("a", 0.5), ("c", 2.0)):
        rows += [row(job, "llama_1b", alpha, "none", 0.1), row(job, "llama_1b", alpha, "steer", alpha)]
    rows += [row("d", "qwen_1b", "[0.5, 1.0]", "none", 0.2)]
    rows += [row("d", "qwen_1b", alpha, f"steer@alpha={alpha}", 3 * alpha) for alpha in (1.0, 0.5)]
    rows += [row("d", "qwen_1b", 0.5, "steer@alpha=0.5", 9.0, metric="logprob_margin/anger")]
    return table(*rows)
