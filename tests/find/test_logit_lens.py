"""The logit lens: the gain of every family's final norm, the words of planted directions, families of words."""

from __future__ import annotations

import pytest
import torch
from support import planted, twin
from torch import nn

from emo.core.types import Site
from emo.data.texts import word_families
from emo.find import logit_lens
from emo.find.logit_lens import family_share, gained, is_word, lens
from emo.model.lm import LM


def test_the_gain_is_that_of_the_final_norm(lm: LM) -> None:
    """Of every family: the norm gives g times the state, over its length; and it stands behind the last block."""
    draw = torch.Generator().manual_seed(2)
    norm = lm.final_norm
    with torch.inference_mode():  # gains of a new model are all alike
        weight = next(norm.parameters())
        kept = weight.clone()
        weight += 0.3 * torch.randn(weight.shape, generator=draw)
    try:
        h = 3 * torch.randn(4, lm.d, generator=draw)
        wanted = norm(h).float()
        own = gained(lm, h)
        if isinstance(norm, nn.LayerNorm):
            size = (h - h.mean(-1, keepdim=True)).pow(2).mean(-1, keepdim=True).sqrt()
            wanted = wanted - norm.bias
        else:
            size = h.pow(2).mean(-1, keepdim=True).sqrt()
        assert twin.gap(own / size, wanted) <= 1e-4
        last = lm.n_layers - 1
        state = twin.observe(lm, [(Site.RESID_POST, last)])[Site.RESID_POST, last]
        with torch.inference_mode():
            found = lm.decoder(input_ids=torch.tensor([twin.IDS]), use_cache=False).last_hidden_state
            assert twin.gap(norm(state), found) <= twin.TOLERANCE
    finally:
        with torch.inference_mode():
            weight.copy_(kept)


def test_a_planted_direction_says_its_word(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the unembedding turns into a word of the emotion raises that word most, in whatever pieces it is read."""
    lm = planted.planted_lm()
    v = planted.contrast()
    found = lens(lm, v, 5)
    assert found.top[:, 0].tolist() == planted.word_ids(lm.tokenizer)
    against = lens(lm, -v, 5)
    assert torch.equal(found.bottom, against.top) and torch.equal(found.top, against.bottom)
    some = torch.randn(3, lm.d, generator=torch.Generator().manual_seed(3))
    wanted = (some @ lm.unembedding.float().T).topk(5).indices
    assert torch.equal(lens(lm, some, 5).top, wanted)
    monkeypatch.setattr(logit_lens, "AT_ONCE", 7)
    assert torch.equal(lens(lm, some, 5).top, wanted)


def test_words_of_a_family() -> None:
    families = word_families()
    assert list(families) == ["anger", "sadness", "happiness", "fear", "surprise", "disgust"]
    assert {"furious", "anger"} <= families["anger"] and "happiness" in families["happiness"]
    assert not families["anger"] & families["happiness"]
    own = families["anger"]
    assert is_word("Furious", own) and is_word("frustr", own) and not is_word("fur", own) and not is_word("glad", own)
    assert family_share(["rage", "MAD", "the", "glad"], own) == 0.5
