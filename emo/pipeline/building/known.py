"""Which texts are there already: in the set that is being written, in the shipped ones, in those of ``build.against``.

A text repeats another where

    English:          their cosine under the sentence encoder is above build.max_cosine
    other languages:  more than half of their sequences of letters are shared (|A and B| / |A or B|)
    any language:     they begin alike for four fifths of the longer one (`emo.data.near`)

since the encoder knows English only. Texts of one slot (the three events of a scenario) are alike on purpose and are
not compared; nor are scenarios with events.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from emo.data.near import alike, normalised
from emo.data.text_rules import Broken
from emo.measure.encoder import embed

SEQUENCE, SHORT_SEQUENCE = 5, 2  # letters; of scripts that say in two characters what others say in five
UNSPACED = "\u2e80"  # such scripts begin here
MOST_SHARED = 0.5
NEIGHBOURS = 4  # in sorted order, on either side, that may begin alike
QUOTED = 90  # characters of the other text


class Known:
    """Texts of one kind, with the slot (or file) that each is from."""

    def __init__(self, max_cosine: float, *, english: bool, others: Iterable[tuple[str, str]] = ()) -> None:
        """Begin with texts of other sets, each with where it stands."""
        self.max_cosine, self.english = max_cosine, english
        given = list(others)
        self.owners = [where for where, _ in given]
        self.all = [text for _, text in given]
        self._features: list[Tensor] = [embed(self.all)] if english and given else []
        self._parts = [] if english else [_sequences(text) for text in self.all]
        self._sorted = sorted((normalised(text), i) for i, text in enumerate(self.all))

    def add(self, owner: str, texts: Sequence[str]) -> None:
        """Count texts as there."""
        for i, text in enumerate(texts, len(self.all)):
            insort(self._sorted, (normalised(text), i))
        self.owners += [owner] * len(texts)
        self.all += texts
        if self.english:
            self._features.append(embed(list(texts)))
        else:
            self._parts += [_sequences(text) for text in texts]

    def repeated(self, owner: str, texts: Sequence[str]) -> list[Broken]:
        """Return a broken rule for the first of ``texts`` that repeats one of another owner."""
        for text in texts:
            i, how = self._nearest(text, owner)
            if i is None:
                continue
            there = self.all[i] if len(self.all[i]) <= QUOTED else f"{self.all[i][:QUOTED]}..."
            return [Broken("duplicate", f"it repeats a text that is there already ({how}): {there}")]
        return []

    def _nearest(self, text: str, owner: str) -> tuple[int | None, str]:
        """Return the text of another owner that one repeats, and how it is told; None: none."""
        others = [i for i, who in enumerate(self.owners) if who != owner]
        if not others:
            return None, ""
        plain = normalised(text)
        at = bisect_left(self._sorted, (plain, -1))
        for there, i in self._sorted[max(0, at - NEIGHBOURS) : at + NEIGHBOURS]:
            if self.owners[i] != owner and alike(plain, there):
                return i, "it begins alike"
        if self.english:
            like = torch.cat(self._features)[others] @ embed([text])[0]
            limit, word = self.max_cosine, "cosine"
        else:
            own = _sequences(text)
            like = torch.tensor([_share(own, self._parts[i]) for i in others])
            limit, word = MOST_SHARED, "shared"
        best = int(like.argmax())
        return (others[best], f"{word} {float(like[best]):.2f}") if float(like[best]) > limit else (None, "")


def _sequences(text: str) -> set[str]:
    letters = normalised(text).replace(" ", "")
    n = SEQUENCE if max(letters, default="") < UNSPACED else SHORT_SEQUENCE
    return {letters[i : i + n] for i in range(max(1, len(letters) - n + 1))}


def _share(first: set[str], second: set[str]) -> float:
    return len(first & second) / max(1, len(first | second))


def shared(first: str, second: str) -> float:
    """Return the share of their sequences of letters that two texts have in common."""
    return _share(_sequences(first), _sequences(second))


def cosine(first: str, second: str) -> float:
    """Return the cosine of two texts under the sentence encoder."""
    a, b = embed([first, second])
    return float(a @ b)
