"""Token trees: every branch has the numbers of a plain forward pass of its own sequence."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from support import twin
from support.twin import TOLERANCE, WINDOW, edits_at, gap, prompt, scores
from torch import Tensor

from emo.core.types import Site, Tokens
from emo.model.hooks import Cursor, edited
from emo.model.lm import LM
from emo.model.prefix_tree import PADDING, SHARED, Block, TokenTrees, plain_block

pytestmark = pytest.mark.usefixtures("quiet")
LENGTHS = (41, 5, 1, WINDOW, WINDOW + 1, 30)  # longer than the sliding window, exactly it, far below
TREES = [  # (prefix length, lengths of its branches)
    (41, (3, 9, 1)),
    (4, (2, 2)),
    (30, (30,)),
    (0, (28, 7)),  # no prefix: whole prompts side by side
]
Tree = tuple[list[int], list[list[int]]]


def trees() -> list[Tree]:
    """Return the token ids of TREES, different for every branch."""
    return [(prompt(n, 10 * i), [prompt(m, 10 * i + k + 1) for k, m in enumerate(b)]) for i, (n, b) in enumerate(TREES)]


def grow(
    lm: LM,
    whole: Sequence[Tree],
    steps: int = 1,
    conds: Sequence[Sequence[int]] | None = None,
    cursor: Cursor | None = None,
) -> list[list[Tensor]]:
    """Return the logits of every branch's own tokens, its tokens appended in ``steps`` blocks.

    A branch's first token has step 0; ``conds`` holds one condition per branch (default: no edit).
    """
    tree_cache = TokenTrees(lm, cursor)
    tree_cache.extend(plain_block([prefix for prefix, _ in whole], lm.device))
    out: list[list[list[Tensor]]] = [[[] for _ in branches] for _, branches in whole]
    for part in range(steps):
        rows, owners = [], []
        for i, (prefix, branches) in enumerate(whole):
            row: list[tuple[int, int, int, int, int]] = []
            owner: list[int] = []
            for k, branch in enumerate(branches):
                first, end = len(branch) * part // steps, len(branch) * (part + 1) // steps
                cond = -1 if conds is None else conds[i][k]
                row += [(branch[j], len(prefix) + j, SHARED + 1 + k, cond, j) for j in range(first, end)]
                owner += [k] * (end - first)
            rows.append(row)
            owners.append(owner)
        logits = lm.logits(tree_cache.extend(Block.pad(rows, lm.device)))
        assert torch.isfinite(logits).all()
        for i, owner in enumerate(owners):
            for column, k in enumerate(owner, logits.shape[1] - len(owner)):
                out[i][k].append(logits[i, column])
    return [[torch.stack(branch) for branch in tree] for tree in out]


def test_left_padding_changes_no_score(lm: LM) -> None:
    """The wrong token, shifted positions (0.4 logits on GPT-2) or a seen padding, under left padding."""
    prompts = [prompt(n) for n in LENGTHS]
    logits = lm.logits(TokenTrees(lm).extend(plain_block(prompts, lm.device)))
    assert logits.shape[:2] == (len(prompts), max(LENGTHS))
    for row, ids in zip(logits, prompts, strict=True):
        assert gap(row[-len(ids) :], scores(lm, ids, len(ids))) <= TOLERANCE


@pytest.mark.parametrize("chunks", [2, 5, 40])
def test_a_prompt_may_come_in_pieces(lm: LM, chunks: int) -> None:
    """A cache that drops keys, or a window that counts from the wrong end."""
    prompts = [prompt(n) for n in (41, 30)]
    tree_cache, found = TokenTrees(lm), [[], []]
    for part in range(chunks):
        pieces = [range(41 * part // chunks, min(41 * (part + 1) // chunks, len(ids))) for ids in prompts]
        rows = [[(ids[j], j, SHARED, -1, j + 1 - len(ids)) for j in p] for ids, p in zip(prompts, pieces, strict=True)]
        logits = lm.logits(tree_cache.extend(Block.pad(rows, lm.device)))
        for i, piece in enumerate(pieces):
            found[i].append(logits[i, logits.shape[1] - len(piece) :])
    for ids, logits in zip(prompts, found, strict=True):
        assert gap(torch.cat(logits), scores(lm, ids, len(ids))) <= TOLERANCE


@pytest.mark.parametrize("steps", [1, 3, 9])
def test_branches_equal_plain_passes(lm: LM, steps: int) -> None:
    """A branch that sees another, a prefix that is cut off, a sliding window dropped from the mask."""
    whole = trees()
    for (prefix, branches), found in zip(whole, grow(lm, whole, steps), strict=True):
        for branch, logits in zip(branches, found, strict=True):
            alone = scores(lm, [*prefix, *branch], len(prefix))[len(prefix) :]
            assert gap(logits, alone) <= TOLERANCE


def test_a_trunk_with_a_shared_prefix(lm: LM) -> None:
    """One prefix for several prompts of unlike length: they are branches, their ends are what is read."""
    prefix, ends = prompt(26), [prompt(n, 7) for n in (11, 2, 5)]
    [found] = grow(lm, [(prefix, ends)])
    for end, logits in zip(ends, found, strict=True):
        assert gap(logits[-1], scores(lm, [*prefix, *end], 1)[-1]) <= TOLERANCE


def alike(lm: LM, a: Tensor, b: Tensor) -> bool:
    """Return whether two results are equal to the bit.

    With experts up to rounding: tokens of a pass are multiplied in groups, by the experts that all of them choose.
    """
    return torch.equal(a, b) if lm.family.experts is None else gap(a, b) <= TOLERANCE


def test_branches_do_not_see_each_other(lm: LM) -> None:
    """Other tokens in one branch must not move its neighbours by a bit."""
    prefix, branches = prompt(30), [prompt(6, seed) for seed in (1, 2, 3)]
    [before] = grow(lm, [(prefix, branches)], 2)
    [after] = grow(lm, [(prefix, [branches[0], prompt(6, 9), branches[2]])], 2)
    assert alike(lm, before[0], after[0])
    assert alike(lm, before[2], after[2])
    assert gap(before[1], after[1]) > 1e-2


@pytest.mark.parametrize("kind", twin.OPS)
@pytest.mark.parametrize("site", twin.EDITED_SITES)
def test_every_branch_has_its_own_condition(lm: LM, kind: str, site: Site) -> None:
    """A condition that leaks into another branch; each equals the same edit of that sequence alone."""
    whole, conds = trees()[:2], [[0, -1, 1], [1, 0]]
    edits = edits_at(lm, kind, site, Tokens.EVERY_STEP)
    with edited(lm, edits) as cursor:
        mixed = grow(lm, whole, 2, conds, cursor)
        other = grow(lm, whole, 2, [[0, -1, 0], [1, 0]], cursor)
    for i, (prefix, branches) in enumerate(whole):
        for branch, logits, cond in zip(branches, mixed[i], conds[i], strict=True):
            alone = scores(lm, [*prefix, *branch], len(prefix) + 1, edits, cond)[len(prefix) :]
            assert gap(logits, alone) <= TOLERANCE
    assert alike(lm, mixed[0][0], other[0][0])
    assert alike(lm, mixed[0][1], other[0][1])
    assert gap(mixed[0][2], other[0][2]) > 1e-3


def test_after_rewinding_a_branch_leaves_nothing(lm: LM) -> None:
    """Keys of a forgotten branch, or a prefix cut short, after going back to try another."""
    prefixes, block = [prompt(30), prompt(9)], plain_block([prompt(5, 1), prompt(3, 2)], lm.device, branch=1)
    block = block._replace(position=block.position + torch.tensor([[30], [9]]))
    other = plain_block([prompt(6, 3), prompt(6, 4)], lm.device, branch=2)
    other = other._replace(position=other.position + torch.tensor([[30], [9]]))
    tree_cache = TokenTrees(lm)
    tree_cache.extend(plain_block(prefixes, lm.device))
    first = tree_cache.extend(block)
    tree_cache.rewind(30)
    assert tree_cache.position.shape == tree_cache.branch.shape == (2, 30)
    second = tree_cache.extend(other)
    tree_cache.rewind(30)
    assert gap(tree_cache.extend(block)[0], first[0]) <= TOLERANCE
    tree_cache.rewind(99)  # nothing to forget
    assert tree_cache.position.shape[1] == 35
    for row, (prefix, seed) in enumerate(zip(prefixes, (3, 4), strict=True)):
        alone = scores(lm, [*prefix, *prompt(6, seed)], 1)[-6:]
        assert gap(lm.logits(second[row]), alone) <= TOLERANCE


@pytest.mark.parametrize("edited_too", [False, True])
def test_padding_yields_no_nan(lm: LM, edited_too: bool) -> None:
    """A row that sees no key has a softmax of nothing; its nan would spread through sums and edits."""
    edits = edits_at(lm, "add", twin.mid(lm), Tokens.ALL) if edited_too else []
    with edited(lm, edits) as cursor:
        tree_cache = TokenTrees(lm, cursor)
        assert torch.isfinite(tree_cache.extend(plain_block([prompt(40), [], prompt(2)], lm.device, cond=0))).all()
        rows = [[], [(5, 0, 1, 0, 0)], [(6, 2, 1, 0, 1), (7, 2, 2, -1, 1)]]
        late = lm.logits(tree_cache.extend(Block.pad(rows, lm.device)))
        assert torch.isfinite(late).all()
    assert gap(late[1, -1], scores(lm, [5], 1, edits)[-1]) <= TOLERANCE
    assert gap(late[2, 0], scores(lm, [*prompt(2), 6], 2, edits)[-1]) <= TOLERANCE


def test_blocks_are_padded_on_the_left() -> None:
    """Padding carries no edit, belongs to no branch; a prompt's last token is step 0."""
    block = plain_block([[7, 8, 9], [5]], torch.device("cpu"), cond=4)
    assert block.ids.tolist() == [[7, 8, 9], [0, 0, 5]]
    assert block.position.tolist() == [[0, 1, 2], [0, 0, 0]]
    assert block.branch.tolist() == [[SHARED] * 3, [PADDING, PADDING, SHARED]]
    assert block.cond.tolist() == [[4, 4, 4], [-1, -1, 4]]
    assert block.step.tolist() == [[-2, -1, 0], [-1, -1, 0]]
