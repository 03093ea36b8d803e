"""Which peers there are, the package that each needs, and what it is run on; a package is imported when it is run.

``NAME`` runs one forward pass per number, as a user of the package writes it; ``NAME_cached`` is an expert's version
with a prefix cache made by hand (`bench.peers.rows`). A package has a copy of the weights of its own, read from a
folder: some leave wrappers on the modules that they are given.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any, NamedTuple

from emo.model.lm import LM

# peer -> case -> what runs it, given `bench.cases.Case.given`
Runs = dict[str, dict[str, Callable[..., Any]]]
CURVES = ("head_importance", "k_curve")
INSTALL = "make bench-peers"


class Group(NamedTuple):
    """A package and the peers that are run with it."""

    module: str  # of bench.peers; it has opened(lm, folder) -> Runs
    package: str | None  # its import name; None: nothing beyond what we need ourselves
    cases: dict[str, tuple[str, ...]]  # peer -> the cases that it is run on
    cannot: dict[str, str] = {}  # case -> why no peer of this package is run on it

    @property
    def installed(self) -> bool:
        """Whether the package is there; it may fail to be imported all the same."""
        return self.package is None or find_spec(self.package) is not None

    def opened(self, lm: LM, folder: str) -> Runs:
        """Return what runs the peers; ``folder`` holds the weights and the tokenizer of ``lm``."""
        return importlib.import_module(f"bench.peers.{self.module}").opened(lm, folder)

    def versions(self) -> dict[str, str]:
        """Return the version of the package, by its name on the registry."""
        name = (self.package or "").replace("_", "-")
        return {name: version(name)} if self.package and self.installed else {}


def _both(name: str) -> Group:
    return Group(name, name, {name: CURVES, f"{name}_cached": CURVES})


ADDS = "cannot: it adds vectors to blocks, and neither zeroes units nor reads states"
GROUPS: dict[str, Group] = {
    "naive": Group(
        "plain",
        None,
        {
            "naive": (*CURVES, "head_importance_batch", "sublayer_importance", "capture", "generation"),
            "naive_cached": CURVES,
        },
    ),
    "nnsight": _both("nnsight"),
    "transformer_lens": _both("transformer_lens"),
    "pyvene": _both("pyvene"),
    "steering_vectors": Group(
        "steering_vectors", "steering_vectors", {"steering_vectors": ("generation",)}, dict.fromkeys(CURVES, ADDS)
    ),
}
NAMES = tuple(peer for group in GROUPS.values() for peer in group.cases)
