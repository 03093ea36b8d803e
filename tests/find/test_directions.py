"""Directions against a slow computation over all states at once, and states against one plain pass per prompt."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from support import twin
from support.jobs import config
from torch import Tensor

from emo.config.schema import ElicitationConfig
from emo.core.types import Site
from emo.data.scenarios import DatasetConfig, Sample, load_splits
from emo.find import extraction
from emo.find.directions import Moments, cosines
from emo.find.extraction import extract, probe_states
from emo.model.capture import states
from emo.model.generate import generate
from emo.model.hooks import reading
from emo.model.lm import LM
from emo.model.passes import Row
from emo.model.prefixes import Text
from emo.model.prompts import prompt_ids

pytestmark = pytest.mark.usefixtures("quiet")
EMOTIONS, BLOCKS, WIDTH, SHUFFLES = 4, 3, 5, 3
GROUPS = [f"scenario {i}/{valence}" for i in range(4) for valence in ("positive", "negative")]
States = dict[str, list[Tensor | None]]
ASK = ("emotions.names=[anger,sadness,fear]", "dataset.valences=[positive,negative]")
SAMPLES = load_splits(DatasetConfig(name="sev", limit=2, valences=["positive", "negative"]), 0).extract


def made_up(missing: bool = False) -> tuple[States, dict[str, Tensor]]:
    """Return random states (l, 2, d) of every group and emotion, and neutral ones; None where one is missing."""
    draw = torch.Generator().manual_seed(0)
    x = 3 + torch.randn(len(GROUPS), EMOTIONS + 1, BLOCKS, 2, WIDTH, generator=draw)
    found: States = {group: list(x[i, :EMOTIONS]) for i, group in enumerate(GROUPS)}
    if missing:
        found[GROUPS[2]][1] = None
        found[GROUPS[5]] = [found[GROUPS[5]][0], None, None, None]  # one emotion has no contrast
    return found, {group: x[i, EMOTIONS] for i, group in enumerate(GROUPS)}


class Recorded(Moments):
    """Moments that keep the labels which every group got."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.labels: dict[tuple[int, str], list[int]] = {}

    def _permuted(self, k: int, group: str, present: list[int]) -> list[int]:
        self.labels[k, group] = super()._permuted(k, group, present)
        return self.labels[k, group]


def stacked(
    found: States, neutral: dict[str, Tensor] | None, complete: bool, given: dict[tuple[int, str], list[int]], k: int
) -> Tensor:
    """Return directions before normalising (e, l, 2, d), with all differences held at once, in float64."""
    differences: list[list[Tensor]] = [[] for _ in range(EMOTIONS)]
    for group, given_states in found.items():
        present = [e for e in range(EMOTIONS) if given_states[e] is not None]
        if len(present) < (EMOTIONS if complete else 2):
            continue
        x = torch.stack([s for s in given_states if s is not None]).double()
        base = x.mean(0) if neutral is None else neutral[group].double()
        for row, label in zip(x, given[k, group] if k else present, strict=True):
            differences[label].append(row - base)
    centroids = torch.stack([torch.stack(rows).mean(0) for rows in differences])
    return centroids if neutral is not None else centroids - centroids.mean(0)


def moments(
    found: States, neutral: dict[str, Tensor] | None, complete: bool, order: list[str] | None = None
) -> Recorded:
    """Stream the groups, in ``order``."""
    made = Recorded(EMOTIONS, "emotions_mean" if neutral is None else "neutral", complete, SHUFFLES, 3)
    for group in order or GROUPS:
        made.add(group, found[group], None if neutral is None else neutral[group])
    return made


@pytest.mark.parametrize("complete", [True, False])
@pytest.mark.parametrize("baseline", ["emotions_mean", "neutral"])
def test_streamed_equals_stacked(baseline: str, complete: bool) -> None:
    """Every group, block and sublayer in its place; the sign of the baseline; the divisor of incomplete groups."""
    found, plain = made_up(missing=True)
    neutral = plain if baseline == "neutral" else None
    made = moments(found, neutral, complete)
    assert made.groups == (6 if complete else 7)
    (v, norms), (shuffled, cosine) = made.directions(), made.shuffled()
    assert made.sums is not None and made.sums.dtype is torch.float64
    true = stacked(found, neutral, complete, {}, 0)
    assert (norms - true.norm(dim=-1)).abs().max() <= 1e-5
    assert (v - true / true.norm(dim=-1, keepdim=True)).abs().max() <= 1e-6
    for k in range(1 + SHUFFLES):
        slow = stacked(found, neutral, complete, made.labels, k)
        centroids = made.sums[k] / made.counts[k][:, None, None, None]
        centroids = centroids - centroids.mean(0) if neutral is None else centroids
        assert (centroids - slow).abs().max() <= 1e-10
        if k:
            along = torch.nn.functional.cosine_similarity(slow, true, dim=-1)
            assert (cosine[k - 1] - along).abs().max() <= 1e-6
            left = slow - (slow * true).sum(-1, keepdim=True) / (true * true).sum(-1, keepdim=True) * true
            assert (shuffled[k - 1] - left / left.norm(dim=-1, keepdim=True)).abs().max() <= 1e-5


