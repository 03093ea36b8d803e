"""Layer ranges: what a user writes for ``layers`` -> indices of decoder blocks (methods 0).

``11-20`` blocks, both ends included; ``0.39-0.72`` the blocks with lo <= l / L <= hi; ``7`` one block;
``bottom | middle | top`` thirds that partition the blocks; ``all``; a list of indices.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import NoReturn

from emo.core.errors import UserError, nearest

THIRDS = ("bottom", "middle", "top")
FORMS = "11-20 (blocks), 0.39-0.72 (depth), 7, [3,5], bottom, middle, top, all"
_RANGE = re.compile(r"\s*(\d+(?:\.\d+)?|\.\d+)\s*-\s*(\d+(?:\.\d+)?|\.\d+)\s*")

Select = Callable[[int], tuple[int, ...]]  # number of blocks -> indices; raises ValueError


def parse_layers(spec: object, n_layers: int, *, key: str = "intervention.layers") -> tuple[int, ...]:
    """Return the ascending block indices that ``spec`` names in a model of ``n_layers`` blocks.

    Raises:
        UserError: for a malformed, empty or reversed range and for blocks beyond the last one;
            it names ``key`` and says how many blocks the model has.
    """
    try:
        blocks = _reader(spec)(n_layers)
        if not blocks:
            raise ValueError("no block lies in it")
        if blocks[-1] >= n_layers:
            raise ValueError(f"there is no block {blocks[-1]}")
    except ValueError as error:
        raise UserError(
            f"{key}={_show(spec)}: {error}; the model has {n_layers} blocks (0 to {n_layers - 1}); type {FORMS}"
        ) from None
    return blocks


def check_layers(spec: object, *, key: str = "intervention.layers", auto: bool = False) -> None:
    """Check the syntax of ``spec`` before a model is known; ``auto`` is accepted on request.

    Raises:
        UserError: if no model could make sense of it.
    """
    if auto and spec == "auto":
        return
    try:
        _reader(spec)
    except ValueError as error:
        forms = f"{FORMS}, auto" if auto else FORMS
        raise UserError(f"{key}={_show(spec)}: {error}; type {forms}") from None


def _reader(spec: object) -> Select:
    """Return the selection that ``spec`` describes; ValueError says what is wrong with it."""
    if isinstance(spec, bool) or spec is None:
        raise ValueError("not a layer range")
    if isinstance(spec, int):
        return _listed([spec])
    if isinstance(spec, float):
        raise ValueError(f"one decimal number is no range: depths need two, e.g. {spec:g}-{spec + 0.25:g}")
    if isinstance(spec, str):
        return _named(spec)
    if isinstance(spec, Sequence):
        return _listed(spec)
    raise ValueError("not a layer range")


def _listed(items: Sequence[object]) -> Select:
    blocks: list[int] = []
    for item in items:
        if isinstance(item, bool) or not isinstance(item, int):
            raise ValueError(f"a list holds block indices only, not {item!r}")
        if item < 0:
            raise ValueError(f"blocks are counted from 0, {item} is negative")
        blocks.append(item)
    if not blocks:
        raise ValueError("an empty list")
    if len(set(blocks)) < len(blocks):
        raise ValueError("a block is named twice")
    chosen = tuple(sorted(blocks))
    return lambda _: chosen


def _named(text: str) -> Select:
    word = text.strip()
    if word == "all":
        return lambda n: tuple(range(n))
    if word in THIRDS:
        part = THIRDS.index(word)
        return lambda n: tuple(range(part * n // 3, (part + 1) * n // 3))
    if word.isascii() and word.isdigit():
        return _listed([int(word)])
    match = _RANGE.fullmatch(word)
    if match is None:
        _refuse(word)
    first, last = match.groups()
    if "." in first + last:
        return _depth(Fraction(first), Fraction(last), word)
    lo, hi = int(first), int(last)
    if lo > hi:
        raise ValueError(f"the range is reversed, {hi}-{lo} is meant")

    def between(n: int) -> tuple[int, ...]:
        if hi >= n:  # checked here, or a typo of ten digits would be counted out
            raise ValueError(f"there is no block {hi}")
        return tuple(range(lo, hi + 1))

    return between


def _depth(lo: Fraction, hi: Fraction, word: str) -> Select:
    """Blocks l with lo <= l / L <= hi; fractions, so that 0.3 of 10 blocks is exactly block 3."""
    if lo > hi:
        raise ValueError(f"the range is reversed, {'-'.join(reversed(word.split('-')))} is meant")
    if hi > 1:
        raise ValueError("depths with a decimal point run from 0.0 to 1.0")
    return lambda n: tuple(block for block in range(n) if lo <= Fraction(block, n) <= hi)


def _refuse(word: str) -> NoReturn:
    raise ValueError(f"not a layer range{nearest(word, (*THIRDS, 'all')) if word.isalpha() else ''}")


def _show(spec: object) -> str:
    """Write ``spec`` as it is typed."""
    if isinstance(spec, Sequence) and not isinstance(spec, str):
        return "[" + ",".join(map(str, spec)) + "]"
    return "null" if spec is None else str(spec)
