"""Replies on a plain template end where the model begins another turn."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from emo.model import generate as generating
from emo.model.generate import generate
from emo.model.lm import LM
from emo.model.passes import Row
from emo.model.turns import STOPS, TurnEnd, turn_end

pytestmark = pytest.mark.usefixtures("quiet")
END = TurnEnd(chr)


def ids(text: str) -> list[int]:
    """Return a reply of one token per letter."""
    return [ord(letter) for letter in text]


@pytest.mark.parametrize(
    ("written", "reply"),
    [
        ("Fine.\n\nFriend: And you?", "Fine."),
        ("Fine.\nFriend: And you?", "Fine."),
        ("Fine. \n\n", "Fine."),
        ("\n\n Fine.\n\nReply:", "\n\n Fine."),
        ("Fine.\nReally.", None),
        ("\n\n", None),
        ("My Friend: you", None),
    ],
)
def test_cut(written: str, reply: str | None) -> None:
    """None: the reply goes on. Blank lines in front of it do not end it, a single line break neither."""
    assert END.reached(ids(written)) == (reply is not None)
    if reply is not None:
        assert END.cut(ids(written)) == ids(reply)


@given(st.lists(st.sampled_from(["a", " ", "\n", "\n\n", "Friend:", "Reply:"]), max_size=12))
def test_what_is_left_is_one_turn(pieces: list[str]) -> None:
    """A prefix of what was written, without another turn and without blanks behind it."""
    text = TurnEnd(pieces.__getitem__)
    reply = list(range(len(pieces)))
    kept = text.cut(reply)
    left = "".join(pieces[i] for i in kept)
    assert kept == reply[: len(kept)] and not any(stop in left.lstrip() for stop in STOPS)
    assert not kept or pieces[kept[-1]].strip()


@pytest.mark.parametrize("every", [1, 4, 100])
@pytest.mark.parametrize(("family", "kept"), [("gpt2", "Fine."), ("llama", "Fine.\n\nFriend: No")])
def test_generation(family: str, kept: str, every: int, models: dict[str, LM], monkeypatch: pytest.MonkeyPatch) -> None:
    """With a chat template a blank line is part of the reply; a reply that is looked at seldom ends where it should."""
    monkeypatch.setattr(generating, "CHECKED_EVERY", {"cpu": every})
    lm = models[family]
    script = lm.tokenizer("Fine.\n\nFriend: No", add_special_tokens=False)["input_ids"]
    step = {"n": 0}

    def logits(hidden: torch.Tensor) -> torch.Tensor:
        out = torch.zeros(*hidden.shape[:-1], lm.config.vocab_size)
        out[..., script[step["n"]]] = 1
        step["n"] += 1
        return out

    monkeypatch.setattr(lm, "logits", logits)
    finished: list[list[int]] = []
    [reply] = generate(lm, [[5, 6, 7]], [Row(0, 0)], [], len(script), 4, done=lambda _, ids: finished.append(list(ids)))
    assert lm.tokenizer.decode(reply) == kept and finished == [reply]
    assert (turn_end(lm) is None) == (family == "llama")
