"""No near-duplicates in the shipped sets, within a set or across the two of SEV: by encoder cosine and first words."""

from __future__ import annotations

import importlib.util
import json
import re
from collections import Counter
from functools import lru_cache

import pytest
from torch import Tensor

from emo.config.check import REPOSITORY
from emo.measure.encoder import PACKAGE, embed

pytestmark = pytest.mark.long  # all shipped texts through the encoder

TEXTS = REPOSITORY / "emo" / "data" / "texts"
SETS = ("sev", "sev_test")
PAIRS = (("sev", "sev"), ("sev_test", "sev_test"), ("sev", "sev_test"))
MAX_COSINE = 0.9
MAX_SHARED_STARTS = 0.05
START_WORDS = 4

encoder = pytest.mark.skipif(importlib.util.find_spec(PACKAGE) is None, reason=f"{PACKAGE} is not installed")


@lru_cache(maxsize=2)
def sentences(name: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The scenario ids and the sentences of a set: each scenario, then its events."""
    records = [json.loads(line) for line in (TEXTS / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]
    rows = [(r["skeleton_id"], text) for r in records for text in (r["scenario"], *r["event"].values())]
    return tuple(key for key, _ in rows), tuple(text for _, text in rows)


@lru_cache(maxsize=2)
def embedded(name: str) -> Tensor:
    return embed(sentences(name)[1])


def nearest_pair(a: str, b: str) -> tuple[float, str]:
    """The highest cosine of two sentences of different scenarios, and the two sentences with their ids."""
    (ids_a, texts_a), (ids_b, texts_b) = sentences(a), sentences(b)
    cosine = embedded(a) @ embedded(b).T
    for i, key in enumerate(ids_a):
        cosine[i, [j for j, other in enumerate(ids_b) if other == key]] = -1.0
    i, j = divmod(int(cosine.argmax()), len(ids_b))
    return float(cosine[i, j]), f"{ids_a[i]}: {texts_a[i]}\n{ids_b[j]}: {texts_b[j]}"


@encoder
@pytest.mark.slow
@pytest.mark.parametrize(("a", "b"), PAIRS)
def test_no_two_sentences_of_different_scenarios_are_near_duplicates(a: str, b: str) -> None:
    cosine, pair = nearest_pair(a, b)
    print(f"\nnearest pair of {a} and {b}, cosine {cosine:.3f}\n{pair}")  # noqa: T201 (pytest -s shows it)
    assert cosine <= MAX_COSINE, f"cosine {cosine:.3f}\n{pair}"


@encoder
@pytest.mark.slow
def test_no_two_priming_passages_are_near_duplicates() -> None:
    """Among themselves (the seven of a set share a place), and with the sentences that they precede."""
    lines = (TEXTS / "priming.jsonl").read_text(encoding="utf-8").splitlines()
    texts = [text for line in lines for text in json.loads(line)["passages"].values()]
    own = embed(texts)
    cosine = own @ own.T
    cosine.fill_diagonal_(-1.0)
    i, j = divmod(int(cosine.argmax()), len(texts))
    assert float(cosine.max()) <= MAX_COSINE, f"{texts[i]}\n{texts[j]}"
    assert max(float((own @ embedded(name).T).max()) for name in SETS) <= MAX_COSINE


@encoder
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "group", "fields"), [("dialogues", "topic", ("dialogue",)), ("rhetoric", "id", ("text", "literal"))]
)
def test_no_two_texts_of_different_groups_are_near_duplicates(name: str, group: str, fields: tuple[str, ...]) -> None:
    """Dialogues of different topics, texts and literals of different pairs: groups that two splits may part."""
    records = [json.loads(line) for line in (TEXTS / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]
    rows = [(r[group], r[field]) for r in records for field in fields]
    own = embed([text for _, text in rows])
    cosine = own @ own.T
    for i, (key, _) in enumerate(rows):
        cosine[i, [j for j, (other, _) in enumerate(rows) if other == key]] = -1.0
    i, j = divmod(int(cosine.argmax()), len(rows))
    assert float(cosine[i, j]) <= MAX_COSINE, f"cosine {cosine[i, j]:.3f}\n{rows[i]}\n{rows[j]}"


@pytest.mark.parametrize("names", [("sev",), ("sev_test",), SETS], ids="+".join)
def test_few_scenarios_share_their_first_words(names: tuple[str, ...]) -> None:
    scenarios = [sentences(name)[1][i] for name in names for i in range(0, len(sentences(name)[1]), 4)]
    starts = Counter(tuple(re.findall(r"[\w'-]+", text.lower())[:START_WORDS]) for text in scenarios)
    shared = {start: n for start, n in starts.items() if n > 1}
    assert sum(shared.values()) <= MAX_SHARED_STARTS * len(scenarios), shared
