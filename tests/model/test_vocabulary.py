"""A large vocabulary goes through in pieces: no logits of all positions at once, and the same numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers
from support.forced import scored
from support.twin import edits_at, prompt
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from emo.config.schema import ModelConfig
from emo.core.types import Site, Tokens
from emo.measure.class_prediction import Asked, choice_scores
from emo.measure.damage import kl_per_token, reply_nll
from emo.measure.margin import Question, margins
from emo.model import tiny, vocabulary
from emo.model.generate import generate
from emo.model.lm import LM
from emo.model.load import describe
from emo.model.passes import Row

pytestmark = pytest.mark.usefixtures("quiet")
VOCABULARY, ROOM = 262_144, 6  # Gemma-3's; positions of a piece
PROMPTS = [prompt(9, k) for k in range(5)]
REPLIES = [tuple(prompt(4 + k % 2, k + 30)) for k in range(5)]


@pytest.fixture(scope="module")
def lm() -> LM:
    """Return a tiny model whose vocabulary is not."""
    config = tiny.tiny_config("llama")
    config.vocab_size = VOCABULARY
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
        model.get_input_embeddings().weight.mul_(50)
        model.get_output_embeddings().weight.mul_(20)
    spec = describe(ModelConfig(name="wide", source="tiny", id="llama"), "cpu", "float32")
    return LM(model.requires_grad_(False), tiny.tiny_tokenizer("llama"), spec)


class Widest(TorchDispatchMode):
    """Remembers the most positions of which numbers over the vocabulary stood in one tensor."""

    def __init__(self, head: Tensor) -> None:
        super().__init__()
        self.head, self.positions = head.untyped_storage().data_ptr(), 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call, then look at what came out."""
        out = func(*args, **(kwargs or {}))
        for x in out if isinstance(out, tuple | list) else [out]:
            if isinstance(x, Tensor) and x.shape[-1:] == (VOCABULARY,) and x.untyped_storage().data_ptr() != self.head:
                self.positions = max(self.positions, x.untyped_storage().nbytes() // x.element_size() // VOCABULARY)
        return out


def margin(lm: LM) -> Any:
    """Margins of two conditions of every prompt."""
    edits = edits_at(lm, "add", Site.RESID_POST, Tokens.EVERY_STEP)
    questions = [Question(p, c, p, "joy") for p in range(5) for c in (0, 1)]
    return margins(lm, PROMPTS, questions, [{"joy": r, "neutral": r[:2]} for r in REPLIES], edits, 64)


RUNS: dict[str, tuple[int, Callable[[LM], Any]]] = {  # positions that are asked for in one pass, what asks
    "perplexity": (22, lambda lm: reply_nll(lm, PROMPTS, list(enumerate(REPLIES)), 64)),
    "KL": (
        40,
        lambda lm: kl_per_token(
            lm, PROMPTS, REPLIES, [(p, c) for p in range(5) for c in (0, 1)],
            edits_at(lm, "add", Site.RESID_POST, Tokens.EVERY_STEP), 4, 64,
        ),
    ),
    "margins": (64, margin),
    "choices": (
        20, lambda lm: choice_scores(lm, PROMPTS, [Asked(p, -1) for p in range(5)], [], [(5, 6, 7), (8,), (9, 4)], 64),
    ),
    "replies": (10, lambda lm: generate(
        lm, PROMPTS, [Row(p, -1, decoding=d) for p in range(5) for d in ("plain", "circuit")], [], 12, 64
    )),
}  # fmt: skip


@pytest.mark.parametrize("name", RUNS)
def test_no_more_positions_than_a_piece_holds(lm: LM, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the numbers are those of all positions at once."""
    asked, run = RUNS[name]
    found, seen = [], []
    for room in (10**6, ROOM):
        monkeypatch.setattr(vocabulary, "BYTES", 4 * VOCABULARY * room)
        with Widest(lm.model.get_output_embeddings().weight) as widest:
            found.append(run(lm))
        seen.append(widest.positions)
    assert seen[0] > ROOM  # this net sees it
    assert ROOM // 2 <= seen[1] <= ROOM < asked
    whole, cut = found
    assert whole == cut if name == "replies" else torch.allclose(*_tensors(whole, cut), atol=1e-5)


def _tensors(*found: Any) -> list[Tensor]:
    return [torch.as_tensor(x, dtype=torch.float64) for x in found]


def test_rows_of_a_pass_are_told_apart(lm: LM) -> None:
    """Perplexity and KL of unlike replies against one row at a time."""
    edits = edits_at(lm, "add", Site.RESID_POST, Tokens.EVERY_STEP)
    rows = [Row(p, c, REPLIES[p]) for p in range(5) for c in (-1, 0)]
    alone = {}
    for i, row in enumerate(rows):
        [one] = scored(lm, PROMPTS, [row], edits, 1)
        alone[i] = one.log_probs
    nll = reply_nll(lm, PROMPTS, list(enumerate(REPLIES)), 64)
    kl = kl_per_token(lm, PROMPTS, REPLIES, [(p, 0) for p in range(5)], edits, 9, 64)
    for p, ids in enumerate(REPLIES):
        base, other = alone[2 * p], alone[2 * p + 1]
        assert nll[p] == pytest.approx(-float(base[torch.arange(len(ids)), list(ids)].mean()), rel=1e-5)
        assert kl[p] == pytest.approx(float((base.exp() * (base - other)).sum(-1).mean()), rel=1e-4)
        assert kl[p] is not None and kl[p] > 1e-3
