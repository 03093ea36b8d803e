"""A language model whose sites are named by meaning: what every other room talks to."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
import transformers
from torch import Tensor, nn

from emo.core.errors import UserError
from emo.core.types import Site
from emo.model.experts import Experts, open_experts
from emo.model.families import Family, Side, row_of


class ModelSpec(NamedTuple):
    """A model before its weights are read; hashable, so it is the key of the per-process cache."""

    name: str
    source: str
    id: str
    commit: str  # hub commit, or a hash of the weights' origin
    folder: str  # what from_pretrained is given
    n_layers: int
    dtype: str
    device: str
    device_map: str | None
    chat: str
    local: bool = True  # read from the local cache only
    family: str = ""  # transformers' model_type
    n_heads: int = 0  # per block
    n_neurons: int = 0  # per block
    context: int | None = None  # tokens that it can read, prompt and reply together; None: it states no bound
    parallel: bool = False  # attention and MLP of a block both read its input: there is no resid_mid
    adapter: str = ""  # folder of the LoRA adapter that is merged into the weights; empty: none
    adapter_commit: str = ""  # of its hub repository, or the sha256 of its files

    @property
    def weights(self) -> str:
        """Which weights these are: of a model without an adapter the commit alone."""
        return f"{self.commit}+{self.adapter_commit}" if self.adapter_commit else self.commit

    @property
    def title(self) -> str:
        """What an error names: the repository or folder, or the option where there is none."""
        named = {"hub": f"model.id={self.id}", "local": f"model.path={self.folder}"}
        return named.get(self.source, self.name)

    @property
    def version(self) -> str:
        """Commit or digest, and those of the adapter, short enough to read."""
        what = f"{'sha256' if self.source == 'local' else 'commit'} {self.commit[:12]}"
        if self.source == "tiny":
            what = "random weights, so its numbers mean nothing"
        merged = f", with the adapter {self.adapter_commit[:12]} merged" if self.adapter_commit else ""
        return f"{what}{merged}"

    @property
    def told(self) -> str:
        """Origin, depth, precision and version in words."""
        return f"{self.id}, {self.n_layers} blocks, {self.dtype}, {self.version}"

    @property
    def where(self) -> dict[str, Any]:
        """What transformers is told beside ``folder``: of a hub repository which files."""
        return {"revision": self.commit, "local_files_only": self.local} if self.source == "hub" else {}

    @property
    def identity(self) -> dict[str, str]:
        """What of a model belongs into an address; the plain template's since replies end with their turn."""
        chat = "plain, one turn" if self.chat == "plain" else self.chat
        return {"commit": self.weights, "id": self.id, "dtype": self.dtype, "chat": chat}


def no_site(title: str, kind: str, site: Site) -> str:
    """Return the line that refuses a site that no block of a model type has."""
    return (
        f"{title}: model type '{kind}' has no site '{site}': attention and MLP of its blocks both read the block's "
        "input, so no state stands between them; resid_pre and resid_post are there"
    )


