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
from emo.model.families import Family, Side, family_of


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

    @property
    def title(self) -> str:
        """What an error names: the repository, or the option where there is none."""
        return f"model.id={self.id}" if self.source == "hub" else self.name

    @property
    def identity(self) -> dict[str, str]:
        """What of a model belongs into an address; the plain template's since replies end with their turn."""
        chat = "plain, one turn" if self.chat == "plain" else self.chat
        return {"commit": self.commit, "id": self.id, "dtype": self.dtype, "chat": chat}


class LM:
    """A decoder-only language model with its sites named by meaning.

    Sizes: ``n_layers`` blocks, ``d`` residual width, ``h`` heads of width ``p``, ``f`` FFN width.
    """

    def __init__(self, model: transformers.PreTrainedModel, tokenizer: Any, spec: ModelSpec) -> None:
        self.model, self.tokenizer, self.spec = model, tokenizer, spec
        self.config = model.config
        self.family: Family = family_of(self.config.model_type)
        self.blocks = self._blocks()
        self.n_layers, self.d = len(self.blocks), self.config.hidden_size
        self.h = self.config.num_attention_heads
        self.p = getattr(self.config, "head_dim", None) or self.d // self.h
        self.device: torch.device = next(model.get_input_embeddings().parameters()).device
        self.prefixes: OrderedDict[tuple[int, ...], Any] = OrderedDict()  # prompts already read: emo.model.prefix_cache
        self._head = model.get_output_embeddings()
        self._cap = getattr(self.config, "final_logit_softcapping", None)

    @property
    def parameters(self) -> int:
        """Number of weights; tied ones count once."""
        return sum(x.numel() for x in self.model.parameters())

    @property
    def f(self) -> int:
        """FFN width."""
        return self.projection(Site.NEURON, 0)[0].shape[1]

    def _blocks(self) -> nn.ModuleList:
        try:
            return self.model.get_submodule(self.family.blocks)  # type: ignore[return-value]
        except AttributeError:
            raise UserError(
                f"{self.spec.title}: model type '{self.config.model_type}' has no list of blocks at "
                f"'{self.family.blocks}'; add a row for it to FAMILIES in emo/model/families.py"
            ) from None

    def device_of(self, layer: int) -> torch.device:
        """Return the device of a block, of a model spread over several; where all its sites are read and edited."""
        return next(self.blocks[layer].parameters()).device

    def module(self, site: Site, layer: int) -> tuple[nn.Module, Side]:
        """Return the module that carries ``site`` in block ``layer`` and the side to hook.

        Raises `UserError` where the architecture has no such module, saying which site and what to add.
        """
        path, side = self.family.sites[site]
        try:
            return self.blocks[layer].get_submodule(path), side
        except AttributeError:
            raise UserError(
                f"{self.spec.title}: model type '{self.config.model_type}': site '{site}' not found at "
                f"'{path}' of block {layer}; add a row for it to FAMILIES in emo/model/families.py"
            ) from None

    def projection(self, site: Site, layer: int) -> tuple[Tensor, Tensor | None]:
        """Return weight (d, w) and bias (d,) of the output projection whose input is ``site``.

        Args:
            site: ``Site.HEAD`` (w = h*p) or ``Site.NEURON`` (w = f); `ValueError` for another.
            layer: index of the block.
        """
        if site not in (Site.HEAD, Site.NEURON):
            raise ValueError(f"'{site}' is no input of an output projection; use head or neuron")
        module: Any = self.module(site, layer)[0]
        weight = module.weight if isinstance(module, nn.Linear) else module.weight.T  # GPT-2's Conv1D holds (w, d)
        return weight, module.bias

    def post_norm(self, site: Site, layer: int) -> nn.Module | None:
        """Return the norm between the output projection of ``site`` and the residual stream; None: there is none."""
        path = self.family.attention_norm if site is Site.HEAD else self.family.mlp_norm
        return self.blocks[layer].get_submodule(path) if path else None

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
        out = self.model.base_model(
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
