"""The table of metrics: figures and tables that were drawn before it came out the same, written out here by hand."""

from __future__ import annotations

import pytest

from emo.core import metrics
from emo.core.metrics import BOUNDS, METRICS, Metric, declare, headline, metric_of, own_metrics
from emo.report.plots.theme import metric_label
from emo.report.sweep_table import bounds_text, order

MAIN = "accuracy clean_accuracy match joint logprob_margin delta_s_rel delta_s_last dose ppl_ratio degenerate "
MAIN += "off_accuracy off_margin induced reply_induced forced_accuracy kl cosine length"
LABELS = {
    "accuracy": ("accuracy (share right)", None),
    "clean_accuracy": ("clean accuracy (share of replies)", None),
    "forced_accuracy": ("forced accuracy (share of replies)", None),
    "match": ("match (share of replies)", None),
    "joint": ("joint score (expresses, coherent, on topic; 0 to 2)", 0.0),
    "delta_s": ("delta-s (projection, activation units)", 0.0),
    "delta_s_rel": ("delta-s (share of the prompt's gap)", 0.0),
    "delta_s_last": ("delta-s, last block unedited (activation units)", 0.0),
    "logprob_margin": ("log-prob. margin (nats; replies: per token)", 0.0),
    "ppl_ratio": ("perplexity ratio (to arm none)", 1.0),
    "degenerate": ("degenerate (share of replies)", 0.0),
    "unsure": ("unsure: chance of the label below 0.5 (share of replies)", None),
    "refusal": ("refusals (share of replies)", 0.0),
    "kl": ("KL from unedited (nats per token)", 0.0),
    "cosine": ("reply-scenario similarity (cosine)", None),
    "length": ("reply length (words)", None),
    "off_accuracy": ("accuracy on the other classes (share of texts)", None),
    "off_margin": ("log-prob. margin on the other classes (nats)", 0.0),
    "induced": ("called the edited class (share of the other texts)", None),
    "reply_induced": ("replies called the edited class (share of those to the other texts)", None),
    "dose": ("dose", None),
    "ppl_ratio_prompt": ("ppl_ratio_prompt", None),
    "ppl_ratio_p95": ("ppl_ratio_p95", None),
}


@pytest.fixture(autouse=True)
def _own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start without metrics of a user's own, whatever other tests declared."""
    monkeypatch.setattr(metrics, "_own", {})


def test_columns_labels_and_bounds_are_what_they_were() -> None:
    assert headline() == MAIN.split() and headline(9) == MAIN.split()[:9]
    assert order() == ["clean_accuracy", "accuracy", *MAIN.split()[2:]]
    assert {metric.key: metric_label(metric.key) for metric in METRICS} == LABELS
    assert list(BOUNDS.items()) == [("degenerate", 0.2), ("ppl_ratio", 3.0)]
    assert bounds_text() == "degenerate <= unedited + 0.2 and ppl_ratio <= 3"
    assert [m for m in order() if metric_of(m).better == "higher"][:7] == [
        *("clean_accuracy", "accuracy", "match", "joint", "logprob_margin", "delta_s_rel", "delta_s_last")
    ]
    assert not any(metric_of(m).better == "higher" for m in ("dose", *BOUNDS, "kl", "cosine", "length", "refusal"))
    assert metric_label("accuracy/anger/positive") == ("accuracy (share right)\nanger, positive", None)
    assert metric_of("unknown") == Metric("unknown", "unknown")


def test_one_of_a_users_own_stands_behind_the_outcomes() -> None:
    """Never first, so that the main metric of a sweep stays what it is; its label is where labels are asked for."""
    declare([Metric("marks", "marks (per reply)", "lower", 1.0)])
    assert own_metrics() == ["marks"]
    assert headline() == [*MAIN.split()[:7], "marks", *MAIN.split()[7:]] and headline(9)[-3:] == [
        *("marks", "dose", "ppl_ratio")
    ]
    assert metric_label("marks/anger") == ("marks (per reply)\nanger", 1.0)
    declare([Metric("marks", "question marks (per reply)")])
    assert metric_label("marks")[0] == "question marks (per reply)"
