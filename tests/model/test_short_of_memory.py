"""Passes that run out of memory are halved wherever a model is read; what a pass had begun counts once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from support.twin import edits_at, prompt
from torch import Tensor

from emo.config.schema import Config, ElicitationConfig, EmotionsConfig
from emo.core.errors import UserError
from emo.core.types import Site, Tokens
from emo.data.scenarios import Sample
from emo.find.activation_stats import collect
from emo.find.attribution import attribute
from emo.find.direct_effect import direct_effects
from emo.measure.class_prediction import Asked, choice_scores
from emo.measure.damage import kl_per_token, reply_nll
from emo.measure.dose import doses
from emo.measure.margin import Question, margins
from emo.model.capture import activations
from emo.model.lm import LM
from emo.model.passes import Row
from emo.model.prefixes import Text

pytestmark = pytest.mark.usefixtures("quiet")
PROMPTS = [[*prompt(20 if k < 4 else 3), *prompt(4 + k, k)] for k in range(7)]  # four share a beginning
REPLIES = [tuple(prompt(4, k)) for k in range(7)]


def captured(lm: LM, span: int = 1) -> dict[str, Tensor]:
    """Return what capture gives, by text and site."""
    found = {}
    for batch in activations(lm, [Text(ids, span) for ids in PROMPTS], 8):
        for site, x in batch.at.items():
            found |= {f"{i} {site}": own for i, own in zip(batch.texts, x, strict=True)}
    assert len(found) == 2 * len(PROMPTS)
    return found


def attributed(lm: LM) -> dict[str, Tensor]:
    """Return scores of units under two emotions."""
    samples = [
        Sample(id=str(k), scenario_id=str(k // 2), theme="work", valence="positive", scenario="x" * (5 + k), event="")
        for k in range(4)
    ]
    asked = Config(batch_size=8, emotions=EmotionsConfig(["anger", "fear"]), elicitation=ElicitationConfig("paper"))
    v = torch.randn(2, lm.n_layers, 2, lm.d, generator=torch.Generator().manual_seed(0))
    every = {(sample.id, emotion) for sample in samples for emotion in ("anger", "fear")}
    return attribute(lm, asked, samples, v, every, "emotions_mean").tensors


def pushed(lm: LM) -> list[Any]:
    return edits_at(lm, "add", Site.HEAD, Tokens.EVERY_STEP)


PAIRS = [(p, c) for p in range(7) for c in (0, 1)]
RUNS: dict[str, Callable[[LM], Any]] = {
    "capture": captured,
    "capture of means": lambda lm: captured(lm, 3),
    "attribution": attributed,
    "direct effects": lambda lm: {"": direct_effects(lm, PROMPTS, [p % 2 for p in range(7)], 2, 8)},
    "statistics": lambda lm: collect(
        lm, PROMPTS, [(1, len(x)) for x in PROMPTS], [p % 2 for p in range(7)], 2, Site.NEURON, 8
    )._asdict(),
    "perplexity": lambda lm: reply_nll(lm, PROMPTS, list(enumerate(REPLIES)), 8),
    "KL": lambda lm: kl_per_token(lm, PROMPTS, REPLIES, PAIRS, pushed(lm), 4, 8),
    "margins": lambda lm: margins(
        lm, PROMPTS, [Question(p, c, p, "joy") for p, c in PAIRS],
        [{"joy": ids, "neutral": ids[:2]} for ids in REPLIES], pushed(lm), 8,
    ),
    "doses": lambda lm: {"": doses(lm, PROMPTS, [Row(p, c) for p, c in PAIRS], pushed(lm), 8, "doses")},
    "choices": lambda lm: {"": choice_scores(lm, PROMPTS, [Asked(*x) for x in PAIRS], pushed(lm), [(7, 8), (9,)], 8)},
}  # fmt: skip


@pytest.mark.parametrize("name", RUNS)
def test_numbers_are_those_of_passes_that_fit(
    models: dict[str, LM], name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Memory runs out at the end of a pass, when all hooks have seen all blocks."""
    lm, hidden = models["llama"], LM.hidden
    sizes: list[int] = []

    def full(self: LM, ids: Tensor, *rest: Any) -> Tensor:
        out = hidden(self, ids, *rest)
        sizes.append(ids.numel())
        if sizes[-1] > room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return out

    monkeypatch.setattr(LM, "hidden", full)
    lm.prefixes.clear()
    room = 10**9
    whole = RUNS[name](lm)
    room = max(sizes) - 1
    lm.prefixes.clear()
    cut = RUNS[name](lm)
    assert "passes are halved" in caplog.text
    if isinstance(whole, dict):
        assert whole.keys() == cut.keys()
        for key, x in whole.items():
            torch.testing.assert_close(cut[key], x, rtol=1e-5, atol=1e-5)
    else:
        assert cut == pytest.approx(whole, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("name", ["capture", "statistics"])
def test_a_single_text_that_does_not_fit(models: dict[str, LM], name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line, not an endless loop."""

    def full(*_: Any) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(LM, "hidden", full)
    with pytest.raises(UserError, match="out of memory with a single text; type a smaller model"):
        RUNS[name](models["llama"])
