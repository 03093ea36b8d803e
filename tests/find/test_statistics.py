"""Streamed statistics of neurons == those of all activations kept, and what is held does not grow with the texts."""

from __future__ import annotations

import copy
import gc
import random
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from emo.core.errors import UserError
from emo.core.store import Artifact, Store
from emo.core.types import Site
from emo.find.activation_stats import Statistics, collect
from emo.model.lm import LM
from emo.model.prefix_tree import PADDING, Block, TokenTrees

pytestmark = pytest.mark.usefixtures("quiet")
CLASSES = 3
PREFIX = [(7 * i) % 200 + 5 for i in range(20)]  # a template that most texts begin with
FAMILIES = ("llama", "qwen2", "gemma3", "gpt2")
PLACES = {  # (module inside a block, whether the site is its input): what a family's table says, said again
    ("llama", Site.GATE): ("mlp.act_fn", False),
    ("llama", Site.NEURON): ("mlp.down_proj", True),
    ("gpt2", Site.GATE): ("mlp.c_proj", True),
    ("gpt2", Site.NEURON): ("mlp.c_proj", True),
}


class Case(NamedTuple):
    """Texts with what counts of them, and their classes."""

    texts: list[list[int]]
    spans: list[tuple[int, int]]
    labels: list[int]


def case(last: bool, count: int = 12) -> Case:
    """Return texts of different lengths, of which the last token or the middle counts; two are the same text."""
    draw = random.Random(3)
    bodies = [[draw.randrange(3, 250) for _ in range(draw.randrange(1, 45))] for _ in range(count)]
    bodies[5] = bodies[2]
    texts = [(PREFIX if i % 4 else []) + body + [9, 8, 7] for i, body in enumerate(bodies)]
    starts = [len(PREFIX) if i % 4 else 0 for i in range(count)]
    content = [(a, len(ids) - 3) for a, ids in zip(starts, texts, strict=True)]
    spans = [(len(ids) - 1, len(ids)) for ids in texts] if last else content
    return Case(texts, spans, [i % CLASSES for i in range(count)])


@pytest.fixture(scope="module", params=FAMILIES)
def exact(request: pytest.FixtureRequest, models: dict[str, LM]) -> tuple[str, LM]:
    """Return a family and its model in float64, where batches differ by less than 1e-10."""
    lm = models[request.param]
    return request.param, LM(copy.deepcopy(lm.model).double(), lm.tokenizer, lm.spec)


def activations(lm: LM, ids: Sequence[int], path: str, before: bool) -> Tensor:
    """Return all activations (L, t, F) of one text alone, by a plain forward pass of the library's model."""
    kept: list[Tensor] = []
    handles = []
    for block in lm.blocks:
        module = block.get_submodule(path)
        if before:
            handles.append(module.register_forward_pre_hook(lambda _, args: kept.append(args[0][0])))
        else:
            handles.append(module.register_forward_hook(lambda _, __, out: kept.append(out[0])))
    with torch.no_grad():
        lm.model(torch.tensor([list(ids)]))
    for handle in handles:
        handle.remove()
    return torch.stack(kept)


def stacked(lm: LM, family: str, given: Case, site: Site) -> Statistics:
    """Return the statistics of all activations, kept side by side: the slow computation."""
    place = PLACES["gpt2" if family == "gpt2" else "llama", site]
    read = [activations(lm, ids, *place)[:, a:b].double() for ids, (a, b) in zip(given.texts, given.spans, strict=True)]
    found = []
    for c in range(CLASSES):
        x = torch.cat([own for own, label in zip(read, given.labels, strict=True) if label == c], 1)  # (L, tokens, F)
        parts = (x > 0).double().sum(1), x.sum(1), x.abs().sum(1), (x * x).sum(1), x.abs().max(1).values
        found.append((torch.tensor(float(x.shape[1])).double(), *parts))
    return Statistics(*(torch.stack(kind) for kind in zip(*found, strict=True)))


@pytest.mark.parametrize("last", [False, True], ids=["content", "last"])
@pytest.mark.parametrize("site", [Site.GATE, Site.NEURON])
def test_streamed_is_stacked(exact: tuple[str, LM], site: Site, last: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """On every sum, for small and large batches, with padding among them."""
    family, lm = exact
    given = case(last)
    slow = stacked(lm, family, given, site)
    assert slow.tokens.sum() == sum(b - a for a, b in given.spans)
    passes = spy(monkeypatch)
    for batch_size in (1, 7):
        passes.clear()
        fast = collect(lm, *given, CLASSES, site, batch_size)
        assert len(passes) > 1
        assert any((block.branch == PADDING).any() for block in passes)
        for name, a, b in zip(Statistics._fields, fast, slow, strict=True):
            assert a.dtype == torch.float64 and a.device.type == "cpu" and a.shape == b.shape
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10, msg=lambda text, name=name: f"{name}: {text}")
        assert torch.equal(fast.active, slow.active) and torch.equal(fast.tokens, slow.tokens)


