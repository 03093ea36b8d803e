"""Ops: pure, out-of-place edits of an activation; none of them touches a torch hook.

Each op holds one row of parameters per condition (c), so that a batch can mix conditions; the caller
hands over the condition of every token. Arithmetic is float32, the result has the activation's dtype.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import ClassVar, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import pad

Own = TypeVar("Own", bound="PerCondition")  # not Self: what checks types in tests decorates methods alone
DOSES = ("rms", "rel", "raw")


@dataclass(frozen=True, eq=False)
class PerCondition:
    """An op with a row of parameters per condition."""

    IDLE: ClassVar[dict[str, float]] = {}  # parameters that hold a row per condition -> what leaves an activation alone

    def among(self: Own, before: int, after: int) -> Own:
        """Return a copy for more conditions, which stand before and after its own and change nothing.

        Raises:
            TypeError: no parameters of this op leave an activation alone.
        """
        if not (before or after):
            return self
        if not self.IDLE:
            raise TypeError(f"{type(self).__name__} has no condition that changes nothing: its arms need a plan alone")
        made = {}
        for name, idle in self.IDLE.items():
            x = getattr(self, name)
            made[name] = pad(x, (0, 0) * (x.dim() - 1) + (before, after), value=idle)
        return replace(self, **made)

    def to(self: Own, device: torch.device) -> Own:
        """Return a copy with all tensors on ``device``."""
        held = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(self, **{k: v.to(device) for k, v in held.items() if isinstance(v, Tensor)})


class PerToken(PerCondition):
    """An op that looks up the parameters of every token, and then edits: passes that come again look up once.

    ``gain`` is None where it is 1.
    """

    def rows(self, cond: Int[Tensor, "*t"]) -> tuple[Tensor, ...]:
        """Return the parameters of every token, (*t, ...) each, in the order of `IDLE`."""
        return tuple(looked_up(getattr(self, name), cond) for name in self.IDLE)

    def apply(self, x: Tensor, gain: Tensor | None, *rows: Tensor) -> Tensor:
        """Return ``x`` (*t, w) edited by what `rows` gave; pure and out of place."""
        raise NotImplementedError

    def __call__(
        self, x: Float[Tensor, "*t w"], cond: Int[Tensor, "*t"], gain: Float[Tensor, "*#t 1"]
    ) -> Float[Tensor, "*t w"]:
        """See `emo.model.hooks.Op`."""
        return self.apply(x, gain, *self.rows(cond))


def looked_up(table: Tensor, index: Int[Tensor, "*t"]) -> Tensor:
    """Return ``table[index]``, (*t, ...); rows are copied whole, which on a CPU takes a thirtieth of the time."""
    return table.index_select(0, index.flatten()).unflatten(0, index.shape)


def times(gain: Tensor | None, x: Tensor) -> Tensor:
    """Return ``gain * x``; a gain of None is 1."""
    return x if gain is None else gain * x


@dataclass(frozen=True, eq=False)
class Add(PerToken):
    """``x + gain * strength * scale(x) * vector`` (methods 1.4).

    Attributes:
        vectors: (m, w) vectors to add; unit length where a dose is to mean something.
        which: (c,) row of ``vectors`` per condition.
        strength: (c,) alpha per condition, in units of ``dose``; 0 leaves the activation bit-equal.
        dose: ``rms``: scale = root mean square of the live activation; ``rel``: its Euclidean norm,
            so that strength = |added| / |x|; ``raw``: 1.
    """

    vectors: Float[Tensor, "m w"]
    which: Int[Tensor, " c"]
    strength: Float[Tensor, " c"]
    dose: str = "rms"
    IDLE = {"which": 0, "strength": 0.0}

    def __post_init__(self) -> None:
        if self.dose not in DOSES:
            raise ValueError(f"dose {self.dose!r}: not one of {', '.join(DOSES)}")

    def rows(self, cond: Int[Tensor, "*t"]) -> tuple[Float[Tensor, "*t 1"], Float[Tensor, "*t w"]]:
        """Return strength and vector of every token."""
        return looked_up(self.strength, cond)[..., None], looked_up(self.vectors, looked_up(self.which, cond))

    def apply(self, x: Tensor, gain: Tensor | None, *rows: Tensor) -> Tensor:
        """See `PerToken`."""
        strength, vector = rows
        live = x.float()
        size = times(gain, strength)
        if self.dose != "raw":
            norm = torch.linalg.vector_norm(live, dim=-1, keepdim=True)  # of nobody else: written in place
            size = (norm if self.dose == "rel" else norm.mul_(live.shape[-1] ** -0.5)).mul_(size)
        return torch.addcmul(live, size, vector).to(x.dtype)


@dataclass(frozen=True, eq=False)
class PatchActivation(PerToken):
    """Replace the whole activation by a given one.

    Attributes:
        states: (m, w) activations.
        which: (c,) row of ``states`` per condition.
    """

    states: Float[Tensor, "m w"]
    which: Int[Tensor, " c"]

    def rows(self, cond: Int[Tensor, "*t"]) -> tuple[Float[Tensor, "*t w"]]:
        """Return the state of every token."""
        return (looked_up(self.states, looked_up(self.which, cond)).float(),)

    def apply(self, x: Tensor, gain: Tensor | None, *rows: Tensor) -> Tensor:
        """See `PerToken`; a gain below 1 leaves a share of the activation, 1 gives the state to the bit."""
        [state] = rows
        return torch.lerp(x.float(), state, 1.0 if gain is None else gain).to(x.dtype)


@dataclass(frozen=True, eq=False)
class Scale(PerToken):
    """``x * factor`` per unit; factor 1 is the identity, 0 zeroes.

    Attributes:
        factor: (c, w) factor per condition and unit.
    """

    factor: Float[Tensor, "c w"]
    IDLE = {"factor": 1.0}

    def apply(self, x: Tensor, gain: Tensor | None, *rows: Tensor) -> Tensor:
        """See `PerToken`; ``gain`` moves the factor towards 1."""
        [factor] = rows
        return (x.float() * (1 + times(gain, factor - 1))).to(x.dtype)


@dataclass(frozen=True, eq=False)
class Zero(PerToken):
    """Set the units of a condition to zero; a condition without units leaves the activation bit-equal.

    Attributes:
        index: (c, m) columns.
        factor: (c, 1) 0, or 1 for a condition without units.
    """

    index: Int[Tensor, "c m"]
    factor: Float[Tensor, "c 1"]
    IDLE = {"index": 0, "factor": 1.0}

    @classmethod
    def of(cls, units: Sequence[Tensor]) -> Zero:
        """Build from one list of columns per condition."""
        return cls(filled(units, torch.long), torch.tensor([[0.0 if len(row) else 1.0] for row in units]))

    def apply(self, x: Tensor, gain: Tensor | None, *rows: Tensor) -> Tensor:
        """See `PerToken`; a gain below 1 leaves a share of the activation."""
        index, factor = rows
        kept = 1 - times(gain, 1 - factor)
        return x.scatter(-1, index, x.gather(-1, index) * kept.to(x.dtype))


@dataclass(frozen=True, eq=False)
class AddUnits(PerToken):
    """``x_j + gain * value_j`` for the units j of a condition.

    Attributes:
        index: (c, m) columns.
        value: (c, m) what is added; 0 where the entry only fills the row.
    """

    index: Int[Tensor, "c m"]
    value: Float[Tensor, "c m"]
    IDLE = {"index": 0, "value": 0.0}

    @classmethod
    def of(cls, units: Sequence[Tensor], values: Sequence[Tensor]) -> AddUnits:
        """Build from one list of columns, and of what is added to each, per condition."""
        index = filled(units, torch.long)
        value = torch.zeros(index.shape)
        for c, own in enumerate(values):
            value[c, : len(own)] = own
        return cls(index, value)

    def apply(self, x: Tensor, gain: Tensor | None, *rows: Tensor) -> Tensor:
        """See `PerToken`."""
        index, value = rows
        return x.float().scatter_add(-1, index, times(gain, value)).to(x.dtype)


def filled(rows: Sequence[Tensor], dtype: torch.dtype, idle: float = 0) -> Tensor:
    """Return rows (c, m), m the longest; a shorter one is filled with its own first entry, an empty one with ``idle``.

    A filling entry so repeats a unit together with its parameters: it writes the same number there once more.
    """
    out = torch.full((len(rows), max([1, *map(len, rows)])), idle, dtype=dtype)
    for c, row in enumerate(rows):
        if len(row):
            out[c] = row[0]
            out[c, : len(row)] = row
    return out
