"""What a selector is, the built-in ones by name, and how far the sets of two agree."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch

from emo.config.schema import SelectorConfig
from emo.core.errors import UserError
from emo.core.targets import load_target
from emo.find import selectors
from emo.find.activation_stats import Statistics
from emo.find.selectors import Ranked, Selection


class Selector(Protocol):
    """Which neurons stand for which class: one function, built in or named by ``selector._target_``.

    It sees the train texts only, through their statistics. The same function is asked for other shares
    (``intervention.ratio_of=population``) and for halves of the texts, so it keeps no state between calls.
    """

    def __call__(self, stats: Statistics, ratio: float, /, *_: Any, **settings: Any) -> Selection | Sequence[Ranked]:
        """Return one set of neurons per class, in the order of ``stats``, each best first.

        Args:
            stats: sums over the tokens of C classes, (C, L, F) each: L blocks, F FFN width, float64.
            ratio: share of the L*F neurons that all classes together get, in (0, 1].
            settings: ``selector.settings`` by keyword; of a built-in one what it needs beyond the statistics.

        Raises:
            UserError: what it was asked for cannot be.
        """


SELECTORS: dict[str, Selector] = {
    "lape": selectors.lape,
    "lap": selectors.lap,
    "mad": selectors.mad,
    "cas": selectors.cas,
    "direct_effect": selectors.direct_effect,
    "random": selectors.random_units,
}


def selector_of(how: SelectorConfig, name: str) -> Selector:
    """Return the built-in selector of a name, or the one that ``selector._target_`` names.

    Raises:
        UserError: there is no such function, or it does not take ``selector.settings``.
    """
    if name in SELECTORS:
        return SELECTORS[name]
    target = str(how._target_)
    function: Selector = load_target(target, "selector._target_", ["__call__"])
    signature = inspect.signature(function)
    try:
        signature.bind(None, how.ratio, **how.settings)
    except TypeError as error:
        plain = [one.replace(annotation=one.empty) for one in signature.parameters.values()]
        called = signature.replace(parameters=plain, return_annotation=signature.empty)
        raise UserError(
            f"selector.settings={how.settings}: {error}; {target}{called} is called with the statistics, the share, "
            "and these by keyword"
        ) from None
    return function


def choose_units(selector: Selector, stats: Statistics, ratio: float, name: str, settings: dict[str, Any]) -> Selection:
    """Return the sets of all classes, as a `Selection` of this name.

    Raises:
        UserError: what a selector of a user's own returns is no set of neurons per class.
    """
    found = selector(stats, ratio, **settings)
    sets = tuple(found.sets if isinstance(found, Selection) else found)
    classes, *shape = stats.active.shape
    if len(sets) != classes:
        raise UserError(f"selector={name}: returns {len(sets)} sets for {classes} classes")
    for i, own in enumerate(sets):
        if why := _wrong(own, shape):
            raise UserError(f"selector={name}: the set of class {i + 1} of {classes}: {why}")
    return Selection(sets, name)


def _wrong(own: object, shape: Sequence[int]) -> str:
    """Return why this is no set of neurons of (L, F); empty where it is one."""
    if not isinstance(own, Ranked):
        return f"a {type(own).__name__}, not an emo.find.selectors.Ranked (layer, unit, score)"
    if len({len(part) for part in own}) > 1 or own.layer.dtype != torch.int64 or own.unit.dtype != torch.int64:
        return "layer, unit and score must be of one length, layer and unit int64"
    for part, most in zip((own.layer, own.unit), shape, strict=True):
        if len(part) and not 0 <= int(part.min()) <= int(part.max()) < most:
            return f"neurons of {int(part.min())} to {int(part.max())}, there are 0 to {most - 1}"
    places = own.layer * shape[1] + own.unit
    return "" if len(places.unique()) == len(places) else "a neuron stands there twice"


def agreement(a: Selection, b: Selection) -> np.ndarray:
    """Return (C, C): Jaccard overlap of every set of ``a`` with every set of ``b``; nan where both are empty."""
    return np.array([[selectors.jaccard(x, y) for y in b.sets] for x in a.sets], dtype=float)
