"""How many independent scenarios or groups stand behind the numbers, and what that allows to be said."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from emo.core.stats import EXACT_CLUSTERS, too_few
from emo.data.labelled import Item
from emo.data.near import clusters_of, joined
from emo.data.scenarios import Sample
from emo.results import p_values


class Evidence(NamedTuple):
    """What intervals and p are over.

    Attributes:
        what: scenarios | groups.
        given: how many there are.
        distinct: how many are left when nearly equal texts count as one (`emo.data.near`).
    """

    what: str
    given: int
    distinct: int

    @classmethod
    def of_samples(cls, samples: Sequence[Sample]) -> Evidence:
        """Return that of scenarios with their outcomes."""
        return cls("scenarios", len({s.scenario_id for s in samples}), len(set(clusters_of(samples).values())))

    @classmethod
    def of_items(cls, items: Sequence[Item]) -> Evidence:
        """Return that of labelled texts."""
        groups = [item.group for item in items]
        return cls("groups", len(set(groups)), len(set(joined(groups, [item.text for item in items]))))

    @property
    def few(self) -> str | None:
        """Why nothing has an interval; None where there are enough."""
        return too_few(self.distinct, self.what)

    def to_dict(self) -> dict[str, Any]:
        """Return what result.json holds."""
        return self._asdict() | {"too_few": self.few}

    def lines(self, smallest_p: float | None, draws: int) -> list[str]:
        """Return the remarks on it.

        Args:
            smallest_p: that sign flips can give after Holm (`emo.core.stats.smallest_p`).
            draws: random sign patterns.
        """
        found = []
        if self.distinct < self.given:
            found.append(
                f"The {self.given} {self.what} of the test split are {self.distinct} different ones: texts that are "
                "nearly equal (a suffix apart) count as one in intervals and p."
            )
        if self.few is not None:
            found.append(f"{self.few[0].upper()}{self.few[1:]}; p is not given either.")
        elif smallest_p is not None and p_values.unreadable(smallest_p):
            why = f"so few {self.what}" if self.distinct <= EXACT_CLUSTERS else f"{draws} random sign flips"
            found.append(
                f"{why[0].upper()}{why[1:]} cannot give p below {p_values.bound(smallest_p)} after Holm over all "
                "comparisons: read the intervals."
            )
        return found
