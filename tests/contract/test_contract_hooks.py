"""Edits: where they land, which tokens they touch, how large they are, and that nothing stays behind."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from support import twin
from support.modules import final_norm
from support.twin import (
    EDITED_SITES,
    IDS,
    LENGTH,
    OPS,
    PROMPT,
    TOLERANCE,
    edits_at,
    gap,
    hooks_left,
    observe,
    scores,
    steps,
    unit,
    width,
)
from torch import Tensor, nn

from emo.core.errors import UserError
from emo.core.types import Site, Tokens
from emo.model.hooks import Edit, edited, reading
from emo.model.lm import LM
from emo.model.ops import Add, Scale, Zero

pytestmark = pytest.mark.usefixtures("quiet")
CHOSEN = {
    Tokens.PROMPT_LAST: [PROMPT - 1],
    Tokens.EVERY_STEP: list(range(PROMPT - 1, LENGTH)),
    Tokens.ALL: list(range(LENGTH)),
}


def broken(lm: LM, site: Site) -> LM:
    """Return the model under a row in which ``site`` does not exist."""
    other = LM(lm.model, lm.tokenizer, lm.spec)
    other.family = lm.family._replace(sites=lm.family.sites | {site: ("no.such_module", "in")})
    return other


@pytest.mark.parametrize("kind", ["add", "scale", "zero"])
def test_identity_edits_are_bit_equal(lm: LM, kind: str) -> None:
    """Strength 0, factor 1 and no units must give the unedited model, or controls are no controls."""
    plain = scores(lm, IDS, PROMPT)
    for site in twin.sites(lm):
        same = twin.identity(kind, width(lm, site))
        edits = [Edit(site, layer, same, Tokens.ALL) for layer in range(lm.n_layers)]
        assert torch.equal(scores(lm, IDS, PROMPT, edits), plain), site
    assert hooks_left(lm) == 0


@pytest.mark.parametrize("kind", OPS)
def test_real_edits_change_the_logits(lm: LM, kind: str) -> None:
    """A hook whose result is dropped; a condition of -1 must leave a row alone."""
    plain = scores(lm, IDS, PROMPT)
    for site in twin.sites(lm):
        for layer in range(lm.n_layers):
            edits = edits_at(lm, kind, site, Tokens.ALL, [layer])
            assert gap(scores(lm, IDS, PROMPT, edits), plain) > 1e-3, (site, layer)
        assert torch.equal(scores(lm, IDS, PROMPT, edits, cond=-1), plain), site


def test_no_hook_is_left(lm: LM) -> None:
    """A hook that outlives its context edits every later job of a sweep."""
    plain = scores(lm, IDS, PROMPT)
    edits = [edit for site in twin.sites(lm) for edit in edits_at(lm, "add", site, Tokens.ALL)]
    with edited(lm, edits):
        assert hooks_left(lm) >= len(edits)
    assert hooks_left(lm) == 0

    def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), edited(lm, edits), reading(lm, [(Site.HEAD, 0)], print):
        fail()
    assert hooks_left(lm) == 0
    with pytest.raises(ZeroDivisionError), reading(lm, [(Site.HEAD, 0)], lambda *_: fail()):
        scores(lm, IDS, PROMPT)
    assert hooks_left(lm) == 0
    assert torch.equal(scores(lm, IDS, PROMPT), plain)


@pytest.mark.parametrize("site", [Site.HEAD, Site.ATTN_ADD])
def test_no_hook_is_left_when_a_later_site_is_unknown(lm: LM, site: Site) -> None:
    """Hooks registered before a name that does not resolve are the ones that leak."""
    other = broken(lm, site)
    edits = [edit for s in (Site.RESID_POST, site) for edit in edits_at(lm, "add", s, Tokens.ALL)]
    with pytest.raises(UserError, match=f"site '{site}'"), edited(other, edits):
        pass
    assert hooks_left(lm) == 0
    with (
        pytest.raises(UserError),
        edited(broken(lm, Site.ATTN_ADD), edits_at(lm, "add", Site.RESID_MID, Tokens.ALL)),
    ):
        pass
    assert hooks_left(lm) == 0
    with pytest.raises(UserError), reading(other, [(Site.RESID_POST, 0), (site, 1)], print):
        pass
    assert hooks_left(lm) == 0
    with pytest.raises(IndexError), edited(lm, edits_at(lm, "add", site, Tokens.ALL, [0, 99])):
        pass
    assert hooks_left(lm) == 0


def block_inputs(lm: LM, edits: Sequence[Edit], cond: int) -> list[Tensor]:
    """Return what enters every block and the final norm, through torch hooks of the test's own."""
    inputs: list[Tensor] = []

    def keep(_: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Tensor]) -> None:
        inputs.append(args[0] if args else kwargs["hidden_states"])

    handles = [m.register_forward_pre_hook(keep, with_kwargs=True) for m in (*lm.blocks, final_norm(lm))]
    scores(lm, IDS, PROMPT, edits, cond)
    for handle in handles:
        handle.remove()
    return inputs


