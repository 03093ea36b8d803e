"""Checks of single values: numbers, lists of them, names of a list; each refuses in one line."""

from __future__ import annotations

import math
from typing import TypeGuard

from omegaconf import DictConfig

from emo.core.errors import UserError, nearest

LARGEST = 1e4  # of strengths, in any unit: float16 ends at 65504, and beyond this nothing of a state is left
DIVERGENCE = "kl:"  # of strengths: found, so that the edited model diverges by so many nats

ONE_OR_MORE = ("people", "labellers")  # of agreement: lists that are mostly of one, typed without brackets then


def listed(config: DictConfig) -> DictConfig:
    """Return a composed configuration in which one file of people, or one labeller, is a list of one."""
    section = config.get("agreement")
    single = {key: section[key] for key in ONE_OR_MORE if isinstance(section.get(key), str)} if section else {}
    if not single:
        return config
    made = config.copy()
    made["agreement"] = {**section, **{key: [value] for key, value in single.items()}}
    return made


def check_number(
    key: str,
    value: object,
    *,
    above: float = -math.inf,
    below: float = math.inf,
    low: float = -math.inf,
    high: float = math.inf,
) -> None:
    """Refuse what is no finite number within bounds; ``above`` and ``below`` are outside of them."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UserError(f"{key}={shown_value(value)}: a finite number is needed")
    if not (above < value < below and low <= value <= high):
        bounds = f"from {low:g} to {high:g}" if math.isfinite(low) else f"above {above:g}"
        bounds += f" and below {below:g}" if math.isfinite(below) else ""
        raise UserError(f"{key}={value}: a number {bounds} is needed")


def check_numbers(key: str, value: object, forms: str) -> None:
    """Refuse what is no finite number, or list of different ones; ``forms`` says what may be typed."""
    values = value if isinstance(value, list) else [value]
    for item in values:
        if isinstance(item, bool) or not isinstance(item, int | float) or not math.isfinite(item):
            given = shown_value(value)
            raise UserError(
                f"{key}={given}: {shown_value(item)} is no finite number{nearest(item, ['auto'])}; type {forms}"
            )
        check_size(key, item)
    if not values or len(set(values)) < len(values):
        raise UserError(f"{key}={shown_value(value)}: a list needs at least one number and none twice")


def check_size(key: str, value: float) -> None:
    """Refuse a strength beyond anything that a state can hold."""
    if abs(value) > LARGEST:
        raise UserError(f"{key}={value:g}: far beyond any activation; type numbers from -{LARGEST:g} to {LARGEST:g}")


def divergence_of(value: object) -> float | None:
    """Return the nats that ``kl:1.0`` asks for; None: the value is another."""
    return float(value.removeprefix(DIVERGENCE)) if asks_divergence(value) else None


def asks_divergence(value: object) -> TypeGuard[str]:
    """Return whether a strength is given as a divergence, rightly or not (`one_divergence` checks it)."""
    return isinstance(value, str) and value.partition(":")[0].strip().lower() == DIVERGENCE[:-1]


def one_divergence(key: str, value: str) -> str:
    """Return ``kl:NATS`` as it stands in addresses: kl:1 and kl:1.0 are one choice.

    Raises:
        UserError: no number above 0 stands behind the colon.
    """
    try:
        nats = float(value.partition(":")[2])
    except ValueError:
        nats = math.nan
    if not (math.isfinite(nats) and nats > 0):
        raise UserError(f"{key}={value}: behind kl: a number of nats above 0 is needed, e.g. {key}=kl:1.0")
    return f"{DIVERGENCE}{nats:g}"


def check_subset(key: str, given: list[str], allowed: tuple[str, ...] | list[str], at_least: int) -> None:
    """Refuse names that are not allowed, twice the same, or too few."""
    for name in given:
        if name not in allowed:
            raise UserError(f"{key}: {name} is not one of {', '.join(allowed)}{nearest(name, allowed)}")
    if len(set(given)) < len(given):
        raise UserError(f"{key}={shown_value(given)}: a name stands there twice")
    if len(given) < at_least:
        raise UserError(
            f"{key}={shown_value(given)}: at least {at_least} of {', '.join(allowed) or 'its values'} needed"
        )


def shown_value(value: object) -> str:
    """Write a value as it is typed."""
    if isinstance(value, list):
        return "[" + ",".join(map(shown_value, value)) + "]"
    return "null" if value is None else str(value)
