"""Texts that begin alike share a tree: each is laid out once, whole, and read from tokens of its own."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from emo.model.prefix_tree import SHARED
from emo.model.prefixes import WORTH_SHARING, Text, batches, layout, shared_prefixes


@st.composite
def some_texts(draw: st.DrawFn) -> list[Text]:
    """Draw texts that often begin alike, end alike, or are one the beginning of another."""
    stems = draw(st.lists(st.lists(st.integers(0, 2), min_size=0, max_size=60), min_size=1, max_size=4))
    found = []
    for _ in range(draw(st.integers(1, 25))):
        stem = draw(st.sampled_from(stems))
        ids = stem[: draw(st.integers(0, len(stem)))] + draw(st.lists(st.integers(0, 2), min_size=1, max_size=12))
        found.append(Text(ids, draw(st.integers(0, min(len(ids), 4)))))
    return found


@given(texts=some_texts(), room=st.integers(1, 400))
def test_every_text_is_read_once_from_its_own_tokens(texts: list[Text], room: int) -> None:
    """A text lost or doubled; an average over tokens of the shared part; another text's tokens or positions."""
    trees = shared_prefixes(texts, room)
    assert Counter(m for tree in trees for m in tree.members) == Counter(range(len(texts)))
    cut = list(batches(texts, trees, room))
    assert sorted((tree for batch in cut for tree in batch), key=str) == sorted(trees, key=str)
    for batch in cut:
        rows, places = layout(texts, batch)
        assert len(batch) == 1 or max(map(len, rows)) * len(rows) <= room
        assert [m for m, _, _ in places] == [m for tree in batch for m in tree.members]
        branches: Counter[tuple[int, int]] = Counter()
        for m, b, end in places:
            ids, span, prefix = texts[m].ids, texts[m].span, batch[b].prefix
            assert prefix <= len(ids) - span
            own = rows[b][end - (len(ids) - prefix) : end]
            prefix = [t for t in rows[b] if t[2] == SHARED]
            assert [t[0] for t in [*prefix, *own]] == ids
            assert [t[1] for t in [*prefix, *own]] == list(range(len(ids)))
            assert len({t[2] for t in own}) <= 1 and all(t[2] != SHARED for t in own)
            branches.update({(b, t[2]) for t in own})
        assert all(count == 1 for count in branches.values())


def test_what_is_shared_is_worth_it() -> None:
    """Long common beginnings are laid out once; short ones, and a full tree, start a new one."""
    stem = list(range(3 * WORTH_SHARING))
    texts = [Text([*stem, 900 + i]) for i in range(4)] + [Text([7, 7, 901]), Text([7, 7, 902])]
    trees = shared_prefixes(texts, room=100)
    assert [(t.prefix, t.members) for t in trees] == [(len(stem), [0, 1, 2, 3]), (2, [4]), (2, [5])]
    assert [t.members for t in shared_prefixes(texts[:4], room=2)] == [[0, 1], [2, 3]]
    same = shared_prefixes([Text(stem), Text(stem), Text(stem[:-1])], room=100)
    assert [(t.prefix, sorted(t.members)) for t in same] == [(len(stem) - 2, [0, 1, 2])]
