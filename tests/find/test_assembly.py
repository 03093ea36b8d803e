"""A circuit from scores and importance: which units, how many in which block, and what is added to each."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from emo.config.choices import total_budget
from emo.config.schema import CircuitConfig
from emo.core.errors import UserError
from emo.find.allocation import allocate
from emo.find.assembly import assemble
from emo.find.circuit import Circuit, Shape

SHAPE = Shape(5, 16, 40, 6, 3)
EMOTIONS = ("anger", "fear")
SUBLAYERS = {"neurons": ("mlp", 1, 40, 1), "heads": ("attn", 0, 6, 3)}  # name, axis of importance, units, width
HOW = CircuitConfig(budget=40, split=0.75, floor=[2, 1])


def found_of(shape: Shape = SHAPE, seed: int = 0) -> dict[str, Tensor]:
    """Return random scores and difference vectors."""
    draw = torch.Generator().manual_seed(seed)
    e, n = len(EMOTIONS), shape.n_layers
    made = {kind: torch.randn(e, n, shape.units(kind)[0], generator=draw) for kind in SUBLAYERS}
    made["delta_mlp"] = torch.randn(e, n, shape.f, generator=draw)
    made["delta_attn"] = torch.randn(e, n, shape.h * shape.p, generator=draw)
    return made


FOUND, IMPORTANCE = found_of(), torch.randn(2, 5, 2, generator=torch.Generator().manual_seed(3))


def made(layers: tuple[int, ...] = tuple(range(5)), **changes: Any) -> Circuit:
    """Return the circuit of the random scores under other settings."""
    how = replace(HOW, **changes)
    return assemble(how, EMOTIONS, FOUND, IMPORTANCE, layers, SHAPE, "w" * 64, 0, {"model": "none"})


@pytest.mark.parametrize("layers", [tuple(range(5)), (1, 3), (4,)])
@pytest.mark.parametrize("kind", SUBLAYERS)
def test_every_block_has_its_best_units_with_their_own_vectors(kind: str, layers: tuple[int, ...]) -> None:
    """The smallest units; another emotion's, or of a block that was not allowed; a vector of the unit beside it."""
    circuit, (name, axis, capacity, width) = made(layers), SUBLAYERS[kind]
    budget = 30 if kind == "neurons" else 10
    for e in range(len(EMOTIONS)):
        part = circuit.part(kind, e)
        own = [float(IMPORTANCE[e, layer, axis]) for layer in layers]
        wanted = allocate(own, budget, 2 if kind == "neurons" else 1, 0.4, capacity)
        assert circuit.quotas(kind)[e] == [dict(zip(layers, wanted, strict=True)).get(layer, 0) for layer in range(5)]
        for layer, count in zip(layers, wanted, strict=True):
            units = part.unit[part.layer == layer].tolist()
            scores = FOUND[kind][e, layer].tolist()
            assert units == sorted(range(capacity), key=lambda u, s=scores: -s[u])[:count]
            for unit, delta in zip(units, part.delta[part.layer == layer], strict=True):
                own_delta = FOUND[f"delta_{name}"][e, layer, unit * width : (unit + 1) * width]
                assert torch.equal(delta, own_delta)
    assert circuit.emotions == EMOTIONS and circuit.shape == SHAPE and circuit.provenance == {"model": "none"}


def test_importance_decides_the_block_and_scores_the_unit() -> None:
    """Two blocks, four neurons, two heads: importance decides the block, scores the unit."""
    shape = Shape(2, 8, 4, 2, 2)
    found = {
        "neurons": torch.tensor([[[0.1, 0.9, 0.5, 0.2], [0.4, 0.3, 0.2, 0.1]]]),
        "heads": torch.tensor([[[0.1, 0.2], [2.0, -1.0]]]),
        "delta_mlp": torch.arange(8.0).view(1, 2, 4),
        "delta_attn": 10 + torch.arange(8.0).view(1, 2, 4),
    }
    importance = torch.tensor([[[0.0, 3.0], [5.0, 1.0]]])  # attention matters in block 1, the MLP in block 0
    how = CircuitConfig(budget=6, split=4 / 6, floor=[0, 0], cap=1.0)
    circuit = assemble(how, ["fear"], found, importance, [0, 1], shape, "w", 0, {})
    neurons, heads = circuit.part("neurons", 0), circuit.part("heads", 0)
    assert list(zip(neurons.layer.tolist(), neurons.unit.tolist(), strict=True)) == [(0, 1), (0, 2), (0, 3), (1, 0)]
    assert neurons.delta[:, 0].tolist() == [1.0, 2.0, 3.0, 4.0]
    assert list(zip(heads.layer.tolist(), heads.unit.tolist(), strict=True)) == [(1, 0), (1, 1)]
    assert heads.delta.tolist() == [[14.0, 15.0], [16.0, 17.0]]


def test_the_split_follows_the_importance_of_each_emotion() -> None:
    """Auto: the positive importance of MLPs in that of all sublayers, in the allowed blocks alone."""
    circuit, layers = made((1, 3, 4), split="auto", cap=1.0, floor=[0, 0], budget=12), [1, 3, 4]
    for e in range(len(EMOTIONS)):
        attention, mlp = (IMPORTANCE[e, layers, axis].clamp(min=0).sum() for axis in (0, 1))
        assert len(circuit.part("neurons", e).unit) == round(float(12 * mlp / (attention + mlp)))
        assert len(circuit.part("neurons", e).unit) + len(circuit.part("heads", e).unit) == 12


@pytest.mark.parametrize("allocation", ["uniform", "deep_first", "random"])
def test_another_allocation_is_another_circuit_of_the_same_size(allocation: str) -> None:
    plain, other = made(), made(allocation=allocation)
    assert other.quotas("neurons") != plain.quotas("neurons")
    assert sum(other.quotas("neurons")[0]) == sum(plain.quotas("neurons")[0]) == 30


@pytest.mark.parametrize(
    ("budget", "layers", "wanted"), [("10x", 28, 560), (560, 28, 560), ("560", 3, 560), ("2x", 2, 8), (0, 4, 0)]
)
def test_a_budget_is_a_number_of_units_or_a_multiple_of_sublayers(budget: int | str, layers: int, wanted: int) -> None:
    assert total_budget(budget, layers) == wanted


def test_the_sublayers_of_allowed_blocks_are_counted() -> None:
    """``2x`` of two blocks: eight units, not those of five."""
    circuit = made((1, 3), budget="2x", floor=[0, 0], cap=1.0)
    assert sum(map(sum, (circuit.quotas("neurons")[0], circuit.quotas("heads")[0]))) == 8


@pytest.mark.parametrize("budget", ["abc", "x", "", "1.5x", -1, 2.5, "10 x", None])
def test_what_is_no_budget(budget: Any) -> None:
    with pytest.raises(UserError, match="type a number of units"):
        total_budget(budget, 4)
