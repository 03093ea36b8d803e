"""Choosing a strength: bounds relative to unedited replies, a grid that brackets them, no winner where none may be."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest

from emo.config.schema import SelectConfig
from emo.core.stats import Estimate
from emo.data.scenarios import Sample
from emo.edit.base import Arm, decoding_of
from emo.measure.strength_tuning import Choice, choose
from emo.results.terms import at_equal_damage, terms, terms_line, verdict

pytestmark = pytest.mark.usefixtures("quiet")
SAMPLES = [Sample(f"s{i}/neutral", f"s{i}", "work", "neutral", "A scene.", "An event.") for i in range(10)]
UNEDITED = 0.1  # share of the unedited replies that loop


class Replies:
    """A split whose replies break more the stronger the edit: looping from ``loops`` on, less likely as it grows."""

    samples, names = SAMPLES, ["anger"]

    def __init__(self, loops: float, unedited: float = UNEDITED) -> None:
        self.loops, self.unedited, self.decodings = loops, unedited, set[str]()

    def reply(self, arms: Sequence[Arm]) -> dict[str, list[dict[str, Any]]]:
        self.decodings |= {arm.decoding for arm in arms}
        return {
            arm.name: [{"sample": s.id, "emotion": "anger", "reply": "Oh.", "arm": arm} for s in SAMPLES]
            for arm in arms
        }

    def damage(self, arms: Sequence[Arm], replies: Any, greedy: None, language: str) -> dict[str, list[dict[str, Any]]]:
        assert replies.keys() == {arm.name for arm in arms} and greedy is None and language == "English"
        return {arm.name: [self._one(arm, i) for i in range(len(SAMPLES))] for arm in arms}

    def _one(self, arm: Arm, i: int) -> dict[str, Any]:
        size = abs(float(arm.alpha))  # type: ignore[arg-type]
        broken = self.unedited if size < self.loops else self.unedited + 0.5
        return {"nll": 1.0 + 0.1 * size, "degenerate": i >= (1 - broken) * len(SAMPLES) - 1e-9}


def label(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Stronger edits express more: one reply in ten per unit."""
    return [
        row | {"label": "anger" if i < abs(row["arm"].alpha) else "neutral", "forced": None}
        for i, row in enumerate(rows)
    ]


def chosen(replies: Replies, grid: Sequence[float], decoding: str = "plain", **bounds: Any) -> Choice:
    select = SelectConfig(alpha=list(grid), layers=["all"], scale=[1.0], **bounds)

    def make(layers: str, alpha: float) -> Arm:
        return Arm(f"{layers}/{alpha:g}", "steer", alpha, (0, 1), decoding=decoding)

    return choose(replies, {"all": list(grid)}, make, select, 0, 50, label)  # type: ignore[arg-type]


def alphas(choice: Choice) -> list[float]:
    return [row["alpha"] for row in choice.tried]


def test_bounds_are_relative_to_the_unedited_replies() -> None:
    """Replies of a model that loops in a third of its own may loop in as many of the edited ones."""
    choice = chosen(Replies(loops=99, unedited=0.3), [1, 2], extend=0)
    assert choice.feasible and choice.alpha == 2 and choice.unedited == pytest.approx(0.3)
    tight = chosen(Replies(loops=2), [1, 2], extend=0)
    assert tight.alpha == 1 and [row["feasible"] for row in tight.tried] == [True, False]
    assert [row["degenerate"] for row in tight.tried] == pytest.approx([UNEDITED, UNEDITED + 0.5])


def test_a_grid_that_all_keeps_the_bounds_is_extended_upwards() -> None:
    """By the ratio of its last two, until one breaks."""
    choice = chosen(Replies(loops=6), [1, 2], extend=3)
    assert alphas(choice) == [1, 2, 4, 8] and choice.alpha == 4
    assert alphas(chosen(Replies(loops=6), [-1, -2], extend=3)) == [-8, -4, -2, -1]
    assert alphas(chosen(Replies(loops=99), [3], extend=2)) == [3, 3.6, 4.32]
    assert alphas(chosen(Replies(loops=99), [1, 2], extend=1)) == [1, 2, 4]
    assert alphas(chosen(Replies(loops=2), [1, 2], extend=3)) == [1, 2]  # bracketed as it is
    assert alphas(chosen(Replies(loops=99), [0.0, 1], extend=3)) == [0, 1]


