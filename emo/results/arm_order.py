"""The order of arms in every table and figure: unedited, prompted, edited, then their controls."""

from __future__ import annotations

from collections.abc import Iterable

DEVICES = ("humour", "hyperbole", "literal", "metaphor", "sarcasm")  # rhetorical, that may be injected
ORDER = (
    *("none", "prompt", "steer", "prompt_steer", "mask", "adaptive_mask", "induce"),
    *("random", "shuffled", "prompt_random", "prompt_shuffled"),
    *("circuit", "prompt_circuit", "ablate_circuit", "random_circuit", "shuffled_circuit", "other_circuit"),
    *("circuit_neurons", "circuit_heads", "matched_steer", "other_emotion"),
    *(f"inject_{device}" for device in DEVICES),
)


def base_name(arm: str) -> str:
    """Return an arm's name without its strength: ``steer`` of ``steer@alpha=0.5``."""
    return arm.partition("@")[0]


def sort_arms(names: Iterable[str]) -> list[str]:
    """Return arms as tables show them: none, prompt, steer, prompt_steer, random, shuffled, then others.

    ``steer@alpha=0.5`` follows ``steer``; several such follow each other as they were given.
    """
    wanted = list(dict.fromkeys(names))
    bases = list(dict.fromkeys(base_name(name) for name in wanted))
    rank = {base: ORDER.index(base) if base in ORDER else len(ORDER) + i for i, base in enumerate(bases)}
    return sorted(wanted, key=lambda name: (rank[base_name(name)], "@" in name))
