"""The only file that registers torch hooks: reading sites, and editing them per token.

An `Edit` says where (site, block), what (an op: pure function of the activation) and which tokens.
A `Cursor` says, before every forward pass, which condition each token belongs to and how many steps
it stands after the last prompt token; so one edit serves prefill, cached decoding and token trees
alike, and every row of a batch can carry another condition.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from emo.core.types import Site, Tokens
from emo.model.lm import LM
from emo.model.ops import PerToken


class Op(Protocol):
    """A pure edit of an activation."""

    def __call__(self, x: Tensor, cond: Tensor, gain: Tensor) -> Tensor:
        """Return the edited ``x`` (b, t, w) for conditions ``cond`` (b, t) at ``gain`` (b, t, 1)."""

    def to(self, device: torch.device) -> Op:
        """Return the op with its tensors on ``device``."""

    def among(self, before: int, after: int) -> Op:
        """Return the op for more conditions, of which those before and after its own change nothing."""


@dataclass(frozen=True)
class Edit:
    """``op`` at ``site`` of block ``layer``, on ``tokens``; strength times ``decay`` per later token."""

    site: Site
    layer: int
    op: Op
    tokens: Tokens = Tokens.EVERY_STEP
    decay: float = 1.0


class Reach(NamedTuple):
    """How much of a forward pass a token selector takes."""

    some: bool  # at least one token is edited
    whole: bool  # every token is


def reaches(cond: np.ndarray, step: np.ndarray) -> dict[Tokens, Reach]:
    """Return the reach of every selector on conditions and steps (b, t) that the host knows: no device is asked."""
    found = {}
    for tokens in Tokens:
        mask = _taken(cond, step, tokens)
        found[tokens] = Reach(bool(mask.any()), bool(mask.all()))
    return found


def _taken(cond: Any, step: Any, tokens: Tokens) -> Any:
    """Return which tokens are edited, (b, t)."""
    mask = cond >= 0
    if tokens is Tokens.PROMPT_LAST:
        return mask & (step == 0)
    return mask & (step >= 0) if tokens is Tokens.EVERY_STEP else mask


class Chosen(NamedTuple):
    """What an edit needs to know of a forward pass: which tokens, and their conditions."""

    mask: Tensor | None  # (b, t, 1) True where a token is edited; None: every token is
    cond: Tensor  # (b, t), >= 0


class Marks:
    """Which condition every token of a forward pass belongs to, and which tokens each selector takes.

    Passes of which only the steps differ, as one token after another of the same replies, share one (`later`): what is
    looked up by condition is looked up once.
    """

    def __init__(self, cond: Tensor, step: Tensor, reach: Mapping[Tokens, Reach] | None = None) -> None:
        self.cond, self.step, self.passes = cond, step, 0
        self._reach = reach
        self._chosen: dict[tuple[Tokens, torch.device], Chosen | None] = {}

    def later(self, step: Tensor) -> Marks:
        """Return the same marks for a pass at other steps, before the prompt's end and behind it where they were so."""
        self.step = step
        return self

    def chosen(self, tokens: Tokens, device: torch.device) -> Chosen | None:
        """Return the tokens to edit, or None where there are none; worked out once, not per block."""
        key = tokens, device
        if key not in self._chosen:
            self._chosen[key] = self._choose(tokens, device)
        return self._chosen[key]

    def _choose(self, tokens: Tokens, device: torch.device) -> Chosen | None:
        mask = None
        if self._reach is None:  # placed by hand: the device must be asked
            mask = _taken(self.cond, self.step, tokens)
            some, whole = bool(mask.any()), bool(mask.all())
        else:
            some, whole = self._reach[tokens]
        if not some:
            return None
        if whole:
            return Chosen(None, self.cond.to(device))
        mask = _taken(self.cond, self.step, tokens) if mask is None else mask
        return Chosen(mask[..., None].to(device), self.cond.clamp(min=0).to(device))


class Cursor:
    """Which condition every token of the next forward pass belongs to."""

    def __init__(self) -> None:
        empty = torch.empty(0, 0, dtype=torch.long)
        self.place(empty, empty)

    def place(self, cond: Tensor, step: Tensor, marks: Marks | None = None) -> None:
        """Set, for the next pass, conditions (b, t; -1 = leave alone) and steps after the last prompt token (b, t).

        ``marks`` of just these where the host knows them: the device is not waited for then.
        """
        if marks is None or marks.cond is not cond or marks.step is not step:
            marks = Marks(cond, step)
        self.marks = marks
        self.marks.passes += 1
        self.step = step
        self._gain: dict[tuple[float, torch.device], Tensor] = {}

    def gain(self, decay: float, device: torch.device) -> Tensor:
        """Return ``decay`` to the power of the steps after the prompt, (b, t, 1)."""
        if (decay, device) not in self._gain:
            steps = self.step.clamp(min=0).to(device, torch.float32)
            self._gain[decay, device] = torch.pow(decay, steps)[..., None]
        return self._gain[decay, device]


