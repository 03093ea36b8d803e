"""A text that many replies have is one label: how labellers are counted, and what raters at random come out as."""

from __future__ import annotations

import random

import pytest

from emo.measure.people import text_id
from emo.report.agreement_page import copies_line
from emo.results.agreement import Labels, compare
from emo.results.replies import Replies, Reply

CLASSES = ("anger", "sadness", "fear", "neutral")


def reply(text: str, cluster: int, target: str | None = "anger") -> Reply:
    return Reply(text_id(text), text, target, cluster, {})


def test_copies_of_a_text_change_nothing() -> None:
    """Every text ten times, in other scenarios: n, shares and confusion are those of the texts alone."""
    alone = [reply(f"Text {i}.", i % 8) for i in range(24)]
    copied = [one._replace(cluster=(one.cluster + j) % 8) for j in range(10) for one in alone]
    labels = {text.id: (CLASSES[i % 4], CLASSES[i % 3]) for i, text in enumerate(alone)}

    def of(rows: list[Reply]) -> list[Labels]:
        found = [Labels(name, [labels[row.id][i] for row in rows]) for i, name in enumerate(("ada", "bob"))]
        return [*found, Labels("judge", [int(labels[row.id][0] == "anger") for row in rows], match=True)]

    once, many = (compare(rows, of(rows), CLASSES, 50, 0) for rows in (alone, copied))
    for a, b in zip(once.pairs, many.pairs, strict=True):
        assert a.pair.kappa[0::3] == b.pair.kappa[0::3] and a.pair.agreement[0::3] == b.pair.agreement[0::3]
        assert (a.pair.confusion == b.pair.confusion).all()
        assert (b.pair.kappa.n, b.replies, a.texts, b.texts) == (24, 240, "24", "24 (of 240 replies)")
    assert once.targets["judge"][0::3] == many.targets["judge"][0::3]
    assert many.inflation[0].more.difference.n == 24


def test_a_match_is_of_a_text_and_its_target() -> None:
    rows = [reply("Hm.", i, target) for i in range(6) for target in CLASSES[:2]]
    one, two = Labels("judge", [1, 0] * 6, match=True), Labels("ada", ["anger"] * 12)
    [pair] = compare(rows, [one, two], CLASSES, 50, 0).pairs
    assert pair.pair.kappa.n == 2 and pair.pair.agreement.value == 1.0 and pair.replies == 12


def test_raters_at_random_are_as_good_as_chance() -> None:
    """One text stands in half of the replies: the interval of kappa holds 0 mostly (87 of 100), not in a few."""
    inside = 0
    for seed in range(100):
        rng = random.Random(seed)
        texts = [f"Text {i}." for i in range(40)]
        rows = [reply(texts[0] if rng.random() < 0.5 else rng.choice(texts), i % 6) for i in range(500)]
        raters = [{text_id(text): rng.choice(CLASSES) for text in texts} for _ in range(3)]
        labels = [Labels(str(i), [rater[row.id] for row in rows]) for i, rater in enumerate(raters)]
        found = compare(rows, labels, CLASSES, 300, seed).fleiss
        assert found is not None and found.lo is not None and found.hi is not None and found.n <= 40
        inside += found.lo <= 0 <= found.hi
    assert inside >= 80, inside


def test_copies_within_a_scenario_keep_it() -> None:
    """Texts of one scenario stay together: twenty labels in four scenarios are too few for an interval."""
    rows = [reply(f"Text {i}.", i % 4) for i in range(20)] * 3
    labels = [Labels(name, [CLASSES[(i * k) % 4] for i in range(20)] * 3) for k, name in ((1, "ada"), (3, "bob"))]
    [pair] = compare(rows, labels, CLASSES, 50, 0).pairs
    assert pair.pair.kappa.n == 20 and pair.pair.kappa.lo is None
    assert pair.pair.agreement.value == pytest.approx(0.5)


def test_arms_whose_replies_are_copies_are_named() -> None:
    """Corrected intervals take a copy for a label of its own."""

    def of(arm: str, texts: list[str]) -> list[Reply]:
        return [Reply(text_id(text), text, "fear", i, {"arm": arm}) for i, text in enumerate(texts)]

    rows = of("steer", ["a", "b", "c", "d"]) + of("random", ["a", "a", "a", "e"])
    line = copies_line(Replies(rows, ("fear",), {}, {}))
    assert line is not None and "random 50%." in line and "steer" not in line
    assert copies_line(Replies(of("steer", ["a", "b"]), ("fear",), {}, {})) is None
