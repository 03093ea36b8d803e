"""Curves are cut from a results table: which lines there are, what each holds, what they are called."""

from __future__ import annotations

from typing import Any

import pytest
from support.result_tables import AXES, configs, row, sweep, table

from emo.results.curves import curves
from emo.results.table import axes_of, to_table


def test_one_curve_per_model_over_the_number() -> None:
    frame = sweep()
    llama, qwen = curves(frame, AXES, configs(frame))
    assert (llama.step, llama.name, qwen.name) == (
        "alpha", "llama_1b steer over alpha layers=1-2", "qwen_1b steer over alpha layers=1-2",
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
        "m steer over alpha decay=0.5", "m steer over alpha decay=1", "m steer over decay alpha=1",
        "m steer over decay alpha=2",
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


def units(job: str, model: str, kind: str, ks: tuple[int, ...], scales: tuple[float, ...] = ()) -> dict[str, Any]:
    """Return a result.json of a job on units, with arms named as the command line names them."""
    given = {"kind": kind, "k": list(ks), "scale": list(scales) or 1.0, "pool": "per_layer"}
    arms = {"none": 0.0, "prompt": 9.0}
    for arm in (kind, "random"):
        for k in ks:
            for scale in scales or (1.0,):
                own = f"k={k}" + (f",scale={scale:g}" if scales else "")
                arms[f"{arm}@{own}"] = k * scale * (1 if arm == kind else 0.1)
    config = {"model": {"name": model}, "dataset": {"name": "sev"}, "intervention": given}
    measured = {arm: {"delta_s": {"value": x, "ci": [x - 1, x + 1], "n": 3}} for arm, x in arms.items()}
    return {"address": job * 16, "config": config, "arms": measured}


def cut(*results: dict[str, Any]) -> list[Any]:
    """Return the curves of such results, through the table of a sweep."""
    frame = to_table(results, axes_of([result["config"] for result in results]))
    return curves(frame, frame.attrs["axes"], {result["address"]: result["config"] for result in results})


def test_a_list_of_k_gives_one_curve_per_model() -> None:
    """Target and controls in each; arms without units are level."""
    made = cut(*(units(job, model, "ablate_neurons", (0, 8, 2)) for job, model in (("a", "llama"), ("b", "qwen"))))
    assert [(curve.name, curve.step) for curve in made] == [
        ("llama ablate_neurons over k", "k"), ("qwen ablate_neurons over k", "k"),
    ]  # fmt: skip
    for curve in made:
        assert [(r["k"], r["curve/ablate_neurons/delta_s"]) for r in curve.history] == [(0, 0), (2, 2), (8, 8)]
        assert [r["curve/random/delta_s/hi"] for r in curve.history] == pytest.approx([1, 1.2, 1.8])
        assert {r["curve/prompt/delta_s"] for r in curve.history} == {9.0}
        assert curve.config["intervention"]["k"] is None


def test_k_and_scale_in_one_job_are_fixed_in_turn() -> None:
    made = cut(units("a", "llama", "enhance_heads", (1, 4), (0.5, 2.0)))
    assert [curve.name for curve in made] == [
        "llama enhance_heads over k scale=0.5", "llama enhance_heads over k scale=2",
        "llama enhance_heads over scale k=1", "llama enhance_heads over scale k=4",
    ]  # fmt: skip
    assert [r["curve/enhance_heads/delta_s"] for curve in made for r in curve.history] == [0.5, 2, 2, 8, 0.5, 2, 2, 8]
    assert made[1].config["intervention"] == {"kind": "enhance_heads", "k": None, "scale": 2, "pool": "per_layer"}


def test_an_ablation_beside_enhancements_of_several_scales_has_a_curve_too() -> None:
    """Nothing in its job depends on the scale, which is typed for both."""
    ablated = units("a", "llama", "ablate_heads", (1, 4))
    ablated["config"]["intervention"]["scale"] = [0.5, 2.0]
    made = cut(ablated, units("b", "llama", "enhance_heads", (1, 4), (0.5, 2.0)))
    names = [curve.name for curve in made]
    assert names[:3] == [
        "llama ablate_heads over k",
        "llama enhance_heads over k scale=0.5",
        "llama enhance_heads over k scale=2",
    ]
    assert len(names) == 5 and len({curve.key for curve in made}) == 5
    assert [r["curve/ablate_heads/delta_s"] for r in made[0].history] == [1, 4]
    assert not any("enhance" in key for key in made[0].history[0])
