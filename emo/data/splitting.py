"""Which texts are equal, which groups they join, and how groups are divided into parts of exact shares.

No text may stand in two parts: a direction, a neuron or a strength found on it would be tested on it.
"""

from __future__ import annotations

import math
import random
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence
from fractions import Fraction
from functools import cache
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")
PLANE = 1 << 16  # code points of the basic plane, where every punctuation mark of a living script stands
SHARES = (Fraction(3, 5), Fraction(1, 5), Fraction(1, 5))  # of a single file: to find on, to choose on, to report
HEAVY = Fraction(1, 20)  # of all members: a larger group is dealt before others of its theme
LARGEST = Fraction(1, 5)  # of all texts that joined groups may hold together: what is larger cannot be tested on


def folded(text: str) -> str:
    """Return what tells texts apart: without case, white space and punctuation; of punctuation alone, itself."""
    return text.casefold().translate(_dropped()) or "".join(text.split())


@cache
def _dropped() -> dict[int, None]:
    return dict.fromkeys(
        i for i in range(PLANE) if chr(i).isspace() or unicodedata.category(chr(i)) in ("Cf", *_PUNCTUATION)
    )


_PUNCTUATION = ("Pc", "Pd", "Pe", "Pf", "Pi", "Po", "Ps")


def join(groups: Sequence[str], texts: Sequence[str]) -> tuple[list[str], int]:
    """Join the groups that have a text in common.

    Texts in few groups join theirs first. Groups that would hold more than a fifth of all texts together stay apart,
    unless they are that one text: a phrase of every dialogue would make one group of the whole file. `drop_shared`
    leaves such texts in one part.

    Args:
        groups: of every text.
        texts: as they are; compared `folded`.

    Returns:
        The group of every text, named by the first of those that joined, and how many groups joined another.
    """
    sharing: dict[str, Counter[str]] = defaultdict(Counter)
    held = Counter(groups)
    for group, text in zip(groups, texts, strict=True):
        sharing[folded(text)][group] += 1
    parent, size = {group: group for group in held}, dict(held)

    def root(group: str) -> str:
        while parent[group] != group:
            parent[group] = group = parent[parent[group]]
        return group

    order = {group: i for i, group in enumerate(held)}
    for same in sorted((own for own in sharing.values() if len(own) > 1), key=len):
        roots = sorted({root(group) for group in same}, key=lambda group: order[group])
        whole, alone = sum(size[one] for one in roots), all(held[one] == n for one, n in same.items())
        if len(roots) > 1 and (alone or whole <= LARGEST * len(texts)):
            for one in roots[1:]:
                parent[one] = roots[0]
            size[roots[0]] = whole
    found = [root(group) for group in groups]
    return found, len(held) - len(set(found))


def drop_shared(parts: Sequence[Sequence[T]], texts: Sequence[Sequence[str]]) -> tuple[list[list[T]], int]:
    """Return the parts without texts that stand in an earlier part too, and how many were dropped."""
    seen: dict[str, int] = {}
    kept: list[list[T]] = []
    for k, (part, own) in enumerate(zip(parts, texts, strict=True)):
        kept.append([one for one, text in zip(part, own, strict=True) if seen.setdefault(folded(text), k) == k])
    return kept, sum(map(len, parts)) - sum(map(len, kept))


def divide(
    groups: Sequence[Sequence[T]], themes: Sequence[str], shares: Sequence[Fraction], seed: int, every: bool = False
) -> list[list[T]]:
    """Divide groups into parts, stratified by theme, in exact arithmetic; on a tie the later part is served first.

    Args:
        groups: their members stay together.
        themes: of every group.
        shares: of the members of every theme; a fraction that is left over is carried to the next theme, so that
            small themes do not round a part away.
        seed: of the order within a theme.
        every: give every part a group of every theme that has one for each.
    """
    parts: list[list[_Group[T]]] = [[] for _ in shares]
    whole = math.lcm(*(share.denominator for share in shares))  # what one member counts: whole numbers from here on
    dues = [int(share * whole) for share in shares]
    owed = [0] * len(shares)
    heavy = int(HEAVY * sum(map(len, groups)))
    by_theme: dict[str, list[_Group[T]]] = defaultdict(list)
    for members, theme in zip(groups, themes, strict=True):
        by_theme[theme].append(_Group(theme, members))
    for theme, own in by_theme.items():
        random.Random(f"{seed}/{theme}").shuffle(own)
        # A group that weighs goes first, while every part is owed something: it cannot burst a part at the end.
        own.sort(key=lambda one: -len(one.members) if len(one.members) > heavy else 0)
        size = sum(len(one.members) for one in own)
        owed = [o + share * size for o, share in zip(owed, dues, strict=True)]
        for one in own:
            index = max(range(len(shares)), key=lambda i: (owed[i], i))
            parts[index].append(one)
            owed[index] -= whole * len(one.members)
    for part in parts:
        if not part and len(groups) > len(parts):  # groups of unequal sizes may leave one without any
            part.append(max(parts, key=len).pop())
    for theme in by_theme if every else ():
        for part in parts:
            if all(one.theme != theme for one in part):
                _lend(theme, part, parts)
    return [[one for group in part for one in group.members] for part in parts]


class _Group(NamedTuple, Generic[T]):
    theme: str
    members: Sequence[T]


def _lend(theme: str, part: list[_Group[T]], parts: list[list[_Group[T]]]) -> None:
    """Give a part a group of a theme that it lacks, for one of a theme of which it has most: shares stay exact."""
    most = max(parts, key=lambda other: sum(one.theme == theme for one in other))
    if sum(one.theme == theme for one in most) < 2:
        return
    given = next(one for one in reversed(most) if one.theme == theme)
    count = Counter(one.theme for one in part)
    back = [one for one in part if count[one.theme] > 1 and len(one.members) == len(given.members)]
    most.remove(given)
    part.append(given)
    if back:
        returned = max(reversed(back), key=lambda one: count[one.theme])
        part.remove(returned)
        most.append(returned)
