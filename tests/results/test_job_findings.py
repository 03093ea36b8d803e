"""The sentences of a job are as strong as its intervals, and no stronger."""

from __future__ import annotations

from typing import Any

from emo.results.job_findings import job_findings
from emo.results.result_file import comparison_line


def x(value: float, half: float | None = 0.05) -> dict[str, Any]:
    """Return a measured number with its interval."""
    return {"value": value, "ci": None if half is None else [value - half, value + half], "n": 36}


def made(
    steer: float, random: float, p: float, half: float | None = 0.05, scenarios: int = 8, **damage: float
) -> dict[str, Any]:
    """Return what result.json holds of a job."""
    values = {"none": 0.02, "prompt": 0.25, "random": random, "steer": steer}
    arms = {arm: {"clean_accuracy": x(value, half), "degenerate": x(0.1, half)} for arm, value in values.items()}
    arms["steer"] |= {key: x(value, half) for key, value in damage.items()}
    for emotion, own in (("happiness", 0.9), ("fear", 0.04)):
        arms["steer"][f"clean_accuracy/{emotion}"] = x(own, half)
        arms["none"][f"clean_accuracy/{emotion}"] = x(0.02, half)
    tests = [
        {"arm": "steer", "against": other, "metric": "clean_accuracy", **x(steer - values[other], half), "p_holm": p}
        for other in ("none", "prompt", "random")
    ]
    clusters = {"what": "scenarios", "given": scenarios, "distinct": scenarios}
    return {"arms": arms, "comparisons": tests, "smallest_p": 0.02, "clusters": clusters}


def test_more_where_intervals_say_so() -> None:
    said = job_findings(made(0.6, 0.1, 0.01, ppl_ratio=2.0))
    assert said[0] == "steer: clean accuracy 0.60 [0.55, 0.65]; none 0.02 [-0.03, 0.07], prompt 0.25 [0.20, 0.30]."
    assert said[1] == "It is more than none (+0.58), prompt (+0.35), random (+0.50)."
    assert said[2] == "By emotion: clearly above none for happiness 0.90; not shown for fear 0.04."
    assert said[3] == "Damage: ppl ratio 2.00, degenerate 0.10 (unedited 0.10)."
    assert said[4] == "Not measured here: logprob margin, delta s last, kl."


def test_not_more_than_its_control() -> None:
    """A control that does as well is said before anything else is claimed."""
    said = job_findings(made(0.27, 0.26, 0.2))
    assert said[1] == (
        "It is more than none (+0.25) (by intervals, no p after Holm is at most 0.05: 8 scenarios); "
        "not shown to differ from prompt, random."
    )


def test_less_is_less() -> None:
    assert "less than prompt (-0.15), random (-0.30)" in job_findings(made(0.1, 0.4, 0.01))[1]


def test_too_few_scenarios() -> None:
    """No interval, no p: only numbers."""
    said = job_findings(made(0.6, 0.1, 0.01, half=None, scenarios=3))
    assert said[1].endswith("cannot be said: 3 scenarios are too few for an interval or a p (5 are needed).")
    assert "clearly" not in said[2].replace("none clearly apart", "")


def test_broken_replies() -> None:
    said = job_findings(made(0.6, 0.1, 0.01, ppl_ratio=3.5, degenerate=0.5))
    assert "ppl ratio is over the bound of 3 and degenerate is over the bound of 0.2, too much" in said[3]


def test_a_job_without_a_target_says_nothing() -> None:
    assert job_findings(made(0.6, 0.1, 0.01) | {"comparisons": []}) == []


def test_no_p_is_printed_where_none_can_be_small() -> None:
    row = {"arm": "steer", "against": "none", "metric": "accuracy", "value": 0.2, "ci": [0.1, 0.3], "p_holm": 0.5}
    assert comparison_line(row, 0.01).endswith("0.20 [0.10, 0.30], p = 0.500 (sign flips, Holm)")
    assert comparison_line(row, 0.25).endswith("0.20 [0.10, 0.30], too few scenarios or groups for a p")
