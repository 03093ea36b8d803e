"""Scores and difference vectors against one plain pass per prompt, and against zeroing every head and running again."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from support import planted
from support.jobs import config
from support.modules import columns
from support.twin import TOLERANCE, gap, sites, unit
from support.units import run_plain
from torch import Tensor, nn

from emo.config.schema import Config
from emo.core.errors import UserError
from emo.core.store import Artifact
from emo.core.types import Site
from emo.data.scenarios import DatasetConfig, load_splits
from emo.find.attribution import attribute, stability
from emo.find.contributions import head_contributions, neuron_contributions
from emo.find.directions import ATTN, MLP
from emo.find.extraction import accepted, extract
from emo.model.capture import activations
from emo.model.lm import LM
from emo.model.prefixes import Text
from emo.model.prompts import prompt_ids
from emo.pipeline.scenario import Job

pytestmark = [pytest.mark.usefixtures("quiet"), pytest.mark.long]  # closed forms against brute force
NAMES = ("anger", "fear", "sadness")
SAMPLES = load_splits(DatasetConfig(name="sev", limit=2, valences=["positive", "negative"]), 0).extract
ALL = {(sample.id, name) for sample in SAMPLES for name in NAMES}
PROJECTIONS = (Site.HEAD, Site.NEURON)
BEFORE_MLP = {  # the norm in front of the MLP where it is not post_attention_layernorm, written out: not what `LM` says
    **dict.fromkeys(("gemma2", "gemma3_text", "gemma3"), "pre_feedforward_layernorm"),
    "gpt2": "ln_2",
    "olmo2": None,
}


class Plain(NamedTuple):
    """Last-token activations (l, w) of one prompt, and how far zeroing a head lowers the score (2, l, h)."""

    at: dict[Site, Tensor]
    dropped: Tensor  # scored at the residual stream, at the MLP's input


def asked(folder: Path, *more: str) -> Config:
    """Return a configuration for these emotions."""
    return config(folder, f"emotions.names=[{','.join(NAMES)}]", "elicitation=paper", *more)


def vectors(lm: LM) -> Tensor:
    """Return unit directions (e, l, 2, d) that differ everywhere."""
    return unit(len(NAMES), lm.n_layers, 2, lm.d, seed=4)


def read(lm: LM) -> tuple[Site, ...]:
    """Return the sites that are read; where no state is between attention and MLP, the one behind both."""
    return Site.HEAD, Site.NEURON, behind(lm), Site.ATTN_ADD, Site.MLP_ADD


def behind(lm: LM) -> Site:
    """Return where the state behind the attention is."""
    return Site.RESID_MID if Site.RESID_MID in sites(lm) else Site.RESID_POST


def scored(lm: LM, layer: int, mid: Tensor, v: Tensor) -> Tensor:
    """Return the projection of the state behind the attention and of the MLP's input on ``v``."""
    path = BEFORE_MLP.get(lm.kind, "post_attention_layernorm")
    with torch.no_grad():
        norm = nn.Identity() if path is None else lm.blocks[layer].get_submodule(path)
        return torch.stack([mid @ v, norm(mid.clone()) @ v])