@pytest.mark.parametrize("layer", range(4))
def test_an_edit_lands_in_its_own_block(lm: LM, layer: int) -> None:
    """A block index off by one: the stream must stay as it was before the block, and move after it."""
    for site in twin.sites(lm):
        edits = edits_at(lm, "scale", site, Tokens.ALL, [layer])
        before, after = block_inputs(lm, edits, -1), block_inputs(lm, edits, 0)
        same = [torch.equal(a, b) for a, b in zip(before, after, strict=True)]
        assert same == [index <= layer for index in range(lm.n_layers + 1)], site


@pytest.mark.parametrize("tokens", list(Tokens))
@pytest.mark.parametrize("site", list(Site))
def test_selectors_touch_exactly_their_tokens(lm: LM, site: Site, tokens: Tokens) -> None:
    """The wrong token, or a token more: read at the edited site; row 1 carries no condition."""
    cond = torch.tensor([[0] * LENGTH, [-1] * LENGTH, [1] * LENGTH])
    before = observe(lm, [(site, 1)], cond=cond)[site, 1]
    after = observe(lm, [(site, 1)], edits_at(lm, "add", site, tokens, [1]), cond)[site, 1]
    touched = (before != after).any(-1)
    expected = torch.zeros(LENGTH, dtype=torch.bool)
    expected[CHOSEN[tokens]] = True
    assert torch.equal(touched, torch.stack([expected, torch.zeros_like(expected), expected]))


def refused(lm: LM, edits: Sequence[Edit]) -> None:
    """Check that a site which the family does not have is refused by name, to write and to read, and no hook left."""
    with pytest.raises(UserError, match=f"'{lm.kind}' has no site 'resid_mid': .* resid_pre and resid_post"):
        observe(lm, [], edits)
    with pytest.raises(UserError, match=f"'{lm.kind}' has no site 'resid_mid'"):
        observe(lm, [(Site.RESID_POST, 0), (Site.RESID_MID, 1)])
    assert hooks_left(lm) == 0


def test_resid_mid_moves_the_stream(lm: LM) -> None:
    """Writing the tensor that the norm reads changes the MLP's input only: the stream itself must move."""
    if Site.RESID_MID not in twin.sites(lm):
        refused(lm, edits_at(lm, "add", Site.RESID_POST, Tokens.ALL) + edits_at(lm, "add", Site.RESID_MID, Tokens.ALL))
        return
    sites = [(s, 1) for s in (Site.RESID_MID, Site.RESID_POST, Site.MLP_ADD, Site.ATTN_ADD)]
    v = unit(1, lm.d)
    edits = [Edit(Site.RESID_MID, 1, Add(v, torch.tensor([0]), torch.tensor([3.0]), "raw"), Tokens.ALL)]
    before, after = observe(lm, sites), observe(lm, sites, edits)
    assert gap(after[Site.RESID_MID, 1], before[Site.RESID_MID, 1] + 3 * v) <= TOLERANCE
    stream = after[Site.RESID_POST, 1] - after[Site.MLP_ADD, 1]
    assert gap(stream, before[Site.RESID_MID, 1] + 3 * v) <= TOLERANCE
    assert gap(after[Site.MLP_ADD, 1], before[Site.MLP_ADD, 1]) > 1e-3


