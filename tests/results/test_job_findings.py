"""The sentences of a job are as strong as its intervals, and no stronger."""

from __future__ import annotations

from typing import Any

from emo.results.evidence import Evidence
from emo.results.job_findings import job_findings
from emo.results.result_file import comparison_line, shown_p


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
    assert said[2] == "By emotion: above none by intervals alone for happiness 0.90; not shown for fear 0.04."
    assert said[3] == "Damage: ppl ratio 2.00, degenerate 0.10 (unedited 0.10)."
    assert said[4] == "Not measured here: logprob margin, delta s last, kl."


def test_not_more_than_its_control() -> None:
    """A control that does as well is said before anything else is claimed."""
    said = job_findings(made(0.27, 0.26, 0.2))
    assert said[1] == (
        "It is perhaps more than none (+0.25, p = 0.200), by the interval alone; "
        "not shown to differ from prompt, random."
    )


def test_an_interval_without_its_p_finds_nothing_where_a_small_p_can_be_had() -> None:
    """Twelve scenarios can give a small p; one of 0.75 beside an interval that leaves 0 out is at most a perhaps."""
    result = made(0.6, 0.1, 0.01, scenarios=12)
    result["comparisons"][2] |= {"value": -0.05, "ci": [-0.13, -0.001], "p_holm": 0.75}
    said = job_findings(result)[1]
    assert said == (
        "It is more than none (+0.58), prompt (+0.35); "
        "perhaps less than random (-0.05, p = 0.750), by the interval alone."
    )
    for row in result["comparisons"]:
        row["p_holm"] = 0.2
    unsure = "perhaps more than none (+0.58, p = 0.200), prompt (+0.35, p = 0.200), by intervals alone"
    assert unsure in job_findings(result)[1]


def test_intervals_decide_where_no_p_can_be_small_and_it_is_said() -> None:
    """The bound is written as the notes of the same page write it."""
    result = made(0.6, 0.1, 0.75, scenarios=6) | {"smallest_p": 0.125}
    assert job_findings(result)[1] == (
        "It is more than none (+0.58), prompt (+0.35), random (+0.50) "
        "(by intervals: 6 scenarios and 3 comparisons allow no p below 0.125)."
    )
    assert "cannot give p below 0.125 after Holm" in " ".join(Evidence("scenarios", 6, 6).lines(0.125, 2000))


def test_less_is_less() -> None:
    assert "less than prompt (-0.15), random (-0.30)" in job_findings(made(0.1, 0.4, 0.01))[1]


def test_too_few_scenarios() -> None:
    """No interval, no p: only numbers."""
    said = job_findings(made(0.6, 0.1, 0.01, half=None, scenarios=3))
    assert said[1].endswith("cannot be said: 3 scenarios are too few for an interval or a p (5 are needed).")
    assert said[2].endswith("no emotion with an interval apart from that of none.")


def test_broken_replies() -> None:
    said = job_findings(made(0.6, 0.1, 0.01, ppl_ratio=3.5, degenerate=0.5))
    assert "ppl ratio is over the bound of 3 and degenerate is over the bound of 0.2, too much" in said[3]


def test_a_job_without_a_target_says_nothing() -> None:
    assert job_findings(made(0.6, 0.1, 0.01) | {"comparisons": []}) == []


def test_no_p_is_printed_where_none_can_be_small() -> None:
    row = {"arm": "steer", "against": "none", "metric": "accuracy", "value": 0.2, "ci": [0.1, 0.3], "p_holm": 0.5}
    assert comparison_line(row, 0.01).endswith("0.20 [0.10, 0.30], p = 0.500 (sign flips, Holm)")
    assert comparison_line(row, 0.25).endswith("0.20 [0.10, 0.30], too few scenarios or groups for a p")


def test_figures_show_no_p_where_none_can_be_small() -> None:
    """As the line of the comparison does; with a p that may be small they show it."""
    row = {"arm": "steer", "against": "none", "metric": "accuracy", "value": 0.2, "ci": [0.1, 0.3], "p_holm": 1.0}
    assert [one["p_holm"] for one in shown_p([row, row], 0.25)] == [None, None] and row["p_holm"] == 1.0
    assert shown_p([row], 0.01) == shown_p([row], None) == [row]


def test_controls_that_are_not_named_are_counted() -> None:
    result = made(0.27, 0.26, 0.2)
    row = result["comparisons"][2]
    result["comparisons"] += [row | {"against": f"other{i}"} for i in range(6)]
    assert job_findings(result)[1].endswith("differ from prompt, random, other0, other1, other2, other3 and 2 more.")


def test_a_job_on_classes_tells_one_outcome_and_no_damage() -> None:
    """Where accuracy is a guess, the margin; the other outcome's rows are no further controls."""
    arms = {arm: {"accuracy": x(0.5), "logprob_margin": x(value)} for arm, value in (("none", 0.4), ("mask", 0.1))}
    for arm, metrics in arms.items():
        metrics |= {
            f"logprob_margin/{name}": x(0.4 if arm == "none" else own) for name, own in (("a", 0.1), ("b", 0.4))
        }
    row = {"arm": "mask", "against": "none", "p_holm": 0.01}
    tests = [row | {"metric": "accuracy", **x(0.0)}, row | {"metric": "logprob_margin", **x(-0.3)}]
    clusters = {"what": "groups", "given": 8, "distinct": 8}
    result = {"arms": arms, "comparisons": tests, "smallest_p": 0.02, "clusters": clusters}
    assert job_findings(result, "class", "logprob_margin") == [
        "mask: logprob margin 0.10 [0.05, 0.15]; none 0.40 [0.35, 0.45].",
        "It is less than none (-0.30).",
        "By class: below none by intervals alone for a 0.10; not shown for b 0.40.",
    ]
    assert job_findings(result, "class")[1] == "It is not shown to differ from none."


def test_arms_that_are_not_told_are_named() -> None:
    result = made(0.6, 0.1, 0.01)
    for arm in ("steer@2", "steer@3"):
        result["arms"][arm] = result["arms"]["steer"]
        result["comparisons"].append(result["comparisons"][0] | {"arm": arm})
    assert "The table has steer@3 too: only the first 2 edited arms are told here." in job_findings(result)