@cache
def naive(lm: LM, folder: Path) -> dict[tuple[str, str | None], Plain]:
    """Return, per sample id and emotion (None: neutral), what plain passes give."""
    found = {}
    for name in (*NAMES, None):
        for sample, ids in zip(SAMPLES, prompt_ids(lm, asked(folder).elicitation, SAMPLES, name), strict=True):
            whole = run_plain(lm, ids, read(lm))
            dropped = torch.zeros(2, lm.n_layers, lm.h)
            # Brute force, 16 runs a prompt: of one prompt per emotion and scenario, for the time it takes.
            if name is not None and sample.valence == "negative":
                v = vectors(lm)[NAMES.index(name), :, ATTN]
                for layer in range(lm.n_layers):
                    before = scored(lm, layer, whole[behind(lm)][layer], v[layer])
                    for head in range(lm.h):
                        after = run_plain(lm, ids, [behind(lm)], (layer, head))[behind(lm)][layer]
                        dropped[:, layer, head] = before - scored(lm, layer, after, v[layer])
            found[sample.id, name] = Plain(whole, dropped)
    return found


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return one folder for all configurations that write nothing."""
    return tmp_path_factory.mktemp("out")


def by_module(lm: LM, plain: Plain, layer: int, v: Tensor) -> Tensor:
    """Return the neurons' contributions (f): each neuron alone through the model's own projection and post-norm."""
    x, (each, bias) = plain.at[Site.NEURON][layer], columns(lm, layer)
    with torch.no_grad():
        alone = torch.diag(x) @ each
        if lm.family.mlp_norm is not None:
            norm, out = lm.blocks[layer].get_submodule(lm.family.mlp_norm), x @ each + bias
            gain, eps = (norm.weight, norm.variance_epsilon) if lm.kind == "olmo2" else (1 + norm.weight, norm.eps)
            alone = alone * gain / (out.pow(2).mean() + eps).sqrt()
        return alone @ v


def found_by(lm: LM, folder: Path, *more: str, counted: set[tuple[str, str]] = ALL, baseline: str = "") -> Artifact:
    """Attribute with the vectors of this file."""
    made = asked(folder, *more)
    return attribute(lm, made, SAMPLES, vectors(lm), counted, baseline or "emotions_mean")


def test_projections_are_those_of_the_model(lm: LM) -> None:
    """Transposed where the model stores it the other way round; of this block and no other."""
    for site in PROJECTIONS:
        for layer in range(lm.n_layers):
            weight, bias = lm.projection(site, layer)
            x = torch.randn(3, weight.shape[1])
            ours = x @ weight.T + (0 if bias is None else bias)
            assert weight.shape == (lm.d, lm.h * lm.p if site is Site.HEAD else lm.f)
            if site is Site.HEAD:
                theirs = lm.module(site, layer)[0](x) * getattr(lm.config, "residual_multiplier", 1)
            else:
                theirs = x @ columns(lm, layer)[0] + columns(lm, layer)[1]
            assert gap(ours, theirs) <= TOLERANCE
    with pytest.raises(ValueError, match="'gate' is no input of an output projection"):
        lm.projection(Site.GATE, 0)
    has_norms = lm.kind.startswith(("gemma", "olmo"))
    assert all(isinstance(lm.post_norm(site, 1), nn.Module) == has_norms for site in PROJECTIONS)


@pytest.mark.parametrize("score_at", ["residual", "mlp_input"])
def test_heads_equal_zero_and_run_again(lm: LM, folder: Path, score_at: str) -> None:
    """In closed form, from batches with left padding and shared prefixes; prompts of an emotion have its own v."""
    if score_at == "mlp_input" and Site.RESID_MID not in sites(lm):
        with pytest.raises(UserError, match="has no site 'resid_mid'"):
            found_by(lm, folder, f"attribution.score_at={score_at}")
        return
    counted = {(s.id, name) for s in SAMPLES for name in NAMES if s.valence == "negative"}
    negative = [s for s in SAMPLES if s.valence == "negative"]
    heads = found_by(lm, folder, f"attribution.score_at={score_at}", counted=counted).tensors["heads"]
    mode = ("residual", "mlp_input").index(score_at)
    slow = torch.stack(
        [torch.stack([naive(lm, folder)[s.id, name].dropped[mode] for s in negative]).mean(0) for name in NAMES]
    )
    assert heads.shape == (len(NAMES), lm.n_layers, lm.h)
    assert gap(heads, slow) <= TOLERANCE


def test_contributions_sum_to_what_the_sublayers_add(lm: LM, folder: Path) -> None:
    """All heads together are attn_add (no post-norm), all neurons mlp_add (post-norm included); no bias."""
    for layer in range(lm.n_layers):
        plain = naive(lm, folder)[SAMPLES[1].id, "fear"].at
        for site, added, contributions, kind in (
            (Site.HEAD, Site.ATTN_ADD, head_contributions, ATTN),
            (Site.NEURON, Site.MLP_ADD, neuron_contributions, MLP),
        ):
            if site is Site.HEAD and lm.family.attention_norm is not None:
                continue  # N(a) - N(a - c) is not linear in c
            v, bias = vectors(lm)[1, layer, kind], lm.projection(site, layer)[1]
            assert bias is None or lm.post_norm(site, layer) is None
            whole = (plain[added][layer] - (0 if bias is None else bias)) @ v
            parts = contributions(lm, layer, plain[site][layer][None], v[None])[0]
            assert abs(parts.sum() - whole) <= TOLERANCE * parts.abs().sum(), (site, layer)


@pytest.mark.parametrize("baseline", ["emotions_mean", "neutral"])
def test_attribution_is_the_slow_computation(lm: LM, folder: Path, baseline: str) -> None:
    """Means of neurons over the emotion's own samples, differences within groups; the same for every batch size."""
    plain = naive(lm, folder)
    ours = [found_by(lm, folder, f"batch_size={size}", baseline=baseline).tensors for size in (64, 1)]
    neurons = torch.zeros(len(NAMES), lm.n_layers, lm.f)
    for e, name in enumerate(NAMES):
        for layer in range(lm.n_layers):
            v = vectors(lm)[e, layer, MLP]
            neurons[e, layer] = torch.stack([by_module(lm, plain[s.id, name], layer, v) for s in SAMPLES]).mean(0)
    assert all(gap(x["neurons"], neurons) <= TOLERANCE for x in ours)
    assert gap(ours[0]["heads"], ours[1]["heads"]) <= TOLERANCE
    for key, site in (("delta_mlp", Site.NEURON), ("delta_attn", Site.HEAD)):
        x = torch.stack([torch.stack([plain[s.id, name].at[site] for name in NAMES]) for s in SAMPLES]).double()
        base = torch.stack([plain[s.id, None].at[site] for s in SAMPLES])[:, None].double()
        slow = (x - (x.mean(1, keepdim=True) if baseline == "emotions_mean" else base)).mean(0)
        # Relative to the activations: four windows of the tiny mistral do not reach back to the emotion's name.
        assert lm.kind == "mistral" or slow.abs().max() >= 0.01 * x.abs().max()
        for found in ours:
            assert found[key].shape == slow.shape
            assert (found[key] - slow).abs().max() <= TOLERANCE * x.abs().max(), key