@pytest.mark.parametrize("kind", OPS)
@pytest.mark.parametrize("site", EDITED_SITES)
def test_a_batch_mixes_conditions(lm: LM, kind: str, site: Site) -> None:
    """Parameters of another row's condition: each row of a mixed batch equals that condition alone."""
    edits = edits_at(lm, kind, site, Tokens.EVERY_STEP)
    rows = [0, -1, 1, 0]
    with torch.inference_mode(), edited(lm, edits) as cursor:
        cursor.place(torch.tensor(rows)[:, None].expand(-1, LENGTH), steps(LENGTH, PROMPT).expand(4, -1))
        mixed = lm.model(input_ids=torch.tensor([IDS] * 4), use_cache=False).logits
    for row, cond in enumerate(rows):
        assert gap(mixed[row], scores(lm, IDS, PROMPT, edits, cond)) <= TOLERANCE
    assert gap(mixed[0], mixed[2]) > 1e-3


@pytest.mark.parametrize("site", EDITED_SITES)
def test_edits_of_one_site_apply_in_order(lm: LM, site: Site) -> None:
    """First scale, then add is not first add, then scale."""
    w = width(lm, site)
    add = Edit(site, 1, Add(unit(1, w), torch.tensor([0]), torch.tensor([2.0]), "raw"), Tokens.ALL)
    double = Edit(site, 1, Scale(torch.full((1, w), 2.0)), Tokens.ALL)
    x = observe(lm, [(site, 1)])[site, 1]
    assert gap(observe(lm, [(site, 1)], [add, double])[site, 1], 2 * (x + 2 * unit(1, w))) <= TOLERANCE
    assert gap(observe(lm, [(site, 1)], [double, add])[site, 1], 2 * x + 2 * unit(1, w)) <= TOLERANCE


@pytest.mark.parametrize("late", [Site.HEAD, Site.RESID_PRE, Site.ATTN_ADD])
def test_sites_may_be_listed_in_any_order(lm: LM, late: Site) -> None:
    """An edit of resid_mid must see what an edit upstream in its block wrote, whichever is listed first."""
    raw = Add(unit(1, width(lm, late)), torch.tensor([0]), torch.tensor([5.0]), "raw")
    edits = [Edit(Site.RESID_MID, 1, Zero.of([torch.arange(lm.d // 2)]), Tokens.ALL), Edit(late, 1, raw, Tokens.ALL)]
    if Site.RESID_MID not in twin.sites(lm):
        refused(lm, edits)
        refused(lm, edits[::-1])
        return
    mid = [(Site.RESID_MID, 1)]
    there, back = (observe(lm, mid, order)[mid[0]] for order in (edits, edits[::-1]))
    assert back[..., : lm.d // 2].abs().max() <= 1e-5
    assert gap(there, back) <= TOLERANCE


def test_a_call_of_a_users_own_goes_first(models: dict[str, LM]) -> None:
    """A subclass of an op of ours that overrides what it does, and knows nothing of parameters that are kept."""

    class Negative(Add):
        def __call__(self, x: Tensor, cond: Tensor, gain: Tensor) -> Tensor:
            assert cond.shape == gain.shape[:-1] == x.shape[:-1]
            return -gain * x

    lm, where = models["llama"], [(Site.RESID_POST, 1)]
    op = Negative(unit(1, lm.d), torch.zeros(1, dtype=torch.long), torch.ones(1))
    [plain] = observe(lm, where).values()
    [changed] = observe(lm, where, [Edit(Site.RESID_POST, 1, op, Tokens.ALL)]).values()
    assert torch.equal(changed, -plain)
