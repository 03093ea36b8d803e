"""The host waits for the device a fixed number of times a pass: not per row, not per token, not per block."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from support.twin import edits_at, prompt, unit
from support.waits import counted

from emo.core.types import Site, Tokens
from emo.find.activation_stats import collect
from emo.find.reference import reference
from emo.find.sublayer_importance import sublayer_importance
from emo.measure.class_prediction import Asked, choice_scores
from emo.measure.damage import kl_per_token, reply_nll
from emo.measure.dose import doses
from emo.measure.margin import Question, margins
from emo.measure.projections import projections
from emo.model import generate as generating
from emo.model.capture import activations
from emo.model.generate import generate
from emo.model.hooks import Edit
from emo.model.lm import LM
from emo.model.passes import Row
from emo.model.prefixes import Text

pytestmark = pytest.mark.usefixtures("quiet")
FAMILIES = ("llama", "gemma3")
FEW, MANY = 2, 12  # prompts of a pass
EVERY = 4  # tokens between two looks
SITES = (Site.RESID_POST, Site.RESID_MID, Site.HEAD, Site.NEURON)


@pytest.fixture(params=FAMILIES)
def lm(request: pytest.FixtureRequest, models: dict[str, LM], monkeypatch: pytest.MonkeyPatch) -> LM:
    """Return a model whose replies do not end, so that all batches write as many tokens; as on a GPU."""
    found = models[request.param]
    monkeypatch.setattr(type(found), "stop_ids", lambda _: {found.config.vocab_size - 1})
    monkeypatch.setattr(generating, "CHECKED_EVERY", {"cpu": EVERY})
    return found


def prompts(n: int) -> list[list[int]]:
    """Return prompts of unlike lengths with a common beginning."""
    return [[*prompt(20), *prompt(5 + k, k)] for k in range(n)]


def rows(n: int, decoding: str = "plain") -> list[Row]:
    """Return three conditions of every prompt, the last decoded plainly."""
    return [Row(p, cond, decoding=decoding if cond < 1 else "plain") for p in range(n) for cond in (-1, 0, 1)]


def edits(lm: LM, tokens: Tokens) -> list[Edit]:
    """Return edits at many sites, of which one fades."""
    made = [e for site in SITES for e in edits_at(lm, "add", site, tokens)]
    made += edits_at(lm, "zero", Site.NEURON, tokens) + edits_at(lm, "scale", Site.HEAD, tokens)
    return [*made, *(Edit(e.site, e.layer, e.op, tokens, 0.9) for e in edits_at(lm, "add", Site.MLP_ADD, tokens))]


def waits(lm: LM, run: Callable[[], Any]) -> Counter[str]:
    """Return what waits in one run, prompts being read anew."""
    lm.prefixes.clear()
    with counted() as seen:
        run()
    lm.prefixes.clear()
    return seen


@pytest.mark.parametrize("tokens", list(Tokens))
@pytest.mark.parametrize("decoding", ["plain", "steering", "circuit"])
def test_generation_waits_once_every_few_tokens(lm: LM, decoding: str, tokens: Tokens) -> None:
    """Edited, unedited and penalised rows side by side: six times the rows wait as often, longer replies by a share."""
    made = edits(lm, tokens)

    def run(n: int, limit: int) -> Counter[str]:
        return waits(lm, lambda: generate(lm, prompts(n), rows(n, decoding), made, limit, 64))

    few, many, longer = run(FEW, 8), run(MANY, 8), run(MANY, 8 + 4 * EVERY)
    assert few == many
    assert few.total() <= 8 // EVERY  # nothing but the looks
    assert longer.total() == many.total() + 4


def questions(n: int) -> list[Question]:
    return [Question(p, cond, p, "joy") for p in range(n) for cond in (-1, 0)]


def replies(n: int) -> list[dict[str, tuple[int, ...]]]:
    return [{"joy": tuple(prompt(4, k)), "neutral": tuple(prompt(3, k + 50))} for k in range(n)]


def importance(lm: LM, ids: Sequence[Sequence[int]]) -> None:
    """Push every sublayer for one emotion."""
    v = unit(1, lm.n_layers, 2, lm.d)
    sublayer_importance(lm, ids, v, reference(v, [1, 2]), [0.3, 0.5], 64)


RUNS: dict[str, Callable[[LM, list[list[int]], list[Edit]], Any]] = {
    "capture": lambda lm, ids, _: list(activations(lm, [Text(x) for x in ids], 64)),
    "capture of means": lambda lm, ids, _: list(activations(lm, [Text(x, 3) for x in ids], 64)),
    "projections": lambda lm, ids, made: projections(
        lm, ids, rows(len(ids)), made, unit(2, lm.n_layers, lm.d), 64, keep=range(len(ids))
    ),
    "doses": lambda lm, ids, _: doses(
        lm, ids, rows(len(ids)), edits_at(lm, "add", Site.HEAD, Tokens.EVERY_STEP), 64, "doses"
    ),
    "perplexity": lambda lm, ids, _: reply_nll(lm, ids, [(p, prompt(4, p)) for p in range(len(ids))], 64),
    "margins": lambda lm, ids, made: margins(lm, ids, questions(len(ids)), replies(len(ids)), made, 64),
    "KL": lambda lm, ids, made: kl_per_token(
        lm, ids, [prompt(4, p) for p in range(len(ids))], [(p, c) for p in range(len(ids)) for c in (0, 1)], made, 3, 64
    ),
    "choices": lambda lm, ids, made: choice_scores(
        lm, ids, [Asked(p, 0) for p in range(len(ids))], made, [(7, 8), (9,), (10, 11, 12)], 64
    ),
    "statistics": lambda lm, ids, _: collect(
        lm, ids, [(1, len(x)) for x in ids], [p % 2 for p in range(len(ids))], 2, Site.NEURON, 64
    ),
    "sublayer importance": lambda lm, ids, _: importance(lm, ids),
}  # fmt: skip


@pytest.mark.parametrize("name", RUNS)
def test_a_pass_waits_as_often_whatever_it_holds(lm: LM, name: str) -> None:
    """Six times the prompts in one pass; and less often than there are blocks, so not in a hook."""
    made = edits(lm, Tokens.EVERY_STEP)
    few, many = (waits(lm, lambda n=n: RUNS[name](lm, prompts(n), made)) for n in (FEW, MANY))  # type: ignore[misc]
    assert few == many
    assert sum(many.values()) > 0  # it is looked at in the end


def test_the_nets_catch_what_waits() -> None:
    """Every way in which a number or a mask comes to the host."""
    x = torch.arange(4.0)
    ways: list[Callable[[], Any]] = [
        lambda: float(x[0]), lambda: bool(x.sum() > 0), x.tolist, x.cpu, lambda: x[x > 1], lambda: x[[0, 1]],
        lambda: x.sum().item(), lambda: x.nonzero(), lambda: torch.tensor([1.0]),
        lambda: x.__setitem__(x > 5, 0.0), lambda: x.masked_select(x > 1), lambda: range(int(x.argmax())),
    ]  # fmt: skip
    for way in ways:
        with counted() as seen, torch.inference_mode():
            way()
        assert seen
    with counted() as seen, torch.inference_mode():
        torch.where(x > 1, x, 0.0)[torch.tensor(1).new_zeros(2)].masked_fill(x[:2] > 0, 0.0)
    assert set(seen) == {"tensor"}