def test_halves_are_scenarios_and_average_to_the_whole(lm: LM, folder: Path) -> None:
    """Two scenarios of two outcomes: the first half is the first scenario, with both."""
    tensors = found_by(lm, folder).tensors
    for key in ("neurons", "heads"):
        assert gap(tensors[f"{key}_halves"].mean(0), tensors[key]) <= 1e-6
    for half, scenario in enumerate(dict.fromkeys(s.scenario_id for s in SAMPLES)):
        counted = {(s.id, name) for s in SAMPLES if s.scenario_id == scenario for name in NAMES}
        part = found_by(lm, folder, counted=counted)
        assert part.meta == {"samples": dict.fromkeys(NAMES, 2)}
        for key in ("neurons", "heads"):
            assert gap(part.tensors[key], tensors[f"{key}_halves"][half]) <= TOLERANCE, key
            assert part.tensors[f"{key}_halves"][1 - half].isnan().all()  # nothing was measured there


@pytest.mark.parametrize("baseline", ["emotions_mean", "neutral"])
@pytest.mark.parametrize("groups", ["complete", "available"])
def test_only_accepted_samples_count(models: dict[str, LM], folder: Path, groups: str, baseline: str) -> None:
    """A score takes every accepted sample; a difference only groups that are complete, or have a contrast at all."""
    lm = models["llama"]
    refused = {(SAMPLES[0].id, "fear"), (SAMPLES[2].id, "anger"), (SAMPLES[2].id, "fear")}
    found = found_by(lm, folder, f"elicitation.groups={groups}", counted=ALL - refused, baseline=baseline)
    assert found.meta == {"samples": {"anger": 3, "fear": 2, "sadness": 4}}
    plain, present = naive(lm, folder), {s.id: [n for n in NAMES if (s.id, n) not in refused] for s in SAMPLES}
    used = [s for s in SAMPLES if len(present[s.id]) >= (3 if groups == "complete" else 2)]
    assert len(used) == (2 if groups == "complete" else 3)
    for key, site in (("delta_mlp", Site.NEURON), ("delta_attn", Site.HEAD)):
        centroids = []
        for name in NAMES:
            rows = []
            for s in used:
                base = [None] if baseline == "neutral" else present[s.id]
                if name in present[s.id]:
                    mean = torch.stack([plain[s.id, form].at[site].double() for form in base]).mean(0)
                    rows.append(plain[s.id, name].at[site] - mean)
            centroids.append(torch.stack(rows).mean(0))
        slow = torch.stack(centroids)
        slow = slow - slow.mean(0) if baseline == "emotions_mean" else slow
        assert gap(found.tensors[key], slow.float()) <= TOLERANCE, key
    for e, name in enumerate(NAMES):
        rows = [by_module(lm, plain[s.id, name], 2, vectors(lm)[e, 2, MLP]) for s in SAMPLES if name in present[s.id]]
        assert gap(found.tensors["neurons"][e, 2], torch.stack(rows).mean(0)) <= TOLERANCE
    with pytest.raises(ValueError, match=f"no accepted sample of {'anger' if groups == 'complete' else 'fear'}"):
        found_by(lm, folder, f"elicitation.groups={groups}", counted={pair for pair in ALL if pair[1] != "fear"})


