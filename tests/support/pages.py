"""Pages for tests: numbers of a small job, a sweep, and replies, with texts that would break out of a page."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from emo.core.metric_keys import metric_key
from emo.core.stats import Estimate
from emo.report.charts.spec import Chart
from emo.report.html import write_report
from emo.report.replies import Replies

EVIL = "</script><script>alert('x')</script>\u2028\"&<!-- https://example.org"
NAMES = ["anger", "sadness", "fear"]
ARMS = ["none", "prompt", *(f"{kind}@alpha={alpha:g}" for kind in ("steer", "random") for alpha in (0.5, 1, 4))]
SETTINGS = {arm: {"alpha": float(arm.rpartition("=")[2])} for arm in ARMS if "@" in arm}
METRICS = ("accuracy", "clean_accuracy", "logprob_margin", "ppl_ratio", "degenerate")
WORDS = [
    "the",
    "train",
    "was",
    "late",
    "and",
    "I",
    "waited",
    "at",
    "the",
    "station",
    "with",
    "a",
    "cold",
    "coffee",
    "in",
    "my",
    "hand",
    "while",
    "nobody",
    "said",
    "a",
    "word",
]


def _estimate(i: int, metric: str) -> Estimate:
    value = 0.1 + 0.07 * i + (1.0 if metric == "ppl_ratio" else 0.0)
    return Estimate(value, value - 0.05, value + 0.08, 48) if i % 5 else Estimate(value, None, None, 3)


FOUND = {
    arm: {
        metric_key(metric, *part): _estimate(i + len(part), metric)
        for metric in METRICS
        for part in [(), *((name,) for name in NAMES)]
    }
    for i, arm in enumerate(ARMS)
}
TESTS = [
    {"arm": arm, "against": "none", "metric": "clean_accuracy", "value": 0.1 * i - 0.2, "n": 48,
     "ci": None if i == 0 else [0.1 * i - 0.3, 0.1 * i - 0.1], "p": None, "p_holm": None if i == 0 else 0.04}
    for i, arm in enumerate(ARMS[2:5])
]  # fmt: skip


def sweep_frame(axes: dict[str, list[Any]]) -> pd.DataFrame:
    """Return the results of a full grid; its first columns are the axes."""
    rows = []
    for j, values in enumerate(itertools.product(*axes.values())):
        for i, (arm, metric) in enumerate(itertools.product(("none", "prompt", "steer", "random"), METRICS)):
            for part in [(), *((name,) for name in NAMES)]:
                x = _estimate(i + j, metric)
                rows.append(
                    {**dict(zip(axes, values, strict=True)), "job": f"{j:016x}", "arm": arm,
                     "metric": metric_key(metric, *part), "value": x.value, "ci_lo": x.lo, "ci_hi": x.hi, "n": x.n}
                )  # fmt: skip
    return pd.DataFrame(rows)


def replies(prompts: int, words: int = 30) -> list[dict[str, Any]]:
    """Return rows of samples.jsonl: arms none (of no emotion), steer, and two draws of random; some are broken."""
    rows = []
    for i in range(prompts):
        sample = {
            "sample": f"work_t{i // 2:02d}/{'positive' if i % 2 else 'negative'}",
            "valence": "positive" if i % 2 else "negative", "scenario": f"Scenario {i}.", "event": f"Event {i}.",
        }  # fmt: skip
        for arm, seeds in (("none", 1), ("steer", 1), ("random", 2)):
            for emotion, seed in itertools.product([None] if arm == "none" else NAMES, range(seeds)):
                text = " ".join(WORDS[(i + k * (1 + len(arm) % 3)) % len(WORDS)] for k in range(words))
                label = NAMES[(i + seed) % 3] if arm != "none" else "neutral"
                rows.append(
                    {**sample, "arm": arm, "emotion": emotion, "seed": seed, "reply": f"{arm} {i} {text}",
                     "degenerate": i % 7 == 0 and arm != "none", "label": label}
                )  # fmt: skip
    return rows


def evil_page(folder: Path, charts: Sequence[Chart], rows: list[dict[str, Any]] | None = None) -> Path:
    """Write the page of a job in which every text is hostile, and return its path."""
    rows = replies(20) if rows is None else rows
    hostile = rows[0] | {"reply": EVIL, "label": EVIL, "scenario": EVIL}
    sample = {"scenario": EVIL, "event": EVIL, "valence": "negative", "emotion": EVIL, "replies": []}
    named = [chart._replace(title=EVIL, caption=EVIL) for chart in charts[:1]] + list(charts[1:])
    return write_report(
        folder, title=EVIL, command=EVIL, config_yaml=EVIL,
        summary_rows=[{"arm": arm, **{metric: own[metric] for metric in METRICS}} for arm, own in FOUND.items()],
        columns=["arm", *METRICS], notes=[EVIL], figures=[], samples=[sample], seconds=1.0, versions={"x": EVIL},
        facts={"model": EVIL}, charts=named, replies=Replies([hostile, *rows[1:]], "steer", "none"), found=[EVIL],
    )  # fmt: skip