def placed(lm: LM, edits: Sequence[Edit]) -> list[Edit]:
    """Return edits whose ops are where they act: to be called once by whoever edits pass after pass."""
    return [replace(edit, op=edit.op.to(lm.device_of(edit.layer))) for edit in edits]


@contextmanager
def edited(lm: LM, edits: Sequence[Edit]) -> Iterator[Cursor]:
    """Apply ``edits`` to every forward pass inside the context, for the tokens that the cursor places.

    Several edits of one site apply in the given order, each to what the edits upstream of it left. All hooks
    are removed on the way out, also after an exception. ``resid_mid`` is written through ``attn_add``, because
    the tensor that a norm reads is a copy of the stream and not the stream.
    """
    cursor = Cursor()
    with ExitStack() as stack:
        for edit in sorted(edits, key=lambda e: e.site is Site.RESID_MID):  # behind all that makes resid_mid
            op = edit.op.to(lm.device_of(edit.layer))
            if edit.site is Site.RESID_MID:
                _edit_mid(lm, stack, cursor, edit, op)
            else:
                _hook(lm, stack, edit.site, edit.layer, _apply(cursor, edit, op))
        yield cursor


def _apply(cursor: Cursor, edit: Edit, op: Op) -> Callable[[Tensor], Tensor | None]:
    held: tuple[Chosen, tuple[Tensor, ...]] | None = None  # parameters per token, of passes that come again

    def change(x: Tensor) -> Tensor | None:
        nonlocal held
        marks = cursor.marks
        chosen = marks.chosen(edit.tokens, x.device)
        if chosen is None:
            return None
        gain = None if edit.decay == 1 else cursor.gain(edit.decay, x.device)
        if not isinstance(op, PerToken) or type(op).__call__ is not PerToken.__call__:  # one of a user's own
            new = op(x, chosen.cond, cursor.gain(1.0, x.device) if gain is None else gain)
        elif held is not None and held[0] is chosen:
            new = op.apply(x, gain, *held[1])
        else:
            rows = op.rows(chosen.cond)
            held = (chosen, rows) if marks.passes > 1 else None  # once: they would fill memory
            new = op.apply(x, gain, *rows)
        return new if chosen.mask is None else torch.where(chosen.mask, new, x)

    return change


def _edit_mid(lm: LM, stack: ExitStack, cursor: Cursor, edit: Edit, op: Op) -> None:
    lm.module(Site.RESID_MID, edit.layer)  # refused where there is none
    change, before = _apply(cursor, edit, op), {}

    def keep(x: Tensor) -> None:
        before["x"] = x

    def write(added: Tensor) -> Tensor | None:
        mid = before.pop("x") + added
        new = change(mid)
        return None if new is None else added + (new - mid)

    _hook(lm, stack, Site.RESID_PRE, edit.layer, keep)
    _hook(lm, stack, Site.ATTN_ADD, edit.layer, write)


@contextmanager
def reading(lm: LM, wanted: Sequence[tuple[Site, int]], sink: Callable[[Site, int, Tensor], None]) -> Iterator[None]:
    """Hand every wanted site's activation (b, t, w) to ``sink(site, layer, x)``, after any edit registered before."""
    with ExitStack() as stack:
        for site, layer in wanted:

            def read(x: Tensor, site: Site = site, layer: int = layer) -> None:
                sink(site, layer, x.detach())

            _hook(lm, stack, site, layer, read)
        yield


def _hook(lm: LM, stack: ExitStack, site: Site, layer: int, fn: Callable[[Tensor], Tensor | None]) -> None:
    """Register ``fn`` at a site; whatever it returns replaces the activation (None: leave it).

    ``fn`` is given the activation on the block's own device. Of a model on several, the first block of each is handed
    its input where the block before lies: accelerate moves it inside ``forward``, behind this hook. What a sublayer
    adds may be its output times a factor that the block multiplies with behind the module: ``fn`` sees the product.
    """
    (module, side), device = lm.module(site, layer), lm.device_of(layer)
    factor = lm.factor(site) if side == "out" else 1.0

    def before(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if args:
            new = fn(args[0].to(device))
            return None if new is None else ((new, *args[1:]), kwargs)
        new = fn(kwargs["hidden_states"].to(device))
        return None if new is None else (args, {**kwargs, "hidden_states": new})

    def after(_: Any, __: Any, output: Any) -> Any:
        is_tuple = isinstance(output, tuple)  # attention modules return (output, weights)
        x = output[0] if is_tuple else output
        new = fn(x if factor == 1 else x * factor)
        if new is not None and factor != 1:
            new = torch.where(new == x * factor, x, new / factor)  # what was not changed stays so to the bit
        return None if new is None else ((new, *output[1:]) if is_tuple else new)

    if side == "in":
        handle = module.register_forward_pre_hook(before, with_kwargs=True)
    else:
        handle = module.register_forward_hook(after)
    stack.callback(handle.remove)
