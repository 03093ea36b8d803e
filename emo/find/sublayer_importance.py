"""Sublayer importance (methods 1.9): how far a push on one sublayer moves the final state along the reference.

    I[a, e, l, p] = < h_final' - h_final, v_ref[e] > / (alpha_a * sigma[l, p])

h_final' is the final state when alpha_a * sigma[l, p] * v_local is added to what sublayer p of block l adds
(attn_add, mlp_add) at the last token of an emotion-free prompt; v_local = sign[e, l, p] * v[e, l, p]; mean over
prompts. h_final is resid_post of the last block, or the state behind the final norm.

    sigma update:   mean over prompts of the root mean square of attn_add, mlp_add (the paper's)
    sigma residual: the same of the whole stream behind the sublayer, resid_mid, resid_post, over the prompts that ask
                    for emotion e, its accepted samples: sigma[e,l,p] (the released code's)

I is a plain number: what arrives along v_ref per unit of what was added; the direct path alone gives <v_local, v_ref>.

All conditions of a prompt are one-token rows over its shared prefix (`emo.model.prefix_tree`), and below the block
that is edited all rows hold the same state. So one row per prompt reads the inputs of all blocks, and the rows of a
block start there: the blocks below are skipped. Memory holds one pass, whatever the number of prompts. A model of
half precision computes in float32 here: small pushes drown in its rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, product
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from emo.core.console import progress
from emo.core.partial import Running
from emo.core.types import Site, Tokens
from emo.find.directions import ATTN, MLP
from emo.find.rank_correlation import spearman
from emo.find.reference import Reference
from emo.model.hooks import Cursor, Edit, edited, reading
from emo.model.lm import LM
from emo.model.ops import Add, PatchActivation
from emo.model.passes import NO_EDIT, Row, TreeBatch, in_passes
from emo.model.precise import in_float32
from emo.model.prefix_tree import SHARED, Block, Places, TokenTrees
from emo.model.prompt_cache import PromptCache, last_tokens

ADDED = (Site.ATTN_ADD, Site.MLP_ADD)  # in the order of ATTN, MLP
SIGMAS = ("update", "residual")
FINALS = ("resid", "normed")


class Importance(NamedTuple):
    """What was measured; the last axis of every tensor is attention, MLP."""

    values: Tensor  # (a, e, l, 2) float32 importance
    sigma: Tensor  # (l, 2), of the residual (e, l, 2): root mean square that alpha is a share of
    norm: Tensor  # (l, 2) mean Euclidean norm of the states behind (`LM.behind`) at the last token


class Pushes(NamedTuple):
    """The conditions of every prompt: which sublayer is pushed, how far, for which emotion; all (c,)."""

    sublayer: Tensor
    alpha: Tensor
    emotion: Tensor

    def of(self, which: Tensor) -> Pushes:
        """Return some of them."""
        return Pushes(*(column[which] for column in self))


def sublayer_importance(
    lm: LM,
    prompts: Sequence[Sequence[int]],
    v: Float[Tensor, "e l 2 d"],
    ref: Reference,
    alphas: Sequence[float],
    batch_size: int,
    sigma_of: str = "update",
    final: str = "resid",
    label: str = "importance",
    asked: Sequence[Sequence[Sequence[int]]] | None = None,
) -> Importance:
    """Push every sublayer along its own direction and measure what arrives along the reference.

    Args:
        lm: the model.
        prompts: token ids of emotion-free prompts.
        v: (e, l, 2, d) unit directions.
        ref: of ``v``, see `emo.find.reference.reference`.
        alphas: a strengths, none of them 0, in units of sigma.
        batch_size: prompts in one forward pass; the numbers do not depend on it.
        sigma_of: update | residual.
        final: resid | normed.
        label: name of the progress bars.
        asked: with ``sigma_of: residual``, per emotion the token ids of the prompts that ask for it, over which its
            sigma is taken; None: over ``prompts``.

    Returns:
        Importance; nan where a sublayer adds nothing at all, so that sigma is 0.

    Raises:
        ValueError: another ``sigma_of`` or ``final``.
    """
    if sigma_of not in SIGMAS or final not in FINALS:
        raise ValueError(f"sigma_of={sigma_of!r}, final={final!r}: one of {', '.join(SIGMAS)}; {', '.join(FINALS)}")
    with in_float32(lm):
        return _importance(lm, prompts, v, ref, alphas, batch_size, sigma_of, final, label, asked)


def _importance(
    lm: LM,
    prompts: Sequence[Sequence[int]],
    v: Tensor,
    ref: Reference,
    alphas: Sequence[float],
    batch_size: int,
    sigma_of: str,
    final: str,
    label: str,
    asked: Sequence[Sequence[Sequence[int]]] | None,
) -> Importance:
    states = lm.behind
    own_sites = ADDED if sigma_of == "update" else states
    sites = tuple(dict.fromkeys((*own_sites, *states)))
    norms = dict(zip(sites, mean_norms(lm, prompts, sites, batch_size, f"{label}: sigma"), strict=True))
    norm = torch.stack([norms[site] for site in states], -1).float()
    if sigma_of == "residual" and asked is not None:
        own = [mean_norms(lm, ids, states, batch_size, f"{label}: sigma", k) for k, ids in enumerate(asked)]
        sigma = torch.stack(own).permute(0, 2, 1).float() * lm.d**-0.5
    else:
        sigma = torch.stack([norms[site] for site in own_sites], -1).float() * lm.d**-0.5
    sizes = sigma.expand(len(v), lm.n_layers, 2)

    shape = (2, len(alphas), len(v))
    sublayer, strength, emotion = torch.tensor(list(product((ATTN, MLP), alphas, range(len(v))))).unbind(-1)
    pushes = Pushes(sublayer.long(), strength.float(), emotion.long())
    conditions = len(pushes.alpha)
    rows = [Row(p, c) for p in range(len(prompts)) for c in range(conditions)]
    local, sizes = (ref.sign[..., None] * v).to(lm.device), sizes.to(lm.device)
    ref = Reference(*(x.to(lm.device) for x in ref))
    sums = torch.zeros(conditions, lm.n_layers, dtype=torch.float64)
    prompt_cache = PromptCache(lm, prompts, [])
    running = Running("importance", label, "rows", len(rows), lambda: {"sums": sums})
    running.restore({"sums": sums})
    left = running.left()
    todo = [rows[i] for i in left]
    with progress(label, len(todo) * lm.n_layers, "rows") as bar:

        def run(tree_batch: TreeBatch) -> tuple[Tensor, Tensor]:
            which = torch.tensor([todo[i].cond for members in tree_batch.rows for i in members])
            rays = _Rays(lm, prompt_cache, tree_batch, pushes.of(which), final)
            moved = []
            for layer in range(lm.n_layers):
                moved.append(rays.cast(layer, local[:, layer], sizes[:, layer], ref.v_ref))
                bar.advance(len(which))
            return which, torch.stack(moved, 1).cpu().double()  # the one wait for the device

        for tree_batch, (which, moved) in in_passes(prompt_cache.passes(todo, batch_size), run):
            with running.adding(left[i] for members in tree_batch.rows for i in members):
                sums.index_add_(0, which, moved)
    values = (sums / len(prompts)).view(*shape, lm.n_layers).permute(1, 2, 3, 0)
    return Importance(values.float().contiguous(), sigma.contiguous(), norm)


def rank_stability(values: Float[Tensor, "a e l 2"]) -> Float[Tensor, " e"]:
    """Return Spearman's correlation (e,) of the 2l importances, mean over all pairs of alphas.

    Args:
        values: (a, e, l, 2) importances.

    Returns:
        nan for a single alpha, and where the importances of one are all equal.
    """
    ranked = values.flatten(2).double().numpy()  # (a, e, 2l)
    pairs = [spearman(ranked[a], ranked[b]) for a, b in combinations(range(len(ranked)), 2)]
    return torch.from_numpy(np.mean(pairs, 0) if pairs else np.full(values.shape[1], np.nan)).float()


class _Rays:
    """The rows of one pass over their shared prefixes: clean states read once, then pushed at any block."""

    def __init__(self, lm: LM, prompt_cache: PromptCache, tree_batch: TreeBatch, pushes: Pushes, final: str) -> None:
        self.lm, self.final = lm, final
        self.pushes = Pushes(*(column.to(lm.device) for column in pushes))
        self.tree_cache = prompt_cache.place(tree_batch, Cursor())
        self.start = self.tree_cache.position.shape[1]
        self.inputs: list[Tensor] = []  # per block (trees, d)

        def keep(_: Site, __: int, x: Tensor) -> None:
            self.inputs.append(x[:, -1])

        with reading(lm, [(Site.RESID_PRE, layer) for layer in range(lm.n_layers)], keep):
            self.clean = self._final(_last_prompt_tokens(lm, prompt_cache, tree_batch))[:, -1]
        self.tree_cache.rewind(self.start)

        rows = iter(range(len(pushes.alpha)))  # every row is a condition of its own
        pieces = [
            [prompt_cache.starts(p, SHARED + 1 + k, next(rows)) for k in range(len(members))]
            for p, members in zip(tree_batch.prompts, tree_batch.rows, strict=True)
        ]
        self.block = Block.pad([[t for piece in tree for t in piece] for tree in pieces], lm.device)
        self.places = Places.of(last_tokens(self.block, pieces), lm.device)

    def cast(self, layer: int, local: Tensor, sigma: Tensor, v_ref: Tensor) -> Tensor:
        """Return the importance (rows,) of the sublayers of one block, on the model's device.

        Args:
            layer: block.
            local: (e, 2, d) what is added, unit vectors.
            sigma: (e, 2) size of alpha 1.
            v_ref: (e, d) unit vectors.
        """
        pushed, alpha, emotion = self.pushes
        size = alpha * sigma[emotion, pushed]
        edits = [Edit(Site.RESID_PRE, layer, PatchActivation(self.inputs[layer], self.places.tree), Tokens.PROMPT_LAST)]
        for sublayer, site in enumerate(ADDED):
            own = torch.where(pushed == sublayer, size, 0.0)
            add = Add(local[:, sublayer], emotion, own, "raw")
            edits.append(Edit(site, layer, add, Tokens.PROMPT_LAST))
        with edited(self.lm, edits) as self.tree_cache.cursor, self.lm.skipping(layer):
            final = self._final(self.block)
        self.tree_cache.rewind(self.start)
        # The difference first: it is small beside the states, whose projections would lose its digits.
        moved = self.places.take(final).float() - self.clean[self.places.tree.to(self.clean.device)].float()
        return (moved.to(self.lm.device) * v_ref[emotion]).sum(-1) / size

    def _final(self, block: Block) -> Tensor:
        """Append ``block`` and return its final states (b, t, d)."""
        found: dict[str, Tensor] = {}

        def keep(_: Site, __: int, x: Tensor) -> None:
            found["resid"] = x

        with reading(self.lm, [(Site.RESID_POST, self.lm.n_layers - 1)], keep):
            found["normed"] = self.tree_cache.extend(block)
        return found[self.final]


def mean_norms(
    lm: LM,
    prompts: Sequence[Sequence[int]],
    sites: Sequence[Site],
    batch_size: int,
    label: str,
    emotion: int | None = None,
) -> Tensor:
    """Return the mean Euclidean norm of every site at the last token, (sites, l) float64; ``emotion``: whose."""
    prompt_cache = PromptCache(lm, prompts, [])
    total = torch.zeros(len(sites), lm.n_layers, dtype=torch.float64)
    running = Running(f"norms of {emotion}", label, "prompts", len(prompts), lambda: {"total": total})
    running.restore({"total": total})
    left = running.left()
    with progress(label, len(left), "prompts") as bar:

        def run(tree_batch: TreeBatch) -> Tensor:
            found: dict[tuple[Site, int], Tensor] = {}

            def add(site: Site, layer: int, x: Tensor) -> None:
                found[site, layer] = x[:, -1].double().norm(dim=-1).sum().to(lm.device)

            tree_cache: TokenTrees = prompt_cache.place(tree_batch, Cursor())
            with reading(lm, [(site, layer) for site in sites for layer in range(lm.n_layers)], add):
                tree_cache.extend(_last_prompt_tokens(lm, prompt_cache, tree_batch))
            every = [found[site, layer] for site in sites for layer in range(lm.n_layers)]
            return torch.stack(every).cpu().view_as(total)

        for tree_batch, found in in_passes(prompt_cache.passes([Row(p) for p in left], batch_size), run):
            with running.adding(tree_batch.prompts):
                total += found
            bar.advance(len(tree_batch.prompts))
    return total / len(prompts)


def _last_prompt_tokens(lm: LM, prompt_cache: PromptCache, tree_batch: TreeBatch) -> Block:
    """Return one unedited row per tree."""
    return Block.pad([prompt_cache.starts(p, SHARED + 1, NO_EDIT) for p in tree_batch.prompts], lm.device)
