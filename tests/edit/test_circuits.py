"""The allocation of a budget to layers: the published circuit, its bounds on any input, and cases by hand."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emo.circuits import ALLOCATIONS, allocate, quotas, split_budget
from emo.config.check import REPOSITORY

GOLDEN = REPOSITORY.parent / "shared" / "golden" / "published_anger_allocation.csv"


class Case(NamedTuple):
    """Arguments of `allocate`."""

    importance: list[float]
    budget: int
    floor: int
    cap: float
    capacity: int | list[int]

    @property
    def capacities(self) -> list[int]:
        return self.capacity if isinstance(self.capacity, list) else [self.capacity] * len(self.importance)

    @property
    def bounds(self) -> tuple[list[int], list[int]]:
        """Return floors and ceilings, written down from methods 1.10."""
        n, floor = len(self.importance), self.floor
        if self.budget < floor * n:
            floor = 1
        if self.budget < n:
            floor = 0
        floors = [min(floor, c) for c in self.capacities]
        room = math.floor(self.cap * self.budget)
        return floors, [min(c, own + room) for c, own in zip(self.capacities, floors, strict=True)]


@st.composite
def cases(draw: st.DrawFn, equal: bool = False) -> Case:
    """Few different values, so that ties are common; equal capacities where asked for."""
    n = draw(st.integers(1, 12))
    level = st.one_of(st.sampled_from([-1.0, 0.0, 0.5, 1.0, 3.0]), st.floats(-10, 10), st.sampled_from([1e300, 5e-324]))
    capacity: int | list[int] = draw(st.integers(0, 30))
    if not equal and draw(st.booleans()):
        capacity = draw(st.lists(st.integers(0, 30), min_size=n, max_size=n))
    return Case(
        draw(st.lists(level, min_size=n, max_size=n)), draw(st.integers(0, 200)), draw(st.integers(0, 5)),
        draw(st.sampled_from([0.01, 0.1, 0.25, 0.4, 0.75, 1.0])), capacity,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("sublayer", "budget", "floor", "capacity"), [("mlp", 392, 4, 8192), ("attention", 168, 2, 24)]
)
def test_the_published_circuit(sublayer: str, budget: int, floor: int, capacity: int) -> None:
    if not GOLDEN.is_file():
        pytest.skip(f"{GOLDEN} is not there: published data are not shipped")
    with GOLDEN.open(encoding="utf-8") as file:
        rows = sorted((r for r in csv.DictReader(file) if r["sublayer"] == sublayer), key=lambda r: int(r["layer"]))
    assert len(rows) == 28
    found = allocate([float(r["importance"]) for r in rows], budget, floor, 0.4, capacity)
    assert found == [int(r["quota"]) for r in rows]


@given(case=cases(), allocation=st.sampled_from(ALLOCATIONS), seed=st.integers(0, 3))
def test_floors_ceilings_and_sum_hold_under_every_allocation(case: Case, allocation: str, seed: int) -> None:
    found = quotas(allocation, *case, seed)
    floors, ceilings = case.bounds
    assert all(low <= x <= high for low, x, high in zip(floors, found, ceilings, strict=True))
    assert sum(found) == min(case.budget, sum(ceilings))
    assert all(type(x) is int for x in found)


@given(case=cases(equal=True))
def test_more_importance_never_gets_less(case: Case) -> None:
    found = allocate(*case)
    order = sorted(range(len(found)), key=lambda layer: -case.importance[layer])
    assert [found[layer] for layer in order] == sorted(found, reverse=True)


@given(case=cases(), data=st.data())
def test_the_order_of_layers_matters_to_ties_alone(case: Case, data: st.DataObject) -> None:
    """Layers of different importance take their quota along."""
    case = case._replace(importance=[k - 2.5 for k in range(len(case.importance))])
    order = data.draw(st.permutations(range(len(case.importance))))
    moved = case._replace(importance=[case.importance[k] for k in order], capacity=[case.capacities[k] for k in order])
    assert allocate(*moved) == [allocate(*case)[k] for k in order]


@given(case=cases(), factor=st.sampled_from([0.25, 2.0, 1024.0]))
def test_the_unit_of_importance_does_not_matter(case: Case, factor: float) -> None:
    case = case._replace(importance=[round(i, 3) if abs(i) < 11 else 1.0 for i in case.importance])
    assert allocate(*case) == allocate(*case._replace(importance=[factor * i for i in case.importance]))


@pytest.mark.parametrize(
    ("case", "wanted"),
    [
        (Case([3, 2, 1], 12, 1, 1.0, 99), [6, 4, 2]),  # 9 left after the floors: 4.5, 3, 1.5; the tie to the larger I
        (Case([1, 1, 1], 10, 2, 1.0, 99), [4, 3, 3]),  # the odd unit to the lower layer
        (Case([1, -5, 1], 11, 2, 1.0, 99), [5, 2, 4]),  # negative importance: the floor
        (Case([-1, 0, -2], 8, 1, 1.0, 99), [3, 3, 2]),  # none positive: uniform, odd units to the larger I
        (Case([8, 1, 1], 10, 0, 0.5, 99), [5, 4, 1]),  # 8 of 10 is cut to 5; the 3 go to the next in importance,
        (Case([1, 8, 1], 20, 2, 0.3, 99), [8, 8, 4]),  # 4, 13, 3 is cut to 4, 8, 3: 4 to block 0 (lower), 1 to block 2
        (Case([8, 2, 1], 20, 0, 0.9, [5, 6, 30]), [5, 6, 9]),  # capacity cuts too, and the last takes what is left
        (Case([8, 2, 1], 20, 4, 1.0, [3, 2, 5]), [3, 2, 5]),  # a budget beyond all capacities
        (Case([1, 2, 3], 11, 4, 1.0, 99), [2, 4, 5]),  # below 4 x 3: the floor is 1; 8 left: 1.33, 2.67, 4
        (Case([1, 2, 3], 2, 4, 1.0, 99), [0, 1, 1]),  # below 3: no floor; 0.33, 0.67, 1
        (Case([1, 2, 3], 3, 1, 1.0, 99), [1, 1, 1]),
        (Case([1, 2], 0, 3, 0.4, 99), [0, 0]),
    ],
)  # fmt: skip
def test_quotas_are_those_by_hand(case: Case, wanted: list[int]) -> None:
    assert allocate(*case) == wanted


def test_the_other_allocations_by_hand() -> None:
    case = Case([9, 1, 5, 0], 20, 2, 0.25, 99)
    assert quotas("deep_first", *case, 0) == [2, 4, 7, 7]  # ceilings 2 + 5
    assert quotas("uniform", *case, 0) == [5, 5, 5, 5]
    assert quotas("uniform", *case._replace(budget=22), 0) == [6, 6, 5, 5]
    assert quotas("importance", *case, 0) == allocate(*case)
    assert quotas("random", *case, 1) == quotas("random", *case, 1) != quotas("random", *case, 2)
    assert quotas("random", *case, 1) == quotas("random", *case._replace(importance=[0, 0, 0, 1]), 1)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"budget": -1}, "budget -1"),
        ({"floor": -1}, "floor -1"),
        ({"cap": 0.0}, "cap 0.0"),
        ({"cap": 1.5}, "cap 1.5"),
        ({"cap": math.nan}, "cap nan"),
        ({"capacity": -2}, "capacity -2"),
        ({"capacity": [4, 4, 4]}, "2 importances and 3 capacities"),
        ({"importance": [1.0, math.nan]}, "finite numbers"),
        ({"importance": [1.0, math.inf]}, "finite numbers"),
        ({"importance": []}, "0 importances"),
    ],
)
def test_bad_input_is_refused(change: dict[str, object], said: str) -> None:
    case = Case([1.0, 2.0], 8, 1, 0.4, 99)._replace(**change)
    for allocation in ALLOCATIONS:
        with pytest.raises(ValueError, match=said):
            quotas(allocation, *case, 0)
    with pytest.raises(ValueError, match="allocation 'best'"):
        quotas("best", [1.0], 8, 1, 0.4, 99, 0)


@pytest.mark.parametrize(
    ("split", "neurons", "heads", "wanted"),
    [
        (0.7, [1.0], [1.0], (392, 168)),
        (0, [1.0], [1.0], (0, 560)),
        (1.0, [1.0], [1.0], (560, 0)),
        ("auto", [3.0, -9.0], [1.0, 0.0], (420, 140)),
        ("auto", [-3.0, 0.0], [-1.0, 0.0], (280, 280)),
        ("auto", [-3.0], [1.0], (0, 560)),
    ],
)
def test_the_budget_is_split(
    split: float | str, neurons: Sequence[float], heads: Sequence[float], wanted: tuple[int, int]
) -> None:
    assert split_budget(560, split, neurons, heads) == wanted


def test_a_split_that_is_none_is_refused() -> None:
    for split in (-0.1, 1.1, math.nan, "half"):
        with pytest.raises(ValueError, match="split"):
            split_budget(560, split, [1.0], [1.0])
    with pytest.raises(ValueError, match="budget -1"):
        split_budget(-1, 0.5, [1.0], [1.0])
    with pytest.raises(ValueError, match="finite"):
        split_budget(10, "auto", [math.nan], [1.0])