def test_a_grid_that_all_breaks_the_bounds_is_extended_downwards() -> None:
    choice = chosen(Replies(loops=1.5), [4, 8], extend=3)
    assert alphas(choice) == [1, 2, 4, 8] and choice.feasible and choice.alpha == 1


def test_where_nothing_is_feasible_none_is_recommended() -> None:
    """The first sentence of the page; the least damaging one is measured all the same."""
    choice = chosen(Replies(loops=0.001), [4, 8], extend=1)
    assert not choice.feasible and choice.alpha == 2
    select = SelectConfig(alpha=[4.0], layers=["all"], scale=[1.0])
    [line] = verdict({"alpha": choice, "scale": None}, select)
    assert line.startswith("No alpha tried on dev (2 to 8) keeps the damage bounds (degenerate <= 10% of unedited")
    assert line.endswith("no setting is recommended.")
    assert verdict({"alpha": chosen(Replies(loops=99), [1, 2], extend=0)}, select) == []


def test_unedited_dev_replies_are_decoded_as_the_candidates_are() -> None:
    replies = Replies(loops=99)
    chosen(replies, [1, 2], decoding="circuit", extend=0)
    assert replies.decodings == {"circuit"}


def test_a_choice_survives_the_store() -> None:
    choice = chosen(Replies(loops=6), [1, 2], extend=2)
    assert Choice.from_artifact(choice.to_artifact()) == choice


@pytest.mark.parametrize(
    ("how", "expected"),
    [("same", ["plain"] * 3), ("no_repeat", ["circuit"] * 3), ("paper", ["plain", "steering", "circuit"])],
)
def test_one_decoding_for_all_arms(how: str, expected: list[str]) -> None:
    """Also of unedited and prompted arms; but for the released code's reading."""
    assert [decoding_of(how, edit) for edit in (None, "steering", "circuit")] == expected


def arm(**metrics: float) -> dict[str, Estimate]:
    return {name: Estimate(value, None, None, 10) for name, value in metrics.items()}


def test_comparisons_say_on_what_terms() -> None:
    """A dose of a third, another damage: said; unedited arms have no dose to compare."""
    arms = {
        "none": arm(ppl_ratio=1.0, degenerate=0.1),
        "circuit": arm(dose=0.014, ppl_ratio=1.25, degenerate=0.12),
        "steer": arm(dose=0.045, ppl_ratio=2.1, degenerate=0.15),
        "random": arm(dose=0.0145, ppl_ratio=1.2, degenerate=0.1),
    }
    found = terms(arms, "circuit", "steer")
    assert found is not None and found["unequal"] == ["dose", "ppl_ratio"]
    assert terms_line({"terms": found}) == "; NOT on equal terms: dose 0.014 against 0.045, ppl_ratio 1.25 against 2.1"
    assert terms_line({"terms": terms(arms, "circuit", "random")}) == "; at equal dose and ppl_ratio and degenerate"
    assert terms(arms, "circuit", "none") is None and terms_line({"terms": None}) == ""
    assert terms({"a": {}, "b": {}}, "a", "b") is None


def test_scores_at_equal_damage_are_read_off_between_what_was_tried() -> None:
    """0.1 nats a unit: at the damage of 3 units of one method, the other is read between 2 and 4."""
    one, other = chosen(Replies(loops=99), [2, 4, 8], extend=0), chosen(Replies(loops=99), [1, 3], extend=0)
    found = at_equal_damage(one, other)
    assert found is not None
    at, first, second = found
    assert at == pytest.approx(math.exp(0.3)) and second == pytest.approx(0.3)
    left, right = math.exp(0.2), math.exp(0.4)
    assert first == pytest.approx(0.2 + (0.4 - 0.2) * (at - left) / (right - left))
    assert at_equal_damage(one, chosen(Replies(loops=99), [0.5, 0.6], extend=0)) is None
