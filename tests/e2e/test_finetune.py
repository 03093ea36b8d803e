"""The small tuned model: training lowers the held-out loss, gives the same every time, and what it writes is read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import emo
from bench.finetune import finetune, texts
from emo.model.lm import LM

pytestmark = [pytest.mark.usefixtures("quiet"), pytest.mark.long]
IDS = torch.arange(3, 40)[None]


@pytest.fixture
def lm() -> LM:
    """Return the model that is trained on."""
    return emo.load_model("tiny_llama", "cpu")


def test_topics_are_not_shared() -> None:
    train, test = texts()
    assert len(train) == 324 and len(test) == 36 and not {*train} & {*test}
    rows = [json.loads(line) for line in (Path(emo.__file__).parent / "data/texts/dialogues.jsonl").open()]
    topic = {row["dialogue"]: row["topic"] for row in rows}
    assert not {topic[text] for text in train} & {topic[text] for text in test}


def test_an_adapter_and_a_model(lm: LM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    before = lm.model(IDS).logits
    done = finetune(lm, tmp_path / "a-lora", steps=12, merged=True)
    assert done.after < done.before - 0.01
    assert torch.equal(lm.model(IDS).logits, before)
    tuned = emo.load_model("tiny_llama", "cpu", adapter=done.adapter)
    whole = emo.load_model(tmp_path / "a-merged", "cpu")
    torch.testing.assert_close(tuned.model(IDS).logits, whole.model(IDS).logits, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(tuned.model(IDS).logits, before, atol=1e-3)
    assert json.loads((done.adapter / "adapter_config.json").read_text())["base_model_name_or_path"] == "llama"
    finetune(lm, tmp_path / "b-lora", steps=12)
    one, other = ((tmp_path / f"{x}-lora" / "adapter_model.safetensors").read_bytes() for x in "ab")
    assert one == other
