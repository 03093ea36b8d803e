"""Prompts that start alike share the prefix of a token tree, so their common tokens are forwarded once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from emo.model.prefix_tree import SHARED

WORTH_SHARING = 16  # tokens: below this a common prefix is not worth a tree of its own

Token = tuple[int, int, int, int, int]  # id, position, branch, condition, step


class Text(NamedTuple):
    """Token ids, of which the last ``span`` are averaged over (1: the last token)."""

    ids: list[int]
    span: int = 1


class Tree(NamedTuple):
    """Texts (indices) that share their first ``prefix`` tokens."""

    prefix: int
    members: list[int]


def shared_prefixes(texts: Sequence[Text], room: int) -> list[Tree]:
    """Group texts into trees of at most ``room`` tokens beyond their prefix; every text exactly once.

    Sorting puts texts with common beginnings side by side, so one pass finds the trees.
    """
    order = sorted(range(len(texts)), key=lambda i: texts[i].ids)
    trees: list[Tree] = []
    for i in order:
        limit = len(texts[i].ids) - texts[i].span  # what is read must be the text's own tokens
        if trees:
            tree = trees[-1]
            first = texts[tree.members[0]].ids
            common = min(common_prefix(first, texts[i].ids), limit, tree.prefix)
            beyond = sum(len(texts[m].ids) for m in [*tree.members, i]) - common * (len(tree.members) + 1)
            keeps = len(tree.members) == 1 or common >= tree.prefix - WORTH_SHARING
            if common >= WORTH_SHARING and keeps and beyond <= room:
                trees[-1] = Tree(common, [*tree.members, i])
                continue
        trees.append(Tree(limit, [i]))
    return trees


def common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """Return how many tokens two texts have in common from the start."""
    n = min(len(a), len(b))
    return next((k for k in range(n) if a[k] != b[k]), n)


def batches(texts: Sequence[Text], trees: Sequence[Tree], room: int) -> Iterator[list[Tree]]:
    """Cut the trees into forward passes of at most ``room`` tokens, padding included (a larger tree stands alone).

    Trees of like width stand together, widest first: little is padded.
    """

    def width(tree: Tree) -> int:
        return tree.prefix + sum(len(texts[m].ids) - tree.prefix for m in tree.members)

    batch: list[Tree] = []
    for tree in sorted(trees, key=lambda tree: -width(tree)):
        if batch and width(batch[0]) * (len(batch) + 1) > room:
            yield batch
            batch = []
        batch.append(tree)
    if batch:
        yield batch


def halves(trees: Sequence[Tree]) -> list[list[Tree]]:
    """Return the two halves of a forward pass; one of a single text cannot be halved, and is returned alone."""
    if len(trees) > 1:
        return [list(trees[: len(trees) // 2]), list(trees[len(trees) // 2 :])]
    prefix, members = trees[0]
    k = len(members) // 2
    return [[Tree(prefix, part)] for part in (members[:k], members[k:]) if part]


class Layout(NamedTuple):
    """Trees as rows of tokens, and for every text: its index, its row, and the column behind its last token."""

    rows: list[list[Token]]
    places: list[tuple[int, int, int]]


def layout(texts: Sequence[Text], trees: Sequence[Tree]) -> Layout:
    """Lay out each tree as one row: the common prefix, then the rest of every text as a branch."""
    rows, places = [], []
    for b, tree in enumerate(trees):
        prefix = texts[tree.members[0]].ids[: tree.prefix]
        tokens: list[Token] = [(token, i, SHARED, -1, -1) for i, token in enumerate(prefix)]
        for k, m in enumerate(tree.members):
            own = texts[m].ids[tree.prefix :]
            tokens += [(token, tree.prefix + i, SHARED + 1 + k, -1, -1) for i, token in enumerate(own)]
            places.append((m, b, len(tokens)))
        rows.append(tokens)
    return Layout(rows, places)
