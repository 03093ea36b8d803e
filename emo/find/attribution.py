"""Which neurons and heads carry an emotion (methods 1.5, 1.6), and by how much they differ (methods 1.7).

One forward pass per prompt, read at its last token; every reply's prompt asks for an emotion e.

    score[e, l, unit] = mean over e's own accepted samples of the unit's contribution along v[e, l]
    delta[e, l]       = mean over groups of (activation under e - baseline), at the neurons and at the
                        input of attention's output projection; not normalised
        baseline emotions_mean: the group's mean over its emotions (the paper's); as for the directions, the
                                mean over the emotions' deltas is subtracted (zero where groups are complete)
        baseline neutral:       the group's activation under the template's neutral form

With ``elicitation.groups: complete`` a delta takes only groups in which every emotion was accepted; a score takes
every accepted sample. Which samples count is known beforehand, so that every sum is a weighted sum over prompts:
it streams in float64, and memory does not grow with their number.

The released scripts group by scenario alone and overwrite: one outcome per scenario is left in a delta, that of the
last file; a mistake, not repeated here. The published attention deltas come from all 448 groups and are not of unit
length, as here.

Everything is read at the prompt's last token, also where ``directions.tokens: reply_mean`` takes the directions
from the reply: a unit is scored where its reply begins.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from scipy.stats import rankdata
from torch import Tensor

from emo.config.schema import Config
from emo.core.partial import Running
from emo.core.store import Artifact
from emo.core.types import Site
from emo.data.scenarios import Sample
from emo.find.contributions import head_contributions, neuron_contributions
from emo.find.directions import ATTN, MLP
from emo.model.capture import activations
from emo.model.lm import LM
from emo.model.on_device import for_sums, on_device
from emo.model.prefixes import Text
from emo.model.prompts import prompt_ids


class Entry(NamedTuple):
    """One prompt: a sample under an emotion's form (index), or under the neutral one (None)."""

    sample: int
    emotion: int | None


class Weights(NamedTuple):
    """What every prompt counts, float64."""

    entries: list[Entry]
    own: Tensor  # (2, e, n) 1 where the prompt is the emotion's own, per half of the samples
    contrast: Tensor  # (e, n) weight in the emotion's difference vectors


def attribute(
    lm: LM,
    config: Config,
    samples: Sequence[Sample],
    v: Float[Tensor, "e l 2 d"],
    accepted: Collection[tuple[str, str]],
    baseline: str,
) -> Artifact:
    """Score every neuron and head for every emotion, and take the difference vectors.

    Args:
        lm: the model.
        config: of the job.
        samples: extraction samples.
        v: (e, l, 2, d) unit directions of `emo.find.extraction.extract`.
        accepted: (sample id, emotion) pairs that count.
        baseline: of the difference vectors, emotions_mean | neutral.

    Returns:
        Float32 tensors neurons (e, l, f) and heads (e, l, h); neurons_halves (2, e, l, f) and heads_halves
        (2, e, l, h), the same for two halves of the scenarios (nan where a half has no sample of an emotion);
        delta_mlp (e, l, f) and delta_attn (e, l, h*p); neurons_size (e, l, f) and heads_size (e, l, h), the mean
        magnitude |activation| of a neuron and |z| of a head under the emotion prompt. Meta: samples per emotion.

    Raises:
        ValueError: an emotion has no accepted sample, or none in a group that a difference vector can use.
    """
    names = list(config.emotions.names)
    weights = _weights(samples, names, accepted, config.elicitation.groups == "complete", baseline)
    forms: list[int | None] = [*range(len(names)), *([None] if baseline == "neutral" else [])]
    asked = {e: prompt_ids(lm, config.elicitation, samples, None if e is None else names[e]) for e in forms}
    texts = [Text(asked[e][i]) for i, e in weights.entries]
    emotion = torch.tensor([e or 0 for _, e in weights.entries])  # a neutral prompt counts in no score
    at_mlp = config.attribution.score_at == "mlp_input"

    halves, count, layers = 2, len(names), lm.n_layers
    room: dict[str, Any] = {
        "dtype": torch.float64,
        "device": for_sums(lm.device),
    }  # where activations are: only the sums leave it
    neurons = torch.zeros(halves, count, layers, lm.f, **room)
    heads = torch.zeros(halves, count, layers, lm.h, **room)
    delta_mlp = torch.zeros(count, layers, lm.f, **room)
    delta_attn = torch.zeros(count, layers, lm.h * lm.p, **room)
    neurons_size = torch.zeros(count, layers, lm.f, **room)
    heads_size = torch.zeros(count, layers, lm.h, **room)
    sites = [Site.HEAD, Site.NEURON, *([Site.RESID_MID] if at_mlp else [])]
    sums = {
        "neurons": neurons, "heads": heads, "delta_mlp": delta_mlp, "delta_attn": delta_attn,
        "neurons_size": neurons_size, "heads_size": heads_size,
    }  # fmt: skip
    running = Running("attribution", "attribution", "prompts", len(texts), lambda: sums)
    running.restore(sums)
    home, directions = neurons.device, v.to(lm.device)
    for batch in activations(lm, texts, config.batch_size, "attribution", sites, only=running.left(), there=True):
        own, contrast = weights.own[:, :, batch.texts].to(home), weights.contrast[:, batch.texts].to(home)
        vectors = directions[on_device(emotion[batch.texts].numpy(), lm.device)]  # (n, l, 2, d)
        with running.adding(batch.texts):
            for layer in range(layers):
                z, x = batch.at[Site.HEAD][:, layer], batch.at[Site.NEURON][:, layer]
                mid = batch.at[Site.RESID_MID][:, layer] if at_mlp else None
                by_neuron = neuron_contributions(lm, layer, x, vectors[:, layer, MLP])
                by_head = head_contributions(lm, layer, z, vectors[:, layer, ATTN], mid)
                neurons[:, :, layer] += own @ by_neuron.to(home).double()
                heads[:, :, layer] += own @ by_head.to(home).double()
                delta_mlp[:, layer] += contrast @ x.to(home).double()
                delta_attn[:, layer] += contrast @ z.to(home).double()
                neurons_size[:, layer] += own.sum(0) @ x.to(home).abs().double()
                heads_size[:, layer] += own.sum(0) @ z.to(home).unflatten(-1, (lm.h, lm.p)).norm(dim=-1).double()
    neurons, heads, delta_mlp, delta_attn, neurons_size, heads_size = (x.cpu() for x in sums.values())
    if baseline == "emotions_mean":
        delta_mlp, delta_attn = (delta - delta.mean(0) for delta in (delta_mlp, delta_attn))
    found = weights.own.sum(-1)[..., None, None]  # (2, e, 1, 1)
    tensors = {
        "neurons": neurons.sum(0) / found.sum(0),
        "heads": heads.sum(0) / found.sum(0),
        "neurons_halves": neurons / found,
        "heads_halves": heads / found,
        "delta_mlp": delta_mlp,
        "delta_attn": delta_attn,
        "neurons_size": neurons_size / found.sum(0),
        "heads_size": heads_size / found.sum(0),
    }
    per_emotion = {name: int(n) for name, n in zip(names, found.sum(0).flatten(), strict=True)}
    return Artifact({name: x.float() for name, x in tensors.items()}, meta={"samples": per_emotion})


