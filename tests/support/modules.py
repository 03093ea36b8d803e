"""Modules of a model that its row does not name, found from those that it does: tests of a new family need no list."""

from __future__ import annotations

import torch
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


def query(lm: LM, layer: int, head: int) -> Tensor:
    """Return the rows (p, d) that make the query of a head: among the first ones, fused with keys and values or not.

    GPT-NeoX puts query, key and value of a head beside one another.
    """
    rows = _rows(next(iter(inward(lm, layer, Site.HEAD).values())))
    start = head * lm.p * (3 if lm.kind == "gpt_neox" else 1)
    return rows[start : start + lm.p]


def ups(lm: LM, layer: int) -> tuple[str, Tensor]:
    """Return the path of the up projection and its rows (f, d): the last ones, fused with the gate or not."""
    path, module = list(inward(lm, layer, Site.NEURON).items())[-1]
    return path, _rows(module)[-lm.f :]


def experts(lm: LM, layer: int) -> nn.Module | None:
    """Return the module that holds the experts' weights, gate_up_proj (n, 2 f, d) and down_proj (n, d, f)."""
    return getattr(lm.blocks[layer].get_submodule(parent(lm, Site.NEURON)), "experts", None)


def up_row(lm: LM, layer: int, unit: int) -> Tensor:
    """Return the row (d) of the up projection that a neuron reads by."""
    own = experts(lm, layer)
    if own is None:
        return ups(lm, layer)[1][unit]
    expert, column = divmod(unit, own.get_parameter("down_proj").shape[2])
    return own.get_parameter("gate_up_proj")[expert, own.get_parameter("down_proj").shape[2] + column]


def columns(lm: LM, layer: int) -> tuple[Tensor, Tensor]:
    """Return what every neuron adds per unit of its activation, (f, d), and the bias (d), before any post-norm."""
    factor = getattr(lm.config, "residual_multiplier", 1.0)
    own = experts(lm, layer)
    if own is not None:
        return own.get_parameter("down_proj").transpose(1, 2).flatten(0, 1), torch.zeros(lm.d)
    module = lm.module(Site.NEURON, layer)[0]
    bias = getattr(module, "bias", None)
    return factor * _rows(module).T, torch.zeros(lm.d) if bias is None else factor * bias


def gated(lm: LM) -> bool:
    """Return whether neurons are products of a gate and an up projection."""
    return lm.family.sites[Site.GATE] != lm.family.sites[Site.NEURON]


def norms(module: nn.Module) -> list[str]:
    """Return the names of the norms in a module, in their order."""
    return [name for name, _ in module.named_children() if "norm" in name or name.startswith("ln_")]


def final_norm(lm: LM) -> nn.Module:
    """Return the norm behind the last block."""
    return lm.decoder.get_submodule(norms(lm.decoder)[-1])
