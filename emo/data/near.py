"""Texts that are nearly equal, a suffix apart, count as one: for intervals and p they are no new evidence.

Texts are compared after case, white space and punctuation. In sorted order neighbours that begin alike are joined: the
common beginning is at least 80 % of the longer one and at least 20 characters, or the texts are equal. Sorting brings
texts with a common beginning together, so no pair is compared but neighbours: O(n log n) for n texts.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Hashable, Sequence

from emo.data.scenarios import Sample

SHARE = 0.8  # of the longer text that two begin alike with
SHORTEST = 20  # characters of that beginning


def normalised(text: str) -> str:
    """Return a text without case and punctuation, its words a single space apart; one of nothing else as it is."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    plain = " ".join("".join(" " if unicodedata.category(c)[0] == "P" else c for c in folded).split())
    return plain or folded.strip()


def clusters(texts: Sequence[str]) -> list[int]:
    """Return a number for every text, the same for nearly equal ones: 0, 1, ... in order of appearance."""
    plain = [normalised(text) for text in texts]
    order = sorted(range(len(texts)), key=lambda i: plain[i])
    label = [0] * len(texts)
    for before, here in zip(order, order[1:], strict=False):
        label[here] = label[before] + (not alike(plain[before], plain[here]))
    return _numbered(label)


def joined(groups: Sequence[Hashable], texts: Sequence[str]) -> list[int]:
    """Return a number for every text, the same where the group is the same or the texts are nearly equal (or both).

    Args:
        groups: of every text: scenario, topic, pair.
        texts: as many.
    """
    label = clusters(texts)
    parent = list(range(len(texts)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    first: dict[tuple[str, Hashable], int] = {}
    for i, (group, near) in enumerate(zip(groups, label, strict=True)):
        for key in (("group", group), ("near", near)):
            parent[root(i)] = root(first.setdefault(key, i))
    return _numbered([root(i) for i in range(len(texts))])


def clusters_of(samples: Sequence[Sample]) -> dict[str, int]:
    """Return, by sample, the number of its scenario; scenarios of nearly equal texts are one."""
    made = joined([s.scenario_id for s in samples], [s.scenario for s in samples])
    return {s.id: number for s, number in zip(samples, made, strict=True)}


def alike(a: str, b: str) -> bool:
    """Whether two texts, `normalised`, are equal or begin alike for most of the longer one."""
    common = len(os.path.commonprefix([a, b]))
    return a == b or (common >= SHORTEST and common >= SHARE * max(len(a), len(b)))


def _numbered(labels: Sequence[int]) -> list[int]:
    seen: dict[int, int] = {}
    return [seen.setdefault(label, len(seen)) for label in labels]
