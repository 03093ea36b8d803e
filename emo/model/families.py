"""Where each site lives, per family: the only file that knows architecture names.

A row maps a site to (module path inside a block, which side of that module). To support another
architecture add one row; `emo.model.verify` then checks the residual contract when a model is loaded.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from emo.core.types import Site

Side = Literal["in", "out"]


class Family(NamedTuple):
    """Module paths of one architecture."""

    blocks: str  # path of the list of decoder blocks
    sites: dict[Site, tuple[str, Side]]
    attention_norm: str | None = None  # norm applied to attention's output before it is added
    mlp_norm: str | None = None  # the same for the MLP
    eager: bool = False  # needs eager attention (soft-capped attention scores)


_LLAMA_SITES: dict[Site, tuple[str, Side]] = {
    Site.RESID_PRE: ("", "in"),
    Site.RESID_MID: ("post_attention_layernorm", "in"),
    Site.RESID_POST: ("", "out"),
    Site.ATTN_ADD: ("self_attn", "out"),
    Site.MLP_ADD: ("mlp", "out"),
    Site.HEAD: ("self_attn.o_proj", "in"),
    Site.NEURON: ("mlp.down_proj", "in"),
    Site.GATE: ("mlp.act_fn", "out"),
}
_GEMMA_SITES: dict[Site, tuple[str, Side]] = _LLAMA_SITES | {
    Site.RESID_MID: ("pre_feedforward_layernorm", "in"),
    Site.ATTN_ADD: ("post_attention_layernorm", "out"),
    Site.MLP_ADD: ("post_feedforward_layernorm", "out"),
}
_GPT2_SITES: dict[Site, tuple[str, Side]] = {
    Site.RESID_PRE: ("", "in"),
    Site.RESID_MID: ("ln_2", "in"),
    Site.RESID_POST: ("", "out"),
    Site.ATTN_ADD: ("attn", "out"),
    Site.MLP_ADD: ("mlp", "out"),
    Site.HEAD: ("attn.c_proj", "in"),
    Site.NEURON: ("mlp.c_proj", "in"),
    Site.GATE: ("mlp.c_proj", "in"),  # no gated MLP: gate = neuron
}

LLAMA = Family("model.layers", _LLAMA_SITES)
GEMMA = Family(
    "model.layers",
    _GEMMA_SITES,
    attention_norm="post_attention_layernorm",
    mlp_norm="post_feedforward_layernorm",
)

FAMILIES: dict[str, Family] = {
    "llama": LLAMA,
    "mistral": LLAMA,
    "qwen2": LLAMA,
    "qwen3": LLAMA,
    "gemma2": GEMMA._replace(eager=True),
    "gemma3_text": GEMMA,
    "gpt2": Family("transformer.h", _GPT2_SITES),
}


def family_of(model_type: str) -> Family:
    """Return the row of ``model_type``; an unknown one is tried as LLaMA and must pass verification."""
    return FAMILIES.get(model_type, LLAMA)
