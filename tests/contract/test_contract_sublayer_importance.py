"""Sublayer importance: rows that start at their block == a whole forward pass of one prompt for every number."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import pytest
import torch
from support import twin
from support.twin import TOLERANCE, gap, hooks_left, prompt, steps
from support.units import EMOTIONS, vectors
from torch import Tensor

from emo.core.types import Site, Tokens
from emo.find.sublayer_importance import FINALS, SIGMAS, Importance, rank_stability, sublayer_importance
from emo.model import passes
from emo.model.hooks import Edit, edited, reading
from emo.model.lm import LM
from emo.model.ops import Add
from emo.model.prefix_tree import Block, TokenTrees, plain_block

pytestmark = pytest.mark.usefixtures("quiet")
PROMPTS = [prompt(30, 1), prompt(30, 1)[:-3] + prompt(4, 2), prompt(9, 3), prompt(1, 4)]  # two begin alike
# Larger than the paper's: float32 states are known to about 1e-6 * sigma here, which is divided by alpha on both sides.
ALPHAS = (1.0, 3.0)
ADDED = (Site.ATTN_ADD, Site.MLP_ADD)  # written out: not what the code under test says


def states(lm: LM) -> tuple[Site, Site]:
    """Return where the state stands behind each sublayer; one may be both."""
    return (Site.RESID_MID if Site.RESID_MID in twin.sites(lm) else Site.RESID_POST), Site.RESID_POST


class Plain(NamedTuple):
    """Last-token activations (l, d) of one whole prompt run alone, and its final states (d)."""

    at: dict[Site, Tensor]
    final: dict[str, Tensor]


def run_plain(lm: LM, ids: Sequence[int], edits: Sequence[Edit] = ()) -> Plain:
    """Run one prompt: no padding, cache or tree."""
    at = {site: [torch.empty(0)] * lm.n_layers for site in (*ADDED, *states(lm))}

    def keep(site: Site, layer: int, x: Tensor) -> None:
        at[site][layer] = x[0, -1].clone()

    wanted = [(site, layer) for site in at for layer in range(lm.n_layers)]
    with torch.inference_mode(), edited(lm, edits) as cursor, reading(lm, wanted, keep):
        cursor.place(torch.zeros(1, len(ids), dtype=torch.long), steps(len(ids), len(ids)))
        out = lm.model.base_model(input_ids=torch.tensor([list(ids)]), use_cache=False)
    normed = out.last_hidden_state[0, -1].clone()
    return Plain({site: torch.stack(x) for site, x in at.items()}, {"resid": at[Site.RESID_POST][-1], "normed": normed})


@cache
def naive(lm: LM, sigma_of: str) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """Return importance (a, e, l, 2) for each final state, sigma (l, 2) and norm (l, 2)."""
    v, ref = vectors(lm)
    clean = [run_plain(lm, ids) for ids in PROMPTS]
    sites = {"update": ADDED, "residual": states(lm)}[sigma_of]
    sigma = torch.stack([torch.stack([c.at[s].pow(2).mean(-1).sqrt() for c in clean]).mean(0) for s in sites], -1)
    norm = torch.stack([torch.stack([c.at[s].norm(dim=-1) for c in clean]).mean(0) for s in states(lm)], -1)
    found = {final: torch.zeros(len(ALPHAS), EMOTIONS, lm.n_layers, 2) for final in FINALS}
    for ids, before in zip(PROMPTS, clean, strict=True):
        for a, alpha in enumerate(ALPHAS):
            for e, layer, s in torch.cartesian_prod(*map(torch.arange, (EMOTIONS, lm.n_layers, 2))).tolist():
                size = alpha * float(sigma[layer, s])
                local = (v[e, layer, s] * ref.sign[e, layer, s])[None]
                push = Add(local, torch.tensor([0]), torch.tensor([size]), "raw")
                after = run_plain(lm, ids, [Edit(ADDED[s], layer, push, Tokens.PROMPT_LAST)])
                for final in FINALS:
                    moved = (after.final[final] - before.final[final]) @ ref.v_ref[e]
                    found[final][a, e, layer, s] += moved / size / len(PROMPTS)
    return found, sigma, norm


def measured(
    lm: LM, batch_size: int = 16, sigma_of: str = "update", final: str = "resid", alphas: Sequence[float] = ALPHAS
) -> Importance:
    v, ref = vectors(lm)
    return sublayer_importance(lm, PROMPTS, v, ref, alphas, batch_size, sigma_of, final)


@pytest.mark.parametrize("batch_size", [1, 16])
@pytest.mark.parametrize("final", FINALS)
@pytest.mark.parametrize("sigma_of", SIGMAS)
def test_rows_equal_full_forwards(lm: LM, sigma_of: str, final: str, batch_size: int) -> None:
    """A block or a sublayer off by one; another row's state, sign or strength; the wrong token under padding."""
    values, sigma, norm = naive(lm, sigma_of)
    found = measured(lm, batch_size, sigma_of, final)
    assert found.values.dtype is torch.float32
    assert gap(found.values, values[final]) <= TOLERANCE
    assert gap(found.sigma, sigma) <= TOLERANCE
    assert gap(found.norm, norm) <= TOLERANCE


