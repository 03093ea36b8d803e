"""Where each site lives, per family: the only file that knows architecture names.

A row maps a site to (module path inside a block, which side of that module). To support another
architecture add one row; `emo.model.verify` then checks the residual contract when a model is loaded.

Where a row gives a key of the configuration (``factor``, ``logits_over``, ``parallel``), the model's own value counts.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from emo.core.types import Site

Side = Literal["in", "out"]


class Family(NamedTuple):
    """Module paths of one architecture."""

    blocks: str  # path of the list of decoder blocks
    sites: dict[Site, tuple[str, Side]]
    attention_norm: str | None = None  # norm applied to attention's output before it is added
    mlp_norm: str | None = None  # the same for the MLP
    mlp_input_norm: str | None = "post_attention_layernorm"  # norm in front of the MLP; None: it reads the stream
    eager: bool = False  # needs eager attention (soft-capped attention scores)
    decoder: str = ""  # path of the text model in the base model, of a family that reads images too
    factor: str | None = None  # key of the configuration: what a sublayer's output is multiplied with when it is added
    logits_over: str | None = None  # key of the configuration: what logits are divided by
    parallel: str | None = None  # key of the configuration: attention and MLP both read the block's input
    experts: str | None = None  # path of the MLP of which every token takes a few experts
    final_norm: str = "norm"  # between the last block and the unembedding
    expert_keys: tuple[str, str] = ("num_experts", "moe_intermediate_size")  # of the configuration: how many, how wide


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
_OLMO2_SITES: dict[Site, tuple[str, Side]] = _GEMMA_SITES | {Site.RESID_MID: ("mlp", "in")}  # no norm in front of it
_EXPERT_SITES: dict[Site, tuple[str, Side]] = _LLAMA_SITES | {  # of `emo.model.experts`
    Site.NEURON: ("mlp.neurons", "out"),
    Site.GATE: ("mlp.gates", "out"),
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
_NEOX_SITES: dict[Site, tuple[str, Side]] = _LLAMA_SITES | {
    Site.ATTN_ADD: ("attention", "out"),
    Site.HEAD: ("attention.dense", "in"),
    Site.NEURON: ("mlp.dense_4h_to_h", "in"),
    Site.GATE: ("mlp.dense_4h_to_h", "in"),
}

LLAMA = Family("model.layers", _LLAMA_SITES)
GEMMA = Family(
    "model.layers",
    _GEMMA_SITES,
    attention_norm="post_attention_layernorm",
    mlp_norm="post_feedforward_layernorm",
    mlp_input_norm="pre_feedforward_layernorm",
)
EXPERTS = Family("model.layers", _EXPERT_SITES, experts="mlp")

FAMILIES: dict[str, Family] = {
    "llama": LLAMA,
    "mistral": LLAMA,
    "ministral": LLAMA,
    "qwen2": LLAMA,
    "qwen3": LLAMA,
    "smollm3": LLAMA,
    "granite": LLAMA._replace(factor="residual_multiplier", logits_over="logits_scaling"),
    "phi3": LLAMA._replace(sites=_LLAMA_SITES | {Site.GATE: ("mlp.activation_fn", "out")}),  # fused projections
    "gemma2": GEMMA._replace(eager=True),
    "gemma3_text": GEMMA,
    "gemma3": GEMMA._replace(blocks="model.language_model.layers", decoder="language_model"),
    "olmo2": GEMMA._replace(sites=_OLMO2_SITES, mlp_input_norm=None),
    "mixtral": EXPERTS._replace(expert_keys=("num_local_experts", "intermediate_size")),
    "qwen3_moe": EXPERTS,
    "gpt2": Family("transformer.h", _GPT2_SITES, mlp_input_norm="ln_2", final_norm="ln_f"),
    "gpt_neox": Family("gpt_neox.layers", _NEOX_SITES, parallel="use_parallel_residual", final_norm="final_layer_norm"),
}


def family_of(model_type: str) -> Family:
    """Return the row of ``model_type``; an unknown one is tried as LLaMA and must pass verification."""
    return FAMILIES.get(model_type, LLAMA)


def row_of(config: Any) -> Family:
    """Return the row of a model's configuration, without the sites that its blocks do not have."""
    family = family_of(config.model_type)
    if family.parallel and getattr(config, family.parallel):
        return family._replace(
            sites={site: place for site, place in family.sites.items() if site is not Site.RESID_MID}
        )
    return family


def is_parallel(config: Any) -> bool:
    """Return whether the blocks of a model have no state between attention and MLP."""
    return Site.RESID_MID not in row_of(config).sites


def experts_of(config: Any) -> tuple[int, int] | None:
    """Return how many experts a block has and how wide each is; None: none."""
    family = family_of(config.model_type)
    if family.experts is None:
        return None
    count, width = (int(getattr(config, key)) for key in family.expert_keys)
    return count, width


def dense_keys(config: Any) -> dict[str, Any]:
    """Return what in a configuration gives some blocks one MLP where others have experts; empty: blocks are alike."""
    if family_of(config.model_type).experts is None:
        return {}
    told = {key: getattr(config, key, None) for key in ("mlp_only_layers", "decoder_sparse_step")}
    return {key: value for key, value in told.items() if value not in (None, [], 1)}
