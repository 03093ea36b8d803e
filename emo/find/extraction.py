"""From emotion prompts to directions: capture, contrast within groups, keep a bounded number of states."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from emo.config.schema import Config
from emo.core.console import note
from emo.core.errors import UserError
from emo.core.partial import Done, Owner, Running, fill
from emo.core.store import Artifact
from emo.data.scenarios import Sample, spread
from emo.find.directions import MLP, Moments
from emo.model.capture import states
from emo.model.chat import opens_thinking
from emo.model.generate import generate
from emo.model.lm import LM
from emo.model.passes import Row
from emo.model.prefixes import Text
from emo.model.prompts import check_prompts, prompt_ids

Labeller = Callable[[list[dict[str, Any]]], list[dict[str, Any]]]  # `emo.measure.classifier.label_rows`
ROUNDING = 1e-6  # of a state's length: what a difference of equal prompts can come to in float32
GROUPS_AT_ONCE = 48  # groups whose states are held while their emotions are contrasted: bounds memory


class Found(NamedTuple):
    """What one pass over the extraction prompts gives.

    Attributes:
        directions: tensors v (e, l, 2, d) unit directions, norms (e, l, 2) before normalising; rows: per sample its id
            and the names of the emotions whose reply was accepted (`accepted` reads them).
        shuffled: tensors v, cosine (`emo.find.directions.Shuffled`).
        probes: tensor states (g, e, l, d), resid_post of at most ``directions.probe_groups`` groups; rows: the id of
            each group's sample (none where an earlier version kept the first part of them).
    """

    directions: Artifact
    shuffled: Artifact
    probes: Artifact


def extract(
    lm: LM,
    config: Config,
    samples: Sequence[Sample],
    labeller: Labeller | None = None,
    shuffles: int = 0,
    identity: str = "",
) -> Found:
    """Find the directions of every emotion on the extraction samples, in one pass over their prompts.

    Args:
        lm: the model.
        config: of the job.
        samples: extraction samples; with ``accept: judged`` a state counts only if its own reply is labelled right.
        labeller: labels replies; needed with ``accept: judged`` only.
        shuffles: draws of the shuffled control.
        identity: of the model, id and commit: no two models share the permutations of that control.

    Raises:
        UserError: no group can be used, or prompts or states do not differ between emotions.
    """
    names, how = list(config.emotions.names), config.directions
    check_prompts(lm, config.elicitation, samples[0], names)
    complete = config.elicitation.groups == "complete"
    moments = Moments(len(names), how.baseline, complete, shuffles, f"{config.seed}/{identity}")
    kept: list[Tensor] = []
    kept_of: list[int] = []  # place of the sample behind each
    counted: dict[str, list[str]] = {}  # sample id -> emotions whose reply was accepted
    size, states_seen = torch.zeros(()), 0  # of all states, to hold the length of directions against
    wanted = set(probed(config, samples))

    def state() -> dict[str, Tensor]:
        seen = [[name in counted.get(sample.id, ()) for name in names] for sample in samples]
        found = {"accepted": torch.tensor(seen), "size": size, "seen": torch.tensor(states_seen)}
        kept_now = {"kept": torch.stack(kept), "kept_of": torch.tensor(kept_of)} if kept else {}
        return moments.to_tensors() | found | kept_now

    running = Running("directions", "capture", "groups", len(samples), state)
    if before := running.found:
        moments.restore(before)
        size, states_seen, kept = before["size"], int(before["seen"]), [*before.get("kept", ())]
        kept_of = before["kept_of"].tolist() if "kept_of" in before else []
        for i in running.done:
            own = zip(names, before["accepted"][i].tolist(), strict=True)
            counted[samples[i].id] = [name for name, seen in own if seen]
    for i, group in _groups(lm, config, samples, labeller, running.done):
        sample, by_emotion, neutral = samples[i], group[: len(names)], group[len(names) :]
        with running.adding([i]):
            counted[sample.id] = [name for name, s in zip(names, by_emotion, strict=True) if s is not None]
            used = moments.add(sample.id, by_emotion, neutral[0] if neutral else None)
            for x in (x for x in by_emotion if x is not None):
                size, states_seen = size + x.norm(dim=-1), states_seen + 1
            if used and sample in wanted:
                whole = _whole(group, len(names))
                kept, kept_of = kept + whole, kept_of + [i] * len(whole)
    if not moments.groups:
        raise UserError(
            "directions: no group has an accepted reply for every emotion; type elicitation.groups=available "
            "or use another elicitation"
        )
    unseen = [name for name, count in zip(names, moments.counts[0], strict=True) if not count]
    if unseen:
        raise UserError(f"directions: no accepted reply for {', '.join(unseen)}; leave it out of emotions.names")
    v, norms = moments.directions()
    for name, share in zip(names, (norms * states_seen / size).amax((1, 2)).tolist(), strict=True):
        if not share > ROUNDING:
            raise UserError(
                f"{lm.spec.title}: elicitation={config.elicitation.template}: its states under {name} do not differ "
                "from those it is compared with, in any block; type another elicitation or another model"
            )
    rows = [{"sample": sample.id, "accepted": counted[sample.id]} for sample in samples]
    meta: dict[str, Any] = {"groups": moments.groups, "of": len(samples)}
    if opens_thinking(lm):
        meta["opens_thinking"] = True
    if config.elicitation.accept == "judged":
        hits, of = sum(map(len, counted.values())), len(samples) * len(names)
        meta |= {"accepted": hits / of}
        note(f"accepted: {hits} of {of} replies ({hits / of:.0%}), {moments.groups} groups used")
    return Found(
        Artifact({"v": v, "norms": norms}, rows, meta),
        Artifact(moments.shuffled()._asdict()),
        Artifact({"states": _stacked(kept)}, _rows([samples[i] for i in kept_of], kept)),
    )


def probe_states(lm: LM, config: Config, samples: Sequence[Sample], labeller: Labeller | None = None) -> Artifact:
    """Return the states that `extract` keeps for probes, reading their groups alone."""
    kept: list[Tensor] = []
    kept_of: list[Sample] = []
    wanted = probed(config, samples)
    for i, group in _groups(lm, config, wanted, labeller):
        whole = _whole(group, len(config.emotions.names))
        kept, kept_of = kept + whole, kept_of + [wanted[i]] * len(whole)
    return Artifact({"states": _stacked(kept)}, _rows(kept_of, kept))


def probed(config: Config, samples: Sequence[Sample]) -> list[Sample]:
    """Return the samples whose states are kept for probes, spread over scenarios and outcomes."""
    return [samples[i] for i in spread(samples, config.directions.probe_groups)]


def _whole(group: Sequence[Tensor | None], emotions: int) -> list[Tensor]:
    """Return resid_post (e, l, d) of a group in which no form lacks a state, in a list; of another none."""
    present = [s[:, MLP] for s in group if s is not None]
    return [torch.stack(present[:emotions])] if len(present) == len(group) else []


def _rows(samples: Sequence[Sample], kept: Sequence[Tensor]) -> list[dict[str, Any]]:
    """Return whose states are kept, where all of them are known."""
    return [{"sample": sample.id} for sample in samples] if len(samples) == len(kept) else []


def _stacked(kept: list[Tensor]) -> Tensor:
    return torch.stack(kept) if kept else torch.zeros(0)


def _groups(
    lm: LM, config: Config, samples: Sequence[Sample], labeller: Labeller | None, but: Collection[int] = ()
) -> Iterator[tuple[int, list[Tensor | None]]]:
    """Yield every sample (its place) with the states of its emotions, and of the neutral form where that is a baseline.

    ``but``: places that are left out. The order is the same whatever they are.
    """
    forms: list[str | None] = list(config.emotions.names)
    if config.directions.baseline == "neutral":
        forms.append(None)
    prompts = [prompt_ids(lm, config.elicitation, samples, form) for form in forms]
    # Groups whose prompts begin alike are taken together: their common tokens are forwarded once.
    order = [i for i in sorted(range(len(samples)), key=lambda i: prompts[0][i]) if i not in but]
    for start in range(0, len(order), GROUPS_AT_ONCE):
        part = order[start : start + GROUPS_AT_ONCE]
        label = f"capture: groups {start + 1}-{start + len(part)} of {len(order)}"
        found = _group_states(lm, config, [[ids[i] for ids in prompts] for i in part], label, labeller)
        yield from zip(part, found, strict=True)


def accepted(directions: Artifact) -> set[tuple[str, str]]:
    """Return the (sample id, emotion) pairs that count: all but empty replies, and those that were judged wrong."""
    return {(row["sample"], name) for row in directions.rows for name in row["accepted"]}


def _group_states(
    lm: LM, config: Config, groups: list[list[list[int]]], label: str, labeller: Labeller | None
) -> list[list[Tensor | None]]:
    """Return states (l, 2, d) per group and form; None where the reply is empty, or judged not to express its emotion.

    The neutral form, which stands last, is not judged.
    """
    names, judged = list(config.emotions.names), config.elicitation.accept == "judged"
    width = len(groups[0])
    flat = [ids for group in groups for ids in group]
    texts = [Text(ids) for ids in flat]
    refused: set[int] = set()
    if judged or config.directions.tokens == "reply_mean":
        limit, told = config.generation.max_new_tokens, f"{label}, replies"

        def compute(left: list[int], done: Done) -> None:
            def finished(k: int, ids: list[int]) -> None:
                done(k, list(ids))

            generate(lm, flat, [Row(i) for i in left], [], limit, config.batch_size, told, done=finished)

        owners: list[list[Owner]] = [[(None, ids)] for ids in flat]
        replies = fill("replies", told, "replies", owners, compute)
        if judged and labeller is not None:
            words = [lm.tokenizer.decode(reply, skip_special_tokens=True).strip() for reply in replies]
            found = labeller([{"sample": i, "emotion": None, "seed": 0, "reply": text} for i, text in enumerate(words)])
            targets = [*names, None][:width] * len(groups)
            refused = {i for i, row in enumerate(found) if targets[i] is not None and row["label"] != targets[i]}
        if config.directions.tokens == "reply_mean":
            texts = [Text([*ids, *reply], len(reply)) for ids, reply in zip(flat, replies, strict=True)]
    usable = [i for i, text in enumerate(texts) if text.span and i not in refused]
    out: list[Tensor | None] = [None] * len(flat)
    normed = config.directions.last == "normed"
    for k, x in states(lm, [texts[i] for i in usable], config.batch_size, label, normed=normed):
        out[usable[k]] = x
    return [out[start : start + width] for start in range(0, len(out), width)]