def spy(monkeypatch: pytest.MonkeyPatch) -> list[Block]:
    """Return a list that every forward pass adds its block to."""
    passes: list[Block] = []
    extend = TokenTrees.extend

    def spied(self: TokenTrees, block: Block) -> Tensor:
        passes.append(block)
        return extend(self, block)

    monkeypatch.setattr(TokenTrees, "extend", spied)
    return passes


def test_single_precision(models: dict[str, LM]) -> None:
    """In the model's own dtype sums are kept in float64: of float32 activations, not of float32 sums."""
    lm, given = models["llama"], case(False)
    fast, slow = collect(lm, *given, CLASSES, Site.NEURON, 2), stacked(lm, "llama", given, Site.NEURON)
    for a, b in zip(fast, slow, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_a_common_beginning_is_read_once(models: dict[str, LM], monkeypatch: pytest.MonkeyPatch) -> None:
    """The template of a prompt is most of a short text."""
    texts = [[*PREFIX, 30 + i] for i in range(9)]
    passes = spy(monkeypatch)
    collect(models["llama"], texts, [(20, 21)] * 9, [0] * 9, 1, Site.GATE, 4)
    assert sum(int((block.branch != PADDING).sum()) for block in passes) == 20 + 9


@pytest.mark.parametrize("texts", [12, 120])
def test_memory_is_flat(models: dict[str, LM], texts: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the last pass no more is held than before the second one."""
    lm, given = models["llama"], case(False, texts)
    passes = spy(monkeypatch)
    collect(lm, *given, CLASSES, Site.NEURON, 1)
    total = len(passes)
    passes.clear()
    held: list[int] = []
    extend = TokenTrees.extend

    def counted(self: TokenTrees, block: Block) -> Tensor:
        if len(held) in (1, total - 1):
            gc.collect()
            alive = {x.untyped_storage().data_ptr(): x.untyped_storage().nbytes() for x in gc.get_objects() if wide(x)}
            held.append(sum(alive.values()))
        else:
            held.append(0)
        return extend(self, block)

    def wide(x: object) -> bool:
        return type(x) is Tensor and x.is_floating_point() and x.shape[-1:] == (lm.f,)

    monkeypatch.setattr(TokenTrees, "extend", counted)
    collect(lm, *given, CLASSES, Site.NEURON, 1)
    assert len(held) == total >= 4
    assert held[1] == held[-1] > 0


def test_means_and_probability() -> None:
    """Two classes of 4 and 1 tokens, one neuron."""
    sums = [torch.tensor([x, y]).double()[:, None, None] for x, y in ((3, 0), (6, -2), (8, 2), (20, 4), (4, 2))]
    made = Statistics(torch.tensor([4.0, 1.0]).double(), *sums)
    assert made.probability.flatten().tolist() == [0.75, 0]
    assert (made.mean(0).item(), made.mean(1).item(), made.mean().item()) == (1.5, -2, 0.8)
    assert (made.mean_absolute(0).item(), made.mean_absolute(1).item(), made.mean_absolute().item()) == (2, 2, 2)
    assert (made.mean_others(0).item(), made.mean_others(1).item()) == (-2, 1.5)


def test_a_class_without_texts_is_never_active(models: dict[str, LM]) -> None:
    """No tokens: zero, not nan, which would sort first."""
    made = collect(models["gpt2"], [[5, 6, 7]], [(1, 3)], [1], 3, Site.GATE, 1)
    assert made.tokens.tolist() == [0, 2, 0]
    assert not made.probability[[0, 2]].any() and not made.mean(0).any() and made.mean(1).any()


def test_kept_and_read_again(models: dict[str, LM], tmp_path: Path) -> None:
    """As an artifact of the store."""
    made = collect(models["llama"], *case(True), CLASSES, Site.GATE, 4)
    store = Store(tmp_path)
    store.put("statistics", "a" * 64, Artifact(made.to_tensors()), {}, 0.0)
    kept = store.get("statistics", "a" * 64)
    assert kept is not None
    assert all(torch.equal(a, b) for a, b in zip(Statistics.from_tensors(kept.tensors), made, strict=True))


def test_texts_without_a_token_and_other_sites_are_refused(models: dict[str, LM]) -> None:
    """A text of which nothing counts, and a site that holds no neurons."""
    lm = models["llama"]
    for span in ((2, 2), (2, 9), (-1, 2)):
        with pytest.raises(UserError, match=r"text 2 of 2 has no token to count"):
            collect(lm, [[5, 6], [5, 6, 7]], [(0, 1), span], [0, 0], 1, Site.GATE, 1)
    with pytest.raises(ValueError, match="gate or neuron"):
        collect(lm, [[5, 6]], [(0, 1)], [0], 1, Site.RESID_POST, 1)
