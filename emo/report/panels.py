"""What a tracker's charts are called, so that those that matter come first without a click.

W&B makes a chart of every key of a history and a section of every prefix, and sorts both by name:

* ``a_headline/1_clean_accuracy_over_alpha``: at most `MOST` charts. The edit itself, whatever it is called: its
  outcomes (1-3), its damage (4, 5); then the first outcome of a control, of the prompted and of the unedited model
  (6-8). Lines of two models, or of two interventions, lie in the same chart, because they have the same key.
* ``arm01_none/accuracy_over_alpha``: every arm and metric, arms in the order of tables.

Names begin with a letter, or W&B cannot sort by them. Bounds of intervals (``KEY_lo``, ``KEY_hi``) are in the history
beside their value, for exports and saved charts, but get no chart of their own.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import NamedTuple

from emo.results.arm_order import ORDER, base_name, sort_arms

HEADLINE = "a_headline"
MOST = 8
OUTCOMES = ("clean_accuracy", "match", "logprob_margin", "accuracy", "delta_s_rel", "induced")
DAMAGE = ("ppl_ratio", "degenerate", "off_accuracy", "off_margin")
BOUNDS = ("_lo", "_hi")
UNTOUCHED = ("none", "prompt")  # arms without an edit
_FIRST = (1, 4, 6, 2, 5, 3, 7, 8)  # charts that are left where several swept numbers share the places


class Shown(NamedTuple):
    """One headline chart of a run."""

    name: str  # with its number, without section
    arm: str
    metric: str


def edited_arm(kind: str, arms: Iterable[str]) -> str | None:
    """Return the arm that a run is about: the one called like its intervention, else the first with an edit."""
    names = sort_arms(map(base_name, arms))
    if kind in names:
        return kind
    return next((name for name in names if name not in UNTOUCHED), None)


def headline(kind: str, measured: Collection[tuple[str, str]], share: int = MOST) -> list[Shown]:
    """Return the headline charts of a run, at most ``share``.

    Args:
        kind: of its intervention.
        measured: (arm without its strength, metric) of everything that it has a number of.
        share: charts that are left to it.
    """
    arms = sort_arms(arm for arm, _ in measured)
    own = edited_arm(kind, arms)
    if own is None:
        return []
    outcomes = [metric for metric in OUTCOMES if (own, metric) in measured][:3]
    damage = [metric for metric in DAMAGE if (own, metric) in measured][:2]
    places = {i: (metric, own, metric) for i, metric in enumerate(outcomes, start=1)}
    places |= {i: (metric, own, metric) for i, metric in enumerate(damage, start=4)}
    for lead in outcomes[:1]:
        beside = [arm for arm in arms if arm not in (own, *UNTOUCHED) and (arm, lead) in measured]
        control = next((arm for arm in beside if "random" in arm), next(iter(beside), ""))
        for i, what, arm in ((6, "control", control), (7, "prompt", "prompt"), (8, "none", "none")):
            if arm != own and (arm, lead) in measured:
                places[i] = (f"{lead}_of_{what}", arm, lead)
    kept = sorted([i for i in _FIRST if i in places][:share])
    return [Shown(f"{i}_{places[i][0]}", *places[i][1:]) for i in kept]


def headline_key(shown: Shown, step: str | None = None) -> str:
    """Return the key of a headline chart; ``step``: the swept number that it is drawn over."""
    return f"{HEADLINE}/{_over(shown.name, step)}"


def arm_key(arm: str, metric: str, step: str) -> str:
    """Return the key of any other chart."""
    place = ORDER.index(arm) if arm in ORDER else len(ORDER)
    return f"arm{place + 1:02d}_{_word(arm)}/{_over(_word(metric), step)}"


def is_bound(key: str) -> bool:
    """Return whether a key is an end of an interval."""
    return key.endswith(BOUNDS)


def share_of(axes: int) -> int:
    """Return how many headline charts each of so many swept numbers has."""
    return max(1, MOST // max(1, axes))


def _over(name: str, step: str | None) -> str:
    return name if step is None else f"{name}_over_{_word(step)}"


def _word(text: str) -> str:
    return re.sub(r"\W", "_", text)