def test_sizes_and_sums() -> None:
    """Unit vectors; against the emotions' mean they sum to zero before normalising, and leave cosines below one."""
    found, plain = made_up()
    made = moments(found, None, True)
    (v, norms), shuffled = made.directions(), made.shuffled().v
    assert v.shape == (EMOTIONS, BLOCKS, 2, WIDTH)
    assert shuffled.shape == (SHUFFLES, *v.shape)
    assert norms.shape == v.shape[:3]
    for x in (v, *shuffled):
        assert (x.norm(dim=-1) - 1).abs().max() <= 1e-6
    assert (v * norms[..., None]).sum(0).abs().max() <= 1e-6
    neutral, lengths = moments(found, plain, True).directions()
    assert (neutral * lengths[..., None]).sum(0).abs().max() > 0.1
    between = cosines(v)
    assert between.shape == (BLOCKS, 2, EMOTIONS, EMOTIONS)
    assert between[1, 0, 2, 3] == pytest.approx(float(v[2, 1, 0] @ v[3, 1, 0]), abs=1e-6)


def test_the_order_of_groups_does_not_matter() -> None:
    """The true labels' sums are those of any order; permutations are balanced over the groups before."""
    found, _ = made_up(missing=True)
    order = random.Random(0).sample(GROUPS, len(GROUPS))
    one, other, again = (moments(found, None, False, o) for o in (None, order, order))
    assert one.sums is not None and other.sums is not None and again.sums is not None
    assert (one.sums[0] - other.sums[0]).abs().max() <= 1e-10
    assert torch.equal(one.counts, other.counts)
    assert torch.equal(other.sums, again.sums)


def test_permuted_labels_are_a_permutation_within_each_group() -> None:
    """What a group adds is the same set of vectors, under other labels: not always, not never the own one."""
    found, _ = made_up(missing=True)
    own = 0
    for group in GROUPS:
        made = moments(found, None, False, [group])
        present = [e for e, s in enumerate(found[group]) if s is not None]
        if len(present) < 2:
            assert made.groups == 0
            continue
        assert made.sums is not None
        vectors = {e: made.sums[0, e] for e in present}
        for k in range(1, 1 + SHUFFLES):
            assert torch.equal(made.counts[k], made.counts[0])
            labels = [next(e for e in present if torch.equal(made.sums[k, label], vectors[e])) for label in present]
            assert sorted(labels) == present
            own += sum(a == b for a, b in zip(labels, present, strict=True))
    assert own == 0  # alone, a group that kept a label would have no control
    made = moments(found, None, False)
    v, shuffled = made.directions()[0], made.shuffled().v
    assert all((v - x).abs().max() > 0.1 for x in shuffled)
    assert (shuffled[0] - shuffled[1]).abs().max() > 0.1


def test_groups_that_cannot_be_used() -> None:
    """No neutral state, or no emotion to contrast with: the group is left out, and none at all is an error."""
    found, plain = made_up(missing=True)
    made = Moments(EMOTIONS, "neutral", True, 1, 0)
    assert not made.add(GROUPS[0], found[GROUPS[0]], None)
    assert not made.add(GROUPS[2], found[GROUPS[2]], plain[GROUPS[2]])
    assert made.groups == 0
    with pytest.raises(ValueError, match="no group"):
        made.directions()


def alone(lm: LM, ids: list[int], span: int) -> Tensor:
    """Return states (l, sites, d) from one plain pass of the model, averaged over the last ``span`` tokens."""
    behind = [site for site in (Site.RESID_MID, Site.RESID_POST) if site in twin.sites(lm)]
    out = torch.zeros(lm.n_layers, 2, lm.d)

    def keep(site: Site, layer: int, x: Tensor) -> None:
        own = slice(None) if len(behind) == 1 else behind.index(site)  # a parallel block has one state behind both
        out[layer, own] = x[0, len(ids) - span :].mean(0)

    with torch.inference_mode(), reading(lm, [(s, layer) for s in behind for layer in range(lm.n_layers)], keep):
        lm.model(input_ids=torch.tensor([ids]), use_cache=False)
    return out