def test_the_batch_size_changes_nothing(lm: LM, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the rows of a prompt do not fit into one tree, and where nothing of it is kept."""
    whole = measured(lm)
    monkeypatch.setattr(passes, "TREE_TOKENS", 3)
    lm.prefixes.clear()
    for batch_size in (2, 5):
        for ours, theirs in zip(measured(lm, batch_size), whole, strict=True):
            assert gap(ours, theirs) <= TOLERANCE


def test_the_last_mlp_only_adds(lm: LM) -> None:
    """What it adds is the final state's own change: a wrong sign, emotion or unit of alpha is plain here."""
    v, ref = vectors(lm)
    direct = ref.sign[:, -1, 1] * (v[:, -1, 1] * ref.v_ref).sum(-1)
    for sigma_of in SIGMAS:
        found = measured(lm, sigma_of=sigma_of, alphas=(-0.5, 1.0, 3.0)).values[:, :, -1, 1]
        torch.testing.assert_close(found, direct.expand(3, -1), rtol=0, atol=2e-5)


def test_out_of_memory_halves_the_pass(lm: LM, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pass that stops at a later block is begun again; nothing of it counts twice."""
    whole, extend, calls = measured(lm), TokenTrees.extend, []

    def small(self: TokenTrees, block: Block) -> Tensor:
        calls.append(block.ids.numel())
        if block.ids.numel() > 16 and len(calls) % 5 == 0:
            raise torch.OutOfMemoryError("of the test")
        return extend(self, block)

    monkeypatch.setattr(TokenTrees, "extend", small)
    for ours, theirs in zip(measured(lm), whole, strict=True):
        assert gap(ours, theirs) <= TOLERANCE


def patched(lm: LM) -> int:
    return sum("forward" in vars(block) for block in lm.blocks)


def test_skipped_blocks_hand_on_and_are_put_back(lm: LM) -> None:
    """Only those below; also after an exception; a forward that was there before is there again."""
    seen: dict[int, Tensor] = {}

    def keep(_: Site, layer: int, x: Tensor) -> None:
        seen[layer] = x

    ids, every = torch.tensor([prompt(7)]), [(Site.RESID_PRE, layer) for layer in range(lm.n_layers)]
    with torch.inference_mode(), reading(lm, every, keep), lm.skipping(2):
        assert patched(lm) == 2
        lm.model(input_ids=ids, use_cache=False)
    assert torch.equal(seen[0], seen[1]) and torch.equal(seen[0], seen[2]) and not torch.equal(seen[2], seen[3])
    assert patched(lm) == 0
    with pytest.raises(RuntimeError, match="inside"), lm.skipping(3):
        raise RuntimeError("inside")
    assert patched(lm) == 0
    vars(lm.blocks[0])["forward"] = own = lm.blocks[0].forward
    try:
        with lm.skipping(1):
            assert vars(lm.blocks[0])["forward"] is not own
        assert vars(lm.blocks[0])["forward"] is own
    finally:
        del vars(lm.blocks[0])["forward"]


def test_nothing_stays_after_an_exception(lm: LM, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a skipped block nor a hook, wherever the pass stops."""
    reached, hidden = 0, lm.hidden

    def stop(*args: Tensor) -> Tensor:
        nonlocal reached
        if patched(lm):
            reached = patched(lm)
            raise KeyboardInterrupt
        return hidden(*args)

    monkeypatch.setattr(lm, "hidden", stop)
    with pytest.raises(KeyboardInterrupt):
        measured(lm)
    assert reached == 1
    assert patched(lm) == hooks_left(lm) == 0


def test_a_forest_goes_back_over_skipped_blocks(lm: LM) -> None:
    """The prefix of a block that was skipped, cut by what the others had grown."""
    prefixes = [prompt(30), prompt(9)]
    row = plain_block([prompt(3, 1), prompt(3, 2)], lm.device, branch=1)
    row = row._replace(position=row.position + torch.tensor([[30], [9]]))
    tree_cache = TokenTrees(lm)
    tree_cache.extend(plain_block(prefixes, lm.device))
    before = [(k.clone(), v.clone()) for k, v in tree_cache.keys_values()]
    with lm.skipping(2):
        tree_cache.extend(row)
    assert [k.shape[2] for k, _ in tree_cache.keys_values()] == [30, 30, 33, 33]
    tree_cache.rewind(30)
    for (k, v), (k_then, v_then) in zip(tree_cache.keys_values(), before, strict=True):
        assert torch.equal(k, k_then) and torch.equal(v, v_then)
    for i, logits in enumerate(lm.logits(tree_cache.extend(row))):
        assert gap(logits, twin.scores(lm, [*prefixes[i], *prompt(3, i + 1)], 1)[-3:]) <= TOLERANCE


def test_rank_stability_by_hand() -> None:
    """Over the 2l sublayers of an emotion, not over emotions; over pairs of alphas."""
    ordered, turned, swapped = [1.0, 2, 3, 4], [4.0, 3, 2, 1], [2.0, 1, 3, 4]
    values = torch.tensor([[ordered, ordered], [[9.0, 10, 30, 50], turned], [ordered, swapped]]).unflatten(-1, (2, 2))
    torch.testing.assert_close(rank_stability(values), torch.tensor([1.0, (-1 + 0.8 - 0.8) / 3]))
    assert rank_stability(values[:1]).isnan().all()
    assert rank_stability(values[:1]).shape == (2,)


def test_unknown_names_are_refused(models: dict[str, LM]) -> None:
    for wrong in ({"sigma_of": "updates"}, {"final": "logits"}):
        with pytest.raises(ValueError, match="one of update, residual; resid, normed"):
            measured(models["llama"], **wrong)  # type: ignore[arg-type]


def test_sigma_of_the_residual_is_each_emotions_own(models: dict[str, LM]) -> None:
    """As the released code: over the prompts that ask for the emotion; what is pushed are the emotion-free ones."""
    lm = models["llama"]
    v, ref = vectors(lm)
    asked = [[prompt(20, 6), prompt(11, 7)], [prompt(8, 8)]]
    found = sublayer_importance(lm, PROMPTS, v, ref, ALPHAS, 16, "residual", asked=asked)
    runs = [[run_plain(lm, ids) for ids in own] for own in asked]
    sigma = [
        torch.stack([torch.stack([c.at[s].pow(2).mean(-1).sqrt() for c in own]).mean(0) for s in states(lm)], -1)
        for own in runs
    ]
    assert found.sigma.shape == (EMOTIONS, lm.n_layers, 2) and gap(found.sigma, torch.stack(sigma)) <= TOLERANCE
    free = sublayer_importance(lm, PROMPTS, v, ref, ALPHAS, 16, "residual")
    assert free.sigma.shape == (lm.n_layers, 2) and torch.equal(free.norm, found.norm)
    # An emotion whose own prompts are the emotion-free ones is pushed as before.
    again = sublayer_importance(lm, PROMPTS, v, ref, ALPHAS, 16, "residual", asked=[PROMPTS, asked[1]])
    assert gap(again.values[:, 0], free.values[:, 0]) <= TOLERANCE
    assert gap(again.values[:, 1], free.values[:, 1]) > 100 * TOLERANCE
