"""Curves are cut from a results table: which lines there are, what each holds, what they are called."""

from __future__ import annotations

from typing import Any

import pandas as pd

from emo.curves import curves

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


def test_one_curve_per_model_over_the_number() -> None:
    frame = sweep()
    llama, qwen = curves(frame, AXES, configs(frame))
    assert (llama.step, llama.name, qwen.name) == (
        "alpha", "alpha: llama_1b, layers=1-2", "alpha: qwen_1b, layers=1-2",
    )  # fmt: skip
    assert [(r["alpha"], r["curve/steer/logprob_margin"]) for r in llama.history] == [(0.5, 0.5), (1, 1), (2, 2)]
    assert qwen.history == [
        {
            "alpha": x,
            "curve/none/logprob_margin": 0.2,
            "curve/none/logprob_margin/lo": 0.2 - 0.1,
            "curve/none/logprob_margin/hi": 0.2 + 0.1,
            "curve/steer/logprob_margin": 3 * x,
            "curve/steer/logprob_margin/lo": 3 * x - 0.1,
            "curve/steer/logprob_margin/hi": 3 * x + 0.1,
        }
        for x in (0.5, 1.0)
    ]
    assert qwen.config == {
        "model": {"name": "qwen_1b", "family": "qwen"},
        "intervention": {"kind": "steer", "alpha": None, "layers": "1-2"},
        "axis": "intervention.alpha",
    }


def test_every_number_is_drawn_over_with_the_others_fixed() -> None:
    """Two swept numbers: a curve over each, per value of the other; arms of no number are in each of them."""
    rows = []
    for decay in (0.5, 1.0):
        job = f"job{decay}"
        rows += [row(job, "m", None, "none", 0.1, **{"intervention.decay": decay})]
        rows += [row(job, "m", a, f"steer@alpha={a}", a * decay, **{"intervention.decay": decay}) for a in (1, 2)]
    frame = table(*rows)
    made = curves(frame, ("intervention.alpha", "intervention.decay"), configs(frame))
    assert [curve.name for curve in made] == [
        "alpha: m, decay=0.5", "alpha: m, decay=1", "decay: m, alpha=1", "decay: m, alpha=2",
    ]  # fmt: skip
    assert [r["curve/steer/logprob_margin"] for r in made[3].history] == [1.0, 2.0]
    assert all(r["curve/none/logprob_margin"] == 0.1 for curve in made for r in curve.history)
    assert made[3].config["intervention"] == {"kind": "steer", "alpha": 2, "layers": "1-2", "decay": None}


def test_what_was_not_measured_is_left_out() -> None:
    frame = table(
        row("a", "m", 1, "steer", 1.0, ci_lo=None, ci_hi=float("nan")), row("b", "m", 2, "steer", float("nan"))
    )
    [curve] = curves(frame, ("intervention.alpha",), configs(frame))
    assert curve.history[0] == {"alpha": 1, "curve/steer/logprob_margin": 1.0}
    assert "curve/steer/logprob_margin" not in curve.history[1]


def test_text_seeds_and_single_numbers_give_no_curve() -> None:
    rows = [row(job, job, 1.0, "steer", 1.0, seed=seed) for job, seed in (("a", 0), ("b", 1))]
    frame = table(*rows)
    assert curves(frame, ("model", "seed", "intervention.alpha"), configs(frame)) == []


def test_a_strength_chosen_on_dev_stands_on_no_curve() -> None:
    """Text in the column of a number, in a job of its own, has no place on the axis."""
    rows = [row(str(a), "m", a, arm, 1.0) for a in (1, 2, "auto") for arm in ("none", "steer")]
    frame = table(*rows)
    [curve] = curves(frame, ("intervention.alpha",), configs(frame))
    assert [r["alpha"] for r in curve.history] == [1, 2]


def test_steps_rise_and_a_number_wins_over_a_flat_line() -> None:
    """A list of strengths beside a job of one: the one's own number stands, the list's fills the rest."""
    rows = [row("b", "m", None, "none", 0.1), row("b", "m", 128.0, "steer@alpha=128", 2.0)]
    rows += [row("b", "m", -3.0, "steer@alpha=-3", 3.0), row("a", "m", 7.0, "none", 0.7)]
    frame = table(*reversed(rows))
    [curve] = curves(frame, ("intervention.alpha",), configs(frame))
    assert [r["alpha"] for r in curve.history] == [-3, 7, 128]
    assert [r["curve/none/logprob_margin"] for r in curve.history] == [0.1, 0.7, 0.1]