@pytest.mark.parametrize("template", ["paper", "few_shot"])
def test_states_are_those_of_one_prompt_alone(lm: LM, template: str, tmp_path: Path) -> None:
    """Prompts with common beginnings share a tree: last token, block and site must stay each prompt's own."""
    ask = config(tmp_path, f"elicitation={template}", *ASK).elicitation
    some = SAMPLES[:2] if template == "few_shot" else SAMPLES
    texts = [Text(ids) for form in ("anger", "fear", None) for ids in prompt_ids(lm, ask, some, form)]
    texts += [Text(texts[0].ids), Text(texts[0].ids[:-3]), Text(texts[0].ids[:40], 7), Text([5])]
    slow = [alone(lm, *text) for text in texts]
    for size in (1, 64):
        found = dict(states(lm, texts, size))
        assert sorted(found) == list(range(len(texts)))
        assert all(twin.gap(found[i], x) <= twin.TOLERANCE for i, x in enumerate(slow)), size


@pytest.mark.parametrize("tokens", ["prompt_last", "reply_mean"])
def test_extract_is_the_slow_computation(
    models: dict[str, LM], tokens: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From prompts to directions: reply_mean averages the reply's tokens and nothing else."""
    lm, made = models["llama"], config(tmp_path, f"directions.tokens={tokens}", "generation.max_new_tokens=5", *ASK)
    monkeypatch.setattr(extraction, "GROUPS_AT_ONCE", 3)
    found = extract(lm, made, SAMPLES)
    tensors = found.directions.tensors
    slow = slow_states(lm, SAMPLES, made.elicitation, tokens == "reply_mean")
    differences = slow - slow.mean(1, keepdim=True)
    centroids = differences.mean(0) - differences.mean((0, 1))
    assert twin.gap(tensors["v"], (centroids / centroids.norm(dim=-1, keepdim=True)).float()) <= 1e-4
    assert twin.gap(tensors["norms"], centroids.norm(dim=-1).float()) <= 1e-4
    held = found.probes.tensors["states"]
    assert held.shape == (len(SAMPLES), 3, lm.n_layers, lm.d)
    nearest = [min(twin.gap(x, y.float()) for y in slow[:, :, :, 1]) for x in held]
    assert max(nearest) <= twin.TOLERANCE
    assert found.directions.meta == {"groups": len(SAMPLES), "of": len(SAMPLES)}
    some = replace(made, directions=replace(made.directions, probe_groups=2))
    states = probe_states(lm, some, SAMPLES).tensors["states"]  # what is missing alone is read alone
    assert twin.gap(states, extract(lm, some, SAMPLES).probes.tensors["states"]) <= twin.TOLERANCE


def slow_states(lm: LM, samples: list[Sample], ask: ElicitationConfig, replied: bool) -> Tensor:
    """Return states (groups, e, l, 2, d) in float64, one plain pass each."""
    rows = []
    for sample_index in range(len(samples)):
        row = []
        for emotion in ("anger", "sadness", "fear"):
            ids = prompt_ids(lm, ask, samples, emotion)[sample_index]
            reply = generate(lm, [ids], [Row(0)], [], 5, 1)[0] if replied else []
            assert len(reply) == 5 or not replied
            row.append(alone(lm, [*ids, *reply], len(reply) or 1).double())
        rows.append(torch.stack(row))
    return torch.stack(rows)


def test_the_last_block_may_be_read_behind_the_final_norm(lm: LM) -> None:
    """As the released code does; every other block and sublayer is as before, on every family."""
    texts = [Text(twin.prompt(9, 1)), Text(twin.prompt(14, 2), 5)]
    plain, normed = (dict(states(lm, texts, 4, normed=n)) for n in (False, True))
    last = lm.n_layers - 1
    for i, (ids, span) in enumerate(texts):
        with torch.inference_mode():
            out = lm.model.base_model(input_ids=torch.tensor([ids]), use_cache=False).last_hidden_state
        assert twin.gap(normed[i][last, 1], out[0, len(ids) - span :].mean(0)) <= twin.TOLERANCE
        before = plain if Site.RESID_MID in twin.sites(lm) else normed
        assert torch.equal(normed[i][:last], plain[i][:last])
        assert torch.equal(normed[i][last, 0], before[i][last, 0 if before is plain else 1])
        assert twin.gap(normed[i][last, 1], plain[i][last, 1]) > 0.1
