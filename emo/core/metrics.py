"""The one table of metrics: what a number is, in which unit, which end of it is better, and where it is shown.

A metric of a user's own (`emo.measure.reply_metrics`) joins it by `declare`, when it is loaded and when a result that
holds it is read: figures and tables of finished runs need its name, not its module.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

from emo.core.metric_keys import metric_parts

Better = Literal["higher", "lower"]


class Metric(NamedTuple):
    """What is known of a metric.

    Attributes:
        key: as it stands in result.json, without ``/emotion``.
        label: of an axis, with its unit in brackets.
        better: which end of it; None: neither is.
        neutral: the value that means no effect; None: there is none.
        bound: the largest value of a setting that may be called the best.
        headline: whether it is a column of the main table, where it was measured.
        over_unedited: the bound is on what it has beyond arm none.
    """

    key: str
    label: str
    better: Better | None = None
    neutral: float | None = None
    bound: float | None = None
    headline: bool = True
    over_unedited: bool = False


METRICS = (  # those of the main table in its order
    Metric("accuracy", "accuracy (share right)", "higher"),
    Metric("clean_accuracy", "clean accuracy (share of replies)", "higher"),
    Metric("match", "match (share of replies)", "higher"),
    Metric("joint", "joint score (expresses, coherent, on topic; 0 to 2)", "higher", 0.0),
    Metric("logprob_margin", "log-prob. margin (nats; replies: per token)", "higher", 0.0),
    Metric("delta_s_rel", "delta-s (share of the prompt's gap)", "higher", 0.0),
    Metric("delta_s_last", "delta-s, last block unedited (activation units)", "higher", 0.0),
    Metric("dose", "dose"),
    Metric("ppl_ratio", "perplexity ratio (to arm none)", "lower", 1.0, bound=3.0),
    Metric("degenerate", "degenerate (share of replies)", "lower", 0.0, bound=0.2, over_unedited=True),
    Metric("off_accuracy", "accuracy on the other classes (share of texts)", "higher"),
    Metric("off_margin", "log-prob. margin on the other classes (nats)", "higher", 0.0),
    Metric("induced", "called the edited class (share of the other texts)"),
    Metric("reply_induced", "replies called the edited class (share of those to the other texts)"),
    Metric("forced_accuracy", "forced accuracy (share of replies)", "higher"),
    Metric("kl", "KL from unedited (nats per token)", "lower", 0.0),
    Metric("cosine", "reply-scenario similarity (cosine)"),
    Metric("length", "reply length (words)"),
    Metric("delta_s", "delta-s (projection, activation units)", "higher", 0.0, headline=False),
    Metric("unsure", "unsure: chance of the label below 0.5 (share of replies)", headline=False),
    Metric("refusal", "refusals (share of replies)", "lower", 0.0, headline=False),
    Metric("ppl_ratio_prompt", "ppl_ratio_prompt", "lower", headline=False),
    Metric("ppl_ratio_p95", "ppl_ratio_p95", "lower", headline=False),
)
BEFORE = "dose"  # metrics of a user's own stand in front of it: behind the outcomes, before the damage
BOUNDS = {
    metric.key: metric.bound for metric in sorted(METRICS, key=lambda metric: metric.key) if metric.bound is not None
}
_TABLE = {metric.key: metric for metric in METRICS}
_own: dict[str, Metric] = {}


def declare(metrics: Iterable[Metric]) -> None:
    """Add metrics of a user's own; one that is there is replaced."""
    _own.update({metric.key: metric for metric in metrics})


def own_metrics() -> list[str]:
    """Return the keys of the metrics that were declared."""
    return list(_own)


def metric_of(key: str) -> Metric:
    """Return what is known of the metric of a key, with its ``/emotion`` suffix; of an unknown one, its name."""
    base = metric_parts(key).metric
    return _TABLE.get(base) or _own.get(base) or Metric(base, base)


def headline(first: int | None = None) -> list[str]:
    """Return the keys of the main table, in its order; with ``first`` only so many of the package's own."""
    keys = [metric.key for metric in METRICS if metric.headline]
    at = keys.index(BEFORE)
    return [*keys[:at][:first], *_own, *keys[at:first]]
