"""Modules of a model that its row does not name, found from those that it does: tests of a new family need no list."""

from __future__ import annotations

from torch import Tensor, nn

from emo.core.types import Site
from emo.model.lm import LM


def parent(lm: LM, site: Site) -> str:
    """Return the path of the sublayer whose output projection reads ``site``."""
    return lm.family.sites[site][0].rpartition(".")[0]


def inward(lm: LM, layer: int, site: Site) -> dict[str, nn.Module]:
    """Return the projections that a sublayer reads its input by, by path in the block, in their order."""
    own, last = parent(lm, site), lm.family.sites[site][0]
    found = {f"{own}.{name}": module for name, module in lm.blocks[layer].get_submodule(own).named_children()}
    return {
        path: module
        for path, module in found.items()
        if path != last and isinstance(weight := getattr(module, "weight", None), Tensor) and weight.ndim == 2
    }


def _rows(module: nn.Module) -> Tensor:
    """Return the weight with a row per output: GPT-2's Conv1D holds a column."""
    weight: Tensor = module.get_parameter("weight")
    return weight if isinstance(module, nn.Linear) else weight.T


def queries(lm: LM, layer: int) -> Tensor:
    """Return the rows (h*p, d) that make the queries: the first ones, fused with keys and values or not."""
    return _rows(next(iter(inward(lm, layer, Site.HEAD).values())))[: lm.h * lm.p]


def ups(lm: LM, layer: int) -> tuple[str, Tensor]:
    """Return the path of the up projection and its rows (f, d): the last ones, fused with the gate or not."""
    path, module = list(inward(lm, layer, Site.NEURON).items())[-1]
    return path, _rows(module)[-lm.f :]


def gated(lm: LM) -> bool:
    """Return whether neurons are products of a gate and an up projection."""
    return lm.family.sites[Site.GATE] != lm.family.sites[Site.NEURON]


def norms(module: nn.Module) -> list[str]:
    """Return the names of the norms in a module, in their order."""
    return [name for name, _ in module.named_children() if "norm" in name or name.startswith("ln_")]


def final_norm(lm: LM) -> nn.Module:
    """Return the norm behind the last block."""
    return lm.model.base_model.get_submodule(norms(lm.model.base_model)[-1])