def test_activations_of_different_widths(lm: LM, folder: Path) -> None:
    """Any sites in one pass, each prompt's own, in the order of the indices."""
    ids = prompt_ids(lm, asked(folder).elicitation, SAMPLES, "sadness")
    seen = []
    for batch in activations(lm, [Text(x) for x in ids], 8, sites=read(lm)):
        seen += batch.texts
        for n, i in enumerate(batch.texts):
            plain = naive(lm, folder)[SAMPLES[i].id, "sadness"].at
            assert all(gap(batch.at[site][n], plain[site]) <= TOLERANCE for site in read(lm))
    assert sorted(seen) == list(range(len(SAMPLES)))


def test_stability_of_a_ranking() -> None:
    """Same order: 1 and 1; reversed: -1 and nothing in common; signed, not by size; nan where a half is missing."""
    scores = torch.tensor([[-9.0, 1, 2, 3, 40], [-1.0, 1, 2, 3, 4], [4.0, 3, 2, 1, -10], [3.0, 1, 2, 4, 5]])
    same, reverse, other = (torch.stack([scores[0], scores[k]])[:, None, None] for k in (1, 2, 3))
    rho, overlap = stability(torch.cat([same, reverse, other], 2), 2)
    assert rho.shape == overlap.shape == (1, 3)
    # ranks 1 2 3 4 5 and 3 1 2 4 5: 1 - 6 * (4 + 1 + 1) / (5 * 24)
    assert torch.allclose(rho, torch.tensor([[1, -1, 0.7]], dtype=torch.float64))
    assert overlap.tolist() == [[1, 0, 1]]
    assert stability(other, 3)[1].item() == pytest.approx(2 / 4)
    missing = same.clone()
    missing[1] = torch.nan
    assert all(x.isnan().all() for x in stability(missing, 2))
    for k in (0, 6):
        with pytest.raises(ValueError, match=f"k={k}: from 1 to 5 units"):
            stability(same, k)


def test_through_a_job(tmp_path: Path) -> None:
    """Computed once from the job's own directions, then read from the store, with the documented shapes."""
    job = Job(config(tmp_path))
    made, lm, e = job.attribution, job.lm, len(job.names)
    shapes = {
        "neurons": (e, lm.n_layers, lm.f),
        "heads": (e, lm.n_layers, lm.h),
        "delta_mlp": (e, lm.n_layers, lm.f),
        "delta_attn": (e, lm.n_layers, lm.h * lm.p),
        "neurons_halves": (2, e, lm.n_layers, lm.f),
        "heads_halves": (2, e, lm.n_layers, lm.h),
        "neurons_size": (e, lm.n_layers, lm.f),
        "heads_size": (e, lm.n_layers, lm.h),
    }
    assert {key: tuple(x.shape) for key, x in made.tensors.items()} == shapes
    assert all(x.dtype is torch.float32 and x.isfinite().all() for x in made.tensors.values())
    assert made.meta == {"samples": dict.fromkeys(job.names, len(job.splits.extract))}
    again = Job(config(tmp_path))
    kept = again.store.get("attribution", again.attribution_address)
    assert kept is not None and all(torch.equal(x, made.tensors[key]) for key, x in kept.tensors.items())
    v, pairs = again.directions.tensors["v"], accepted(again.directions)
    direct = attribute(lm, again.config, again.splits.extract, v, pairs, "emotions_mean")
    assert all(torch.equal(x, kept.tensors[key]) for key, x in direct.tensors.items())
    assert pairs == {(s.id, name) for s in again.splits.extract for name in again.names}
    elsewhere = Job(config(tmp_path, "attribution.score_at=mlp_input"))
    assert elsewhere.attribution_address != again.attribution_address
    assert elsewhere.directions_address == again.directions_address


@pytest.mark.parametrize("score_at", ["residual", "mlp_input"])
def test_the_planted_head_is_found(tmp_path: Path, score_at: str) -> None:
    """Head 0 of the planted block writes all emotions, and nothing else does, in both halves of the samples."""
    lm, samples = planted.planted_lm(), SAMPLES
    names = f"emotions.names=[{','.join(planted.NAMES)}]"
    made = config(tmp_path, names, "elicitation=paper", f"attribution.score_at={score_at}")
    directions = extract(lm, made, samples).directions
    found = attribute(lm, made, samples, directions.tensors["v"], accepted(directions), "emotions_mean").tensors
    heads = found["heads"]
    assert (heads[:, planted.BLOCK, 0] > 20 * heads[:, planted.BLOCK, 1:].abs().amax(-1)).all()
    assert (heads.flatten(1).argmax(-1) == planted.BLOCK * planted.HEADS).all()
    assert (found["heads_halves"][:, :, planted.BLOCK].argmax(-1) == 0).all()
    delta = found["delta_attn"][:, planted.BLOCK, :6]  # what the planted head reads: one unit per emotion's name
    assert (delta.argmax(-1) == torch.arange(6)).all()