def _weights(
    samples: Sequence[Sample],
    names: Sequence[str],
    accepted: Collection[tuple[str, str]],
    complete: bool,
    baseline: str,
) -> Weights:
    """Lay out the prompts that count, and what each counts; halves are alternate scenarios."""
    scenarios = {scenario: k for k, scenario in enumerate(dict.fromkeys(s.scenario_id for s in samples))}
    present = [[e for e, name in enumerate(names) if (s.id, name) in accepted] for s in samples]
    used = [len(group) >= (len(names) if complete else 2) for group in present]
    groups = torch.tensor(
        [sum(used[i] and e in group for i, group in enumerate(present)) for e in range(len(names))], dtype=torch.float64
    )
    for e, name in enumerate(names):
        if not groups[e]:
            raise ValueError(f"attribution: no accepted sample of {name} in a group that can be used")
    neutral = [i for i in range(len(samples)) if used[i]] if baseline == "neutral" else []
    entries = [Entry(i, e) for i, group in enumerate(present) for e in group] + [Entry(i, None) for i in neutral]
    own = torch.zeros(2, len(names), len(entries), dtype=torch.float64)
    contrast = torch.zeros(len(names), len(entries), dtype=torch.float64)
    for n, (i, emotion) in enumerate(entries):
        if emotion is not None:
            own[scenarios[samples[i].scenario_id] % 2, emotion, n] = 1
        if not used[i]:
            continue
        group = torch.tensor(present[i])
        if baseline == "emotions_mean":
            contrast[group, n] -= 1 / (len(group) * groups[group])
        elif emotion is None:
            contrast[group, n] -= 1 / groups[group]
        if emotion is not None:
            contrast[emotion, n] += 1 / groups[emotion]
    return Weights(entries, own, contrast)


def stability(halves: Float[Tensor, "2 e l u"], k: int) -> tuple[Float[Tensor, "e l"], Float[Tensor, "e l"]]:
    """Return how far two halves of the samples agree on a ranking of units.

    Args:
        halves: (2, e, l, units) scores, e.g. ``neurons_halves``.
        k: units at the top, from 1 to all; `ValueError` otherwise.

    Returns:
        Spearman's rank correlation (e, l), and the Jaccard overlap (e, l) of the k highest scores; nan where a
        half was not measured.
    """
    if not 1 <= k <= halves.shape[-1]:
        raise ValueError(f"k={k}: from 1 to {halves.shape[-1]} units")
    ranks = torch.from_numpy(rankdata(halves.double().numpy(), axis=-1))
    a, b = ranks - ranks.mean(-1, keepdim=True)
    correlation = (a * b).sum(-1) / (a.norm(dim=-1) * b.norm(dim=-1))
    top = torch.zeros_like(ranks).scatter(-1, ranks.topk(k, -1).indices, 1.0)
    both = top.prod(0).sum(-1)
    return correlation, torch.where(ranks.isnan().any(-1).any(0), torch.nan, both / (2 * k - both))
