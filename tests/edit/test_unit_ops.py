"""Ops on single units == a loop over units, conditions mixed in one batch; whoever has no units is left to the bit."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from emo.model.hooks import Op
from emo.model.unit_ops import Attenuate, Gain, Replace

UNITS = [[1, 5, 2], [], [3], [0, 7]]  # per condition: rows of every length, one without units, column 0 edited once
ALPHA = [0.5, 0.9, 2.0, 0.8]
FIRST = [[0.4, -2.0, 0.0], [], [1.5], [3.0, -0.25]]  # factors, values
PEAK = [[0.4, 2.0, 0.0], [], [1.5], [3.0, 0.25]]
SIZE = [[0.1, 5.0, 0.3], [], [math.nan], [math.nan, 0.1]]  # beyond the peak; live and mean in one row
WIDTH = 8


def tensors(rows: list[list[float]]) -> list[Tensor]:
    return [torch.tensor(row) for row in rows]


INDEX = [torch.tensor(row, dtype=torch.long) for row in UNITS]
MEASURED = Attenuate.of(INDEX, ALPHA, tensors(PEAK), tensors(SIZE))
LIVE = Attenuate.of(INDEX, ALPHA, tensors(PEAK), [torch.full((len(row),), math.nan) for row in UNITS])


def attenuated(x: float, alpha: float, peak: float, size: float) -> float:
    if peak == 0:
        return x
    share = (abs(x) if math.isnan(size) else size) / peak
    return x * min(max(1 - alpha * min(max(share, 0), 1), 0), 1)


CASES: dict[str, tuple[Op, Callable[[float, int, int], float]]] = {
    "replace": (Replace.of(INDEX, tensors(FIRST)), lambda _, c, k: FIRST[c][k]),
    "gain": (Gain.of(INDEX, tensors(FIRST)), lambda x, c, k: x * FIRST[c][k]),
    "attenuate": (MEASURED, lambda x, c, k: attenuated(x, ALPHA[c], PEAK[c][k], SIZE[c][k])),
    "attenuate_live": (LIVE, lambda x, c, k: attenuated(x, ALPHA[c], PEAK[c][k], math.nan)),
}


def batch(seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return activations (3, 6, 8) of both signs, and a condition for every token."""
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(3, 6, WIDTH, generator=draw)
    return x, torch.randint(0, len(UNITS), (3, 6), generator=draw)


def looped(x: Tensor, cond: Tensor, gain: float, edit: Callable[[float, int, int], float]) -> Tensor:
    """Return the slow twin: one number at a time, in Python's floats."""
    out = x.clone()
    for b in range(x.shape[0]):
        for t in range(x.shape[1]):
            c = int(cond[b, t])
            for k, unit in enumerate(UNITS[c] if 0 <= c < len(UNITS) else []):
                old = float(x[b, t, unit])
                out[b, t, unit] = old + gain * (edit(old, c, k) - old)
    return out


@pytest.mark.parametrize("gain", [1.0, 0.25])
@pytest.mark.parametrize("kind", CASES)
def test_ops_equal_a_loop_over_units(kind: str, gain: float) -> None:
    """The neighbouring unit's parameters; another condition's row; what fills a row; a sign lost in |x|."""
    op, edit = CASES[kind]
    x, cond = batch()
    assert set(cond.flatten().tolist()) == set(range(len(UNITS)))
    out = op(x, cond, torch.full((3, 6, 1), gain))
    assert torch.allclose(out, looped(x, cond, gain, edit), rtol=1e-6, atol=1e-7)
    assert not torch.equal(out, x)


@pytest.mark.parametrize("kind", CASES)
def test_whatever_is_not_edited_keeps_its_bits(kind: str) -> None:
    """Units outside a condition's set, and all units of a condition without any; in every dtype."""
    op, _ = CASES[kind]
    for dtype in (torch.float32, torch.bfloat16):
        x, cond = batch(1)
        x = x.to(dtype)
        out = op(x, cond, torch.ones(3, 6, 1))
        assert out.dtype is dtype
        for c, units in enumerate(UNITS):
            others = [u for u in range(WIDTH) if u not in units]
            assert torch.equal(out[cond == c][:, others], x[cond == c][:, others])


@pytest.mark.parametrize("kind", CASES)
def test_conditions_of_other_arms_are_idle(kind: str) -> None:
    """Before and after its own conditions nothing changes, the others keep what they do."""
    op, edit = CASES[kind]
    x, cond = batch(2)
    many = op.among(2, 1)
    shifted = torch.randint(0, len(UNITS) + 3, cond.shape, generator=torch.Generator().manual_seed(3))
    out = many(x, shifted, torch.ones(3, 6, 1))
    assert torch.allclose(out, looped(x, shifted - 2, 1.0, edit), rtol=1e-6, atol=1e-7)
    idle = (shifted < 2) | (shifted >= 2 + len(UNITS))
    assert idle.any() and torch.equal(out[idle], x[idle])


@pytest.mark.parametrize("rows", [[0, 2], [2, 3, 1], [1]])
def test_what_fills_a_row_changes_nothing(rows: list[int]) -> None:
    """A condition does the same beside longer rows as alone."""
    x, _ = batch(4)
    gain = torch.ones(3, 6, 1)
    for op, _ in CASES.values():
        names = [name for name in op.IDLE if name != "index"]  # type: ignore[attr-defined]
        for c in rows:
            m = max(1, len(UNITS[c]))
            own = {name: getattr(op, name)[c : c + 1, :m] for name in ("index", *names)}
            alone = type(op)(**own)(x, torch.zeros(3, 6, dtype=torch.long), gain)
            assert torch.equal(op(x, torch.full((3, 6), c), gain), alone)


def test_a_unit_that_never_fired_is_left_alone() -> None:
    """A peak of 0 divides nothing: the unit keeps its bits, at rest (0 / 0) and when it does fire."""
    for size in (0.0, 0.7, math.nan):
        op = Attenuate.of([torch.tensor([0, 1])], [1.0], [torch.zeros(2)], [torch.full((2,), size)])
        x = torch.tensor([[[0.0, -3.0, 1.0]]])
        assert torch.equal(op(x, torch.zeros(1, 1, dtype=torch.long), torch.ones(1, 1, 1)), x)


def test_alpha_one_silences_a_unit_at_its_peak() -> None:
    """And one beyond it; half the peak leaves half, alpha 2 leaves nothing of it and no other sign."""
    x = torch.tensor([[[2.0, -4.0, 1.0]]])
    for alpha, left in ((1.0, 0.5), (2.0, 0.0), (0.0, 1.0)):
        op = Attenuate.of([torch.arange(3)], [alpha], [torch.full((3,), 2.0)], [torch.full((3,), math.nan)])
        kept = 0.0 if alpha else 1.0
        out = op(x, torch.zeros(1, 1, dtype=torch.long), torch.ones(1, 1, 1))
        assert out[0, 0].tolist() == [2 * kept, -4 * kept, left]