class LM:
    """A decoder-only language model with its sites named by meaning.

    Sizes: ``n_layers`` blocks, ``d`` residual width, ``h`` heads of width ``p``, ``f`` FFN width.
    """

    def __init__(self, model: transformers.PreTrainedModel, tokenizer: Any, spec: ModelSpec) -> None:
        self.model, self.tokenizer, self.spec = model, tokenizer, spec
        self.config = model.config.get_text_config()
        self.kind: str = model.config.model_type
        self.family: Family = row_of(model.config)
        self.decoder: Any = model.base_model.get_submodule(self.family.decoder)  # embedding, blocks, final norm
        self.blocks = self._blocks()
        if self.family.experts is not None:
            open_experts(spec.title, self.blocks, self.family.experts)
        self.n_layers, self.d = len(self.blocks), self.config.hidden_size
        self.h = self.config.num_attention_heads
        self.p = getattr(self.config, "head_dim", None) or self.d // self.h
        self.device: torch.device = next(model.get_input_embeddings().parameters()).device
        self.prefixes: OrderedDict[tuple[int, ...], Any] = OrderedDict()  # prompts already read: emo.model.prefix_cache
        self._head = model.get_output_embeddings()
        self._cap = getattr(self.config, "final_logit_softcapping", None)
        self._over = float(getattr(self.config, self.family.logits_over)) if self.family.logits_over else 1.0

    @property
    def parameters(self) -> int:
        """Number of weights; tied ones count once."""
        return sum(x.numel() for x in self.model.parameters())

    @property
    def f(self) -> int:
        """FFN width; where there are experts, of all of them together."""
        experts = self._experts(0)
        return self.projection(Site.NEURON, 0)[0].shape[1] if experts is None else experts.width

    @property
    def behind(self) -> tuple[Site, Site]:
        """Where the state stands behind the attention and behind the MLP; in a parallel block both are its output."""
        return (Site.RESID_MID if Site.RESID_MID in self.family.sites else Site.RESID_POST), Site.RESID_POST

    def _blocks(self) -> nn.ModuleList:
        try:
            return self.model.get_submodule(self.family.blocks)  # type: ignore[return-value]
        except AttributeError:
            raise UserError(
                f"{self.spec.title}: model type '{self.kind}' has no list of blocks at "
                f"'{self.family.blocks}'; add a row for it to FAMILIES in emo/model/families.py"
            ) from None

    def device_of(self, layer: int) -> torch.device:
        """Return the device of a block, of a model spread over several; where all its sites are read and edited."""
        return next(self.blocks[layer].parameters()).device

    def module(self, site: Site, layer: int) -> tuple[nn.Module, Side]:
        """Return the module that carries ``site`` in block ``layer`` and the side to hook.

        Raises `UserError` where the architecture has no such site, or no such module, saying which and what to type.
        """
        if site not in self.family.sites:
            raise UserError(no_site(self.spec.title, self.kind, site))
        path, side = self.family.sites[site]
        try:
            return self.blocks[layer].get_submodule(path), side
        except AttributeError:
            raise UserError(
                f"{self.spec.title}: model type '{self.kind}': site '{site}' not found at "
                f"'{path}' of block {layer}; add a row for it to FAMILIES in emo/model/families.py"
            ) from None

    def projection(self, site: Site, layer: int) -> tuple[Tensor, Tensor | None]:
        """Return weight (d, w) and bias (d,) of the output projection whose input is ``site``.

        What they give is what is added to the residual stream: a family's factor is in them, and they are float32 then.
        With experts the weight is a copy: the projections of all of them beside one another.

        Args:
            site: ``Site.HEAD`` (w = h*p) or ``Site.NEURON`` (w = f); `ValueError` for another.
            layer: index of the block.
        """
        if site not in (Site.HEAD, Site.NEURON):
            raise ValueError(f"'{site}' is no input of an output projection; use head or neuron")
        module: Any = self.module(site, layer)[0]
        experts = self._experts(layer)
        if site is Site.NEURON and experts is not None:
            return experts.projection(), None
        weight = module.weight if isinstance(module, nn.Linear) else module.weight.T  # GPT-2's Conv1D holds (w, d)
        factor, bias = self.factor(site), module.bias
        if factor == 1:
            return weight, bias
        return weight.float() * factor, None if bias is None else bias.float() * factor

    def factor(self, site: Site) -> float:
        """Return what the output of the sublayer of ``site`` is multiplied with when it is added; 1 on most."""
        if self.family.factor is None or site not in (Site.ATTN_ADD, Site.MLP_ADD, Site.HEAD, Site.NEURON):
            return 1.0
        return float(getattr(self.config, self.family.factor))

    def mlp_input_norm(self, layer: int) -> nn.Module | None:
        """Return the norm in front of the MLP; None: the MLP reads the stream itself.

        Raises `UserError` for a parallel block, in which what the MLP reads does not hang on the block's attention.
        """
        self.module(Site.RESID_MID, layer)
        path = self.family.mlp_input_norm
        return self.blocks[layer].get_submodule(path) if path else None

    def _experts(self, layer: int) -> Experts | None:
        path = self.family.experts
        return None if path is None else self.blocks[layer].get_submodule(path)  # type: ignore[return-value]

    def post_norm(self, site: Site, layer: int) -> nn.Module | None:
        """Return the norm between the output projection of ``site`` and the residual stream; None: there is none."""
        path = self.family.attention_norm if site is Site.HEAD else self.family.mlp_norm
        return self.blocks[layer].get_submodule(path) if path else None

    @property
    def final_norm(self) -> nn.Module:
        """The norm between the last block and the unembedding.

        Raises `UserError` where the architecture has none under its row's name.
        """
        try:
            norm: nn.Module = self.decoder.get_submodule(self.family.final_norm)
            return norm
        except AttributeError:
            raise UserError(
                f"{self.spec.title}: model type '{self.kind}' has no final norm at '{self.family.final_norm}'; add a "
                "row for it to FAMILIES in emo/model/families.py"
            ) from None

    @property
    def unembedding(self) -> Tensor:
        """The weight (V, d) that turns final states into logits."""
        weight: Tensor = self._head.weight
        return weight

    def hidden(
        self, ids: Tensor, positions: Tensor, key_positions: Tensor, visible: Tensor, cache: transformers.DynamicCache
    ) -> Tensor:
        """Run the blocks and the final norm.

        Args:
            ids: (b, t) token ids.
            positions: (b, t) position ids.
            key_positions: (b, k) positions of all keys, the new tokens' included.
            visible: (b, t, k) True where a token sees a key, before any sliding window.
            cache: keys and values of the earlier tokens; built without a config, so that it keeps all.

        Returns:
            (b, t, d) final hidden states.
        """
        out = self.decoder(
            input_ids=ids,
            attention_mask=self._mask(positions, key_positions, visible),
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
        )
        return out.last_hidden_state

    @contextmanager
    def skipping(self, first: int) -> Iterator[None]:
        """Make the blocks below ``first`` hand on what they are given, inside the context.

        They neither read nor write keys and values, so the cache of a skipped block does not grow: whoever goes
        back to an earlier length must ask every block for its own (`emo.model.prefix_tree.TokenTrees.rewind`).
        """
        device = self.device_of(first)

        def hand_on(hidden_states: Tensor, *_: Any, **__: Any) -> Tensor:
            return hidden_states.to(device)

        # An attribute of the instance goes before the class's method; a model on several devices has one already.
        before = [(vars(block), vars(block).get("forward")) for block in self.blocks[:first]]
        try:
            for own, _ in before:
                own["forward"] = hand_on
            yield
        finally:
            for own, forward in before:
                del own["forward"]
                if forward is not None:
                    own["forward"] = forward

    @property
    def head_device(self) -> torch.device:
        """Where logits are computed."""
        return self._head.weight.device

    def logits(self, hidden: Tensor) -> Tensor:
        """Return float32 logits (..., V) of final hidden states (..., d)."""
        out = self._head(hidden.to(self.head_device)).float()
        out = out if self._over == 1 else out / self._over
        return self._cap * torch.tanh(out / self._cap) if self._cap else out

    def _mask(self, query: Tensor, key: Tensor, visible: Tensor) -> Tensor | dict[str, Tensor]:
        """Return the 4D mask that this family takes: one, or one per layer type; boolean or additive."""
        window = getattr(self.config, "sliding_window", None)
        near = visible & (query[:, :, None] - key[:, None, :] < window) if window else visible
        kinds = getattr(self.config, "layer_types", None)
        if kinds:
            return {k: self._form(near if k == "sliding_attention" else visible) for k in set(kinds)}
        return self._form(near)

    def _form(self, visible: Tensor) -> Tensor:
        mask = visible[:, None]
        if self.config._attn_implementation != "eager":
            return mask
        dtype = self.model.dtype
        return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill(~mask, torch.finfo(dtype).min)

    def stop_ids(self) -> set[int]:
        """Return the token ids that end a reply."""
        ends = self.model.generation_config.eos_token_id if self.model.generation_config else None
        ids = set(ends if isinstance(ends, list) else [ends])
        return {int(i) for i in ids | {self.tokenizer.eos_token_id} if i is not None}
